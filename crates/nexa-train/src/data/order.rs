//! The order in which samples are seen, and what is computed together.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::mix::Mix;
use super::packing::pack;
use crate::{Config, Objective};

/// Samples in the order of steps: epoch after epoch without end, each in an order of its own.
///
/// What is ordered are units: single samples, or packed sequences of several. A micro-batch has `micro_batch_size` of
/// them, a step `gradient_accumulation_steps` micro-batches.
#[derive(Debug)]
pub(crate) struct Order {
    lengths: Vec<usize>,
    mix: Mix,
    /// Tokens of a packed sequence; absent where units are samples.
    capacity: Option<usize>,
    seed: u64,
    per_micro_batch: usize,
    micro_batches: usize,
    epoch: Epoch,
    /// The first unit of every epoch up to the one after the last that was asked for.
    starts: Vec<u64>,
}

/// The units of one epoch, one behind the other.
#[derive(Debug)]
struct Epoch {
    number: u64,
    samples: Vec<usize>,
    /// Where each unit ends; absent where every sample is one.
    ends: Option<Vec<usize>>,
}

impl Epoch {
    /// Counts the units.
    fn len(&self) -> usize {
        self.ends.as_ref().map_or(self.samples.len(), Vec::len)
    }

    /// The samples of a unit.
    fn unit(&self, index: usize) -> &[usize] {
        match &self.ends {
            None => &self.samples[index..=index],
            Some(ends) => &self.samples[index.checked_sub(1).map_or(0, |before| ends[before])..ends[index]],
        }
    }
}

impl Order {
    /// Orders samples of these lengths as a configuration says.
    pub(crate) fn new(config: &Config, lengths: Vec<usize>, mix: Mix) -> Self {
        let mut order = Self {
            lengths,
            mix,
            capacity: config.sample_packing.then(|| capacity(config)),
            seed: config.seed,
            per_micro_batch: config.micro_batch_size,
            micro_batches: config.gradient_accumulation_steps,
            epoch: Epoch { number: 0, samples: Vec::new(), ends: None },
            starts: vec![0],
        };
        order.epoch = order.epoch(0);
        order.starts.push(order.epoch.len() as u64);
        order
    }

    /// Returns the samples of every micro-batch of a step, counted from 0.
    pub(crate) fn step(&mut self, step: u64) -> Vec<Vec<usize>> {
        let per_step = (self.per_micro_batch * self.micro_batches) as u64;
        let units: Vec<Vec<usize>> =
            (step * per_step..(step + 1) * per_step).map(|position| self.unit(position)).collect();
        units.chunks(self.per_micro_batch).map(<[Vec<usize>]>::concat).collect()
    }

    /// Counts the steps of an epoch, a fraction. Where the samples of mixed data sets are packed, epochs differ a
    /// little, and it is that of the first.
    pub(crate) fn steps_per_epoch(&self) -> f64 {
        self.starts[1] as f64 / (self.per_micro_batch * self.micro_batches) as f64
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
        let (number, index) = self.place(position);
        self.go_to(number);
        self.epoch.unit(index).to_vec()
    }

    /// The epoch of a unit, and the unit's place in it.
    fn place(&mut self, position: u64) -> (u64, usize) {
        if self.capacity.is_none() || !self.mix.varies() {
            // Packing sorts by length, so equal samples give equally many sequences.
            return (position / self.starts[1], (position % self.starts[1]) as usize);
        }
        let mut known = self.starts.len() - 1;
        while self.starts[known] <= position {
            self.go_to(known as u64);
            self.starts.push(self.starts[known] + self.epoch.len() as u64);
            known += 1;
        }
        let number = self.starts.partition_point(|&start| start <= position) - 1;
        (number as u64, (position - self.starts[number]) as usize)
    }

    fn go_to(&mut self, number: u64) {
        if self.epoch.number != number {
            self.epoch = self.epoch(number);
        }
    }

    fn epoch(&self, number: u64) -> Epoch {
        let Some(capacity) = self.capacity else {
            return Epoch { number, samples: self.mix.ordered(self.seed, number), ends: None };
        };
        let samples = self.mix.epoch(self.seed, number);
        let lengths: Vec<usize> = samples.iter().map(|&sample| self.lengths[sample]).collect();
        let bins = pack(&lengths, capacity, self.seed, number).bins;
        let mut ordered = Vec::with_capacity(samples.len());
        let mut ends = Vec::with_capacity(bins.len());
        for bin in bins {
            ordered.extend(bin.into_iter().map(|place| samples[place]));
            ends.push(ordered.len());
        }
        Epoch { number, samples: ordered, ends: Some(ends) }
    }
}

/// Tokens of a packed sequence. The two answers of a preference are apart, and each may be as long as a sample.
fn capacity(config: &Config) -> usize {
    let sequences = if config.objective == Objective::Dpo { 2 } else { 1 };
    sequences * config.sequence_len()
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
        let mut config = Config { micro_batch_size: 2, sequence_len: Some(10), ..Config::default() };
        change(&mut config);
        Order::new(&config, (0..12).map(|index| 1 + index % 5).collect(), Mix::even(12))
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
    fn mixed_data_sets_have_their_shares_and_can_be_gone_into_anywhere() {
        let check = |change: fn(&mut Config)| {
            let mut config = Config { micro_batch_size: 2, sequence_len: Some(10), ..Config::default() };
            change(&mut config);
            let lengths: Vec<usize> = (0..12).map(|index| 1 + index % 5).collect();
            let mix = Mix::weighted(&[(0..9, 1.0), (9..12, 2.0)]);
            let order = || Order::new(&config, lengths.clone(), mix.clone());
            let mut from_the_start = order();
            let steps: Vec<_> = (0..60).map(|step| from_the_start.step(step)).collect();
            let all = steps.concat().concat();
            let share = all.iter().filter(|&&sample| sample >= 9).count() as f64 / all.len() as f64;
            assert!((share - 2.0 / 3.0).abs() < 0.03, "{share}");
            for step in [0, 1, 13, 59] {
                assert_eq!(order().step(step), steps[step as usize], "step {step}");
            }
        };
        check(|_| {});
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
