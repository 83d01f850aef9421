//! Which samples make up a step, and the micro-batches that they are computed in.

use nexa_model::Batch;

use crate::Config;
use crate::data::{Sample, Stream};

/// The training data, in the order in which steps take it.
#[derive(Debug)]
pub(super) struct Batches {
    samples: Vec<Sample>,
    stream: Stream,
    micro_batch_size: usize,
    per_step: u64,
}

/// The data of one step.
#[derive(Debug)]
pub(super) struct StepData {
    /// What is computed at once, one after the other.
    pub(super) micro_batches: Vec<Batch>,
    /// Names of the samples, for messages.
    pub(super) sample_ids: Vec<String>,
    /// Tokens of the samples.
    pub(super) tokens: u64,
    /// Tokens that carry loss.
    pub(super) trained_tokens: u64,
    /// Sum of the squared lengths of the samples, which attention costs.
    pub(super) squared_lengths: u64,
}

impl Batches {
    /// Orders samples as the config says.
    pub(super) fn new(config: &Config, samples: Vec<Sample>) -> Self {
        Self {
            stream: Stream::new(samples.len(), config.seed),
            samples,
            micro_batch_size: config.micro_batch_size,
            per_step: config.samples_per_step() as u64,
        }
    }

    /// Counts the samples of an epoch.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Puts the data of a step together, counted from 0.
    pub(super) fn step(&mut self, step: u64) -> StepData {
        let picked = self.picked(step);
        let samples = || picked.iter().map(|&index| &self.samples[index]);
        let micro_batches: Vec<Batch> = picked
            .chunks(self.micro_batch_size)
            .map(|picked| batch(picked.iter().map(|&index| &self.samples[index])))
            .collect();
        StepData {
            trained_tokens: micro_batches.iter().map(Batch::trained_tokens).sum::<usize>() as u64,
            micro_batches,
            sample_ids: picked.iter().map(|index| (index + 1).to_string()).collect(),
            tokens: samples().map(|sample| sample.token_ids.len() as u64).sum(),
            squared_lengths: samples().map(|sample| (sample.token_ids.len() as u64).pow(2)).sum(),
        }
    }

    /// Counts the steps after which a number of tokens has been seen, or `most` where that is less.
    pub(super) fn steps_for_tokens(&mut self, tokens: u64, most: u64) -> u64 {
        let (mut steps, mut seen) = (0, 0);
        while seen < tokens && steps < most {
            seen += self
                .picked(steps)
                .iter()
                .map(|&index| self.samples[index].token_ids.len() as u64)
                .sum::<u64>();
            steps += 1;
        }
        steps
    }

    /// The samples of a step, by position.
    fn picked(&mut self, step: u64) -> Vec<usize> {
        (step * self.per_step..(step + 1) * self.per_step).map(|at| self.stream.at(at)).collect()
    }
}

impl StepData {
    /// Share of the computed tokens that belong to no sample.
    pub(super) fn padding_waste(&self) -> f64 {
        let computed = self.micro_batches.iter().map(Batch::tokens).sum::<usize>() as u64;
        (computed - self.tokens) as f64 / computed as f64
    }
}

/// Lays samples end to end.
pub(super) fn batch<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Batch {
    Batch::new(samples.into_iter().map(|sample| (sample.token_ids.as_slice(), sample.trained.as_slice())))
}
