//! The order in which samples are seen, and what is computed together.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::packing::pack;
use crate::Config;

/// Samples in the order of steps: epoch after epoch without end, each in an order of its own.
///
/// What is ordered are units: single samples, or packed sequences of several. A micro-batch has `micro_batch_size` of
/// them, a step `gradient_accumulation_steps` micro-batches.
#[derive(Debug)]
pub(crate) struct Order {
    lengths: Vec<usize>,
    /// Tokens of a packed sequence; absent where units are samples.
    capacity: Option<usize>,
    seed: u64,
    per_micro_batch: usize,
    micro_batches: usize,
    epoch: Epoch,
}

/// The units of one epoch.
#[derive(Debug)]
struct Epoch {
    number: u64,
    units: Vec<Vec<usize>>,
}

impl Order {
    /// Orders samples of these lengths as a configuration says.
    pub(crate) fn new(config: &Config, lengths: Vec<usize>) -> Self {
        let capacity = config.sample_packing.then_some(config.sequence_len);
        let units = units(&lengths, capacity, config.seed, 0);
        Self {
            lengths,
            capacity,
            seed: config.seed,
            per_micro_batch: config.micro_batch_size,
            micro_batches: config.gradient_accumulation_steps,
            epoch: Epoch { number: 0, units },
        }
    }

    /// Returns the samples of every micro-batch of a step, counted from 0.
    pub(crate) fn step(&mut self, step: u64) -> Vec<Vec<usize>> {
        let per_step = (self.per_micro_batch * self.micro_batches) as u64;
        let units: Vec<Vec<usize>> =
            (step * per_step..(step + 1) * per_step).map(|position| self.unit(position)).collect();
        units.chunks(self.per_micro_batch).map(<[Vec<usize>]>::concat).collect()
    }

    /// Counts the steps of an epoch, a fraction.
    pub(crate) fn steps_per_epoch(&self) -> f64 {
        // Packing sorts by length, so the number of sequences is the same in every epoch.
        self.epoch.units.len() as f64 / (self.per_micro_batch * self.micro_batches) as f64
    }

    /// Counts the steps after which a number of tokens has been seen, or `most` where that is less.
    pub(crate) fn steps_for_tokens(&mut self, tokens: u64, most: u64) -> u64 {
        let (mut steps, mut seen) = (0, 0);
        while seen < tokens && steps < most {
            let samples = self.step(steps).concat();
            seen += samples.iter().map(|&sample| self.lengths[sample] as u64).sum::<u64>();
            steps += 1;
        }
        steps
    }

    /// Share of a micro-batch's room that holds no sample. Nothing is computed for it.
    pub(crate) fn empty_share(&self, samples: &[usize]) -> f64 {
        let tokens: usize = samples.iter().map(|&sample| self.lengths[sample]).sum();
        let longest = samples.iter().map(|&sample| self.lengths[sample]).max().unwrap_or(0);
        let room = self.capacity.map_or(longest * samples.len(), |capacity| capacity * self.per_micro_batch);
        if room == 0 { 0.0 } else { 1.0 - tokens as f64 / room as f64 }
    }

    fn unit(&mut self, position: u64) -> Vec<usize> {
        let count = self.epoch.units.len() as u64;
        let (number, index) = (position / count, (position % count) as usize);
        if self.epoch.number != number {
            let units = units(&self.lengths, self.capacity, self.seed, number);
            self.epoch = Epoch { number, units };
        }
        self.epoch.units[index].clone()
    }
}

fn units(lengths: &[usize], capacity: Option<usize>, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    match capacity {
        Some(capacity) => pack(lengths, capacity, seed, epoch).bins,
        None => {
            permutation(lengths.len(), seed, "train", epoch).into_iter().map(|sample| vec![sample]).collect()
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

    fn order(change: fn(&mut Config)) -> Order {
        let mut config = Config { micro_batch_size: 2, sequence_len: 10, ..Config::default() };
        change(&mut config);
        Order::new(&config, (0..12).map(|index| 1 + index % 5).collect())
    }

    #[test]
    fn every_epoch_sees_every_sample_once_in_its_own_order() {
        let check = |change: fn(&mut Config)| {
            let mut order = order(change);
            let per_epoch = order.steps_per_epoch() as u64;
            let mut epoch = |number: u64| {
                (0..per_epoch).flat_map(|step| order.step(number * per_epoch + step).concat()).collect()
            };
            let (first, second): (Vec<usize>, Vec<usize>) = (epoch(0), epoch(1));
            assert_ne!(first, second);
            assert_eq!(epoch(0), first, "an epoch can be gone back to");
            for mut seen in [first, second] {
                seen.sort_unstable();
                assert_eq!(seen, (0..12).collect::<Vec<_>>());
            }
        };
        check(|_| {});
        check(|config| config.gradient_accumulation_steps = 3);
        check(|config| (config.sample_packing, config.micro_batch_size) = (true, 1));
    }

    #[test]
    fn packed_sequences_hold_no_more_than_their_length() {
        let mut order = order(|config| (config.sample_packing, config.micro_batch_size) = (true, 1));
        assert_eq!(order.steps_per_epoch(), 4.0, "34 tokens in sequences of 10");
        for step in 0..4 {
            let sequence = order.step(step).concat();
            assert!(sequence.iter().map(|&sample| order.lengths[sample]).sum::<usize>() <= 10);
        }
    }
}
