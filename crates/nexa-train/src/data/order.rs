//! Samples in memory, the validation split, and the order in which samples are seen.

use std::path::Path;

use nexa_core::event::EventSink;
use nexa_core::table::JsonLines;
use nexa_model::ChatTokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::build::Source;
use super::report::Report;
use crate::{Config, Error};

/// One sample, up to its last token that carries loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The tokens.
    pub(crate) token_ids: Vec<u32>,
    /// Which of them are to be predicted.
    pub(crate) trained: Vec<bool>,
}

/// Reads the samples of a file into memory.
pub(crate) fn load(
    path: &Path,
    config: &Config,
    tokenizer: &ChatTokenizer,
    events: &dyn EventSink,
) -> Result<Vec<Sample>, Error> {
    let options = config.data_options(path);
    let source = Source { path, options: &options, tokenizer, tables: &JsonLines };
    let (mut samples, mut report) = (Vec::new(), Report::default());
    source.each(&mut |_, fate| {
        report.add(&fate.report);
        let sequences = fate.sequences.into_iter();
        samples.extend(
            sequences.map(|sequence| Sample { token_ids: sequence.token_ids, trained: sequence.trained }),
        );
        Ok(())
    })?;
    source.check(&report, events)?;
    Ok(samples)
}

/// Moves validation samples out of the training data, as `val_set_size` says; their order is kept.
pub(crate) fn split(samples: Vec<Sample>, config: &Config) -> (Vec<Sample>, Vec<Sample>) {
    let size = config.val_set_size;
    let wanted = if size < 1.0 { size * samples.len() as f64 } else { size };
    let wanted = (wanted.round() as usize).min(samples.len().saturating_sub(1));
    let mut held_out = vec![false; samples.len()];
    for &index in &permutation(samples.len(), config.seed, "validation", 0)[..wanted] {
        held_out[index] = true;
    }
    let mut held_out = held_out.into_iter();
    let (validation, train) = samples.into_iter().partition(|_| held_out.next().unwrap_or(false));
    (train, validation)
}

/// The endless stream of samples: epoch after epoch, each in an order of its own.
#[derive(Debug)]
pub(crate) struct Stream {
    samples: usize,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Stream {
    /// Starts a stream over a number of samples.
    pub(crate) fn new(samples: usize, seed: u64) -> Self {
        Self { samples, seed, epoch: None }
    }

    /// Returns which sample stands at a position of the stream.
    pub(crate) fn at(&mut self, position: u64) -> usize {
        let (epoch, index) = (position / self.samples as u64, (position % self.samples as u64) as usize);
        match &self.epoch {
            Some((current, order)) if *current == epoch => order[index],
            _ => {
                let order = permutation(self.samples, self.seed, "train", epoch);
                let sample = order[index];
                self.epoch = Some((epoch, order));
                sample
            }
        }
    }
}

/// Shuffles `0..count` (Fisher and Yates) with a generator that is keyed by the arguments alone.
pub(super) fn permutation(count: usize, seed: u64, purpose: &str, epoch: u64) -> Vec<usize> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&epoch.to_le_bytes());
    hasher.update(purpose.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // The high half of a 64 x 64 bit product is uniform in 0..=last up to one part in 2^64 / count.
        let index = ((u128::from(generator.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, index);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once_in_its_own_order() {
        let mut stream = Stream::new(10, 1);
        let mut epochs: Vec<Vec<usize>> =
            (0..3).map(|epoch| (0..10).map(|index| stream.at(epoch * 10 + index)).collect()).collect();
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(stream.at(13), epochs[1][3]);
        for epoch in &mut epochs {
            epoch.sort_unstable();
            assert_eq!(*epoch, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_split_takes_shares_and_numbers_and_leaves_something() {
        let samples: Vec<Sample> =
            (0..20).map(|id| Sample { token_ids: vec![id], trained: vec![true] }).collect();
        for (val_set_size, expected) in [(0.0, 0), (0.1, 2), (1.0, 1), (7.0, 7), (99.0, 19)] {
            let config = Config { val_set_size, ..Config::default() };
            let (train, validation) = split(samples.clone(), &config);
            assert_eq!((train.len(), validation.len()), (20 - expected, expected));
            let mut ids: Vec<u32> =
                train.iter().chain(&validation).map(|sample| sample.token_ids[0]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..20).collect::<Vec<_>>());
        }
    }
}
