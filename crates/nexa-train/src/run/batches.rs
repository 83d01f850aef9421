//! Which samples make up a step, and the micro-batches that they are computed in.

use std::ops::Range;

use nexa_core::event::{Event, EventSink};
use nexa_core::format;
use nexa_model::Batch;

use crate::Config;
use crate::data::{DatasetCounts, Order, Set};

/// The training data, in the order in which steps take it.
#[derive(Debug)]
pub(super) struct Batches {
    set: Set,
    order: Order,
    seed: u64,
}

/// What is computed at once.
#[derive(Debug)]
pub(crate) struct MicroBatch {
    /// The sequences, end to end.
    pub(crate) batch: Batch,
    /// The rows of loss of each sequence.
    pub(crate) sequences: Vec<Range<usize>>,
    /// The samples: one sequence each, or two where samples are preferences.
    pub(crate) samples: Vec<usize>,
    /// Sum of the squared lengths of the sequences, which attention costs.
    pub(crate) squared_lengths: u64,
}

/// The data of one step.
#[derive(Debug)]
pub(super) struct StepData {
    /// One after the other.
    pub(super) micro_batches: Vec<MicroBatch>,
    /// Share of the room for tokens that held none.
    pub(super) padding_waste: f64,
}

impl Batches {
    /// Orders samples as the config says.
    pub(super) fn new(config: &Config, set: Set) -> Self {
        Self { order: set.order(config), set, seed: config.seed }
    }

    /// The order of the samples.
    pub(super) fn order(&mut self) -> &mut Order {
        &mut self.order
    }

    /// What each data set gives to an epoch.
    pub(super) fn datasets(&self) -> Vec<DatasetCounts> {
        self.set.counts()
    }

    /// Says what each of several data sets gives to an epoch.
    pub(super) fn tell(&self, events: &dyn EventSink) {
        let datasets = self.datasets();
        for DatasetCounts { name, samples, tokens, in_an_epoch } in
            datasets.iter().filter(|_| datasets.len() > 1)
        {
            let [samples, in_an_epoch] = [*samples, *in_an_epoch].map(|count| format::count(count as u64));
            let tokens = format::count(*tokens);
            let text =
                format!("{name}: {samples} samples of {tokens} tokens, {in_an_epoch} samples an epoch");
            events.emit(Event::info(text));
        }
    }

    /// Puts the data of a step together, counted from 0.
    pub(super) fn step(&mut self, step: u64) -> StepData {
        let picked = self.order.step(step);
        let empty: f64 = picked.iter().map(|samples| self.order.empty_share(samples)).sum();
        StepData {
            padding_waste: empty / picked.len() as f64,
            micro_batches: picked
                .into_iter()
                .enumerate()
                .map(|(index, samples)| {
                    let noise = noise(self.seed, step, index as u64);
                    let micro_batch = MicroBatch::new(&self.set, samples);
                    MicroBatch { batch: micro_batch.batch.with_noise(noise), ..micro_batch }
                })
                .collect(),
        }
    }

    /// What a person finds the samples of a step by.
    pub(super) fn names(&self, data: &StepData) -> String {
        let samples = data.micro_batches.iter().flat_map(|micro_batch| &micro_batch.samples);
        samples.map(|&sample| self.set.id(sample)).collect::<Vec<_>>().join(", ")
    }
}

/// The key of what is random in a micro-batch.
fn noise(seed: u64, step: u64, index: u64) -> u64 {
    let hash = blake3::hash(&[seed, step, index].map(u64::to_le_bytes).concat());
    hash.as_bytes().iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
}

impl MicroBatch {
    /// Lays the sequences of samples end to end.
    pub(crate) fn new(set: &Set, samples: Vec<usize>) -> Self {
        let found: Vec<_> = samples.iter().flat_map(|&sample| set.sequences(sample)).collect();
        let masks: Vec<Vec<bool>> = found.iter().map(|sequence| sequence.trained.to_vec()).collect();
        let mut rows = 0;
        let sequences = masks.iter().map(|mask| {
            let first = rows;
            // The first token of a sequence has nothing to be predicted from.
            rows += mask.iter().skip(1).filter(|&&trained| trained).count();
            first..rows
        });
        Self {
            sequences: sequences.collect(),
            squared_lengths: found.iter().map(|sequence| (sequence.token_ids.len() as u64).pow(2)).sum(),
            batch: Batch::new(
                found.iter().zip(&masks).map(|(found, mask)| (found.token_ids, mask.as_slice())),
            ),
            samples,
        }
    }
}

impl StepData {
    /// Counts the tokens.
    pub(super) fn tokens(&self) -> u64 {
        self.micro_batches.iter().map(|micro_batch| micro_batch.batch.tokens() as u64).sum()
    }

    /// Counts the tokens that carry loss.
    pub(super) fn trained_tokens(&self) -> u64 {
        self.micro_batches.iter().map(|micro_batch| micro_batch.batch.trained_tokens() as u64).sum()
    }

    /// Sums the squared lengths of the sequences.
    pub(super) fn squared_lengths(&self) -> u64 {
        self.micro_batches.iter().map(|micro_batch| micro_batch.squared_lengths).sum()
    }
}
