//! How many samples of each data set an epoch holds, and which.
//!
//! Without weights an epoch is every sample once. With them it has as many samples as the data sets have together, and
//! each data set has the share of them that its weight says. A data set is gone through in passes, each in an order of
//! its own; an epoch begins where the one before it stopped. So every sample of a data set is seen equally often, and
//! what an epoch holds follows from its number alone.

use std::ops::Range;

use super::order::permutation;

/// Samples of several data sets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mix {
    samples: usize,
    /// Empty where every sample is seen once.
    parts: Vec<Part>,
}

/// One data set.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    samples: Range<usize>,
    in_an_epoch: usize,
}

impl Mix {
    /// Every sample once.
    pub(crate) fn even(samples: usize) -> Self {
        Self { samples, parts: Vec::new() }
    }

    /// Data sets, one behind the other, by their weights. One without samples is passed over.
    pub(crate) fn weighted(sets: &[(Range<usize>, f64)]) -> Self {
        let sets: Vec<&(Range<usize>, f64)> =
            sets.iter().filter(|(samples, _)| !samples.is_empty()).collect();
        let samples = sets.iter().map(|(samples, _)| samples.len()).sum();
        let total: f64 = sets.iter().map(|(_, weight)| weight).sum();
        let shares: Vec<f64> = sets.iter().map(|(_, weight)| weight / total * samples as f64).collect();
        let mut counts: Vec<usize> = shares.iter().map(|share| *share as usize).collect();
        // What rounding down has left over goes to those that lost the most.
        let mut by_loss: Vec<usize> = (0..counts.len()).collect();
        by_loss.sort_by(|&a, &b| shares[b].fract().total_cmp(&shares[a].fract()).then(a.cmp(&b)));
        let left = samples - counts.iter().sum::<usize>();
        by_loss.iter().cycle().take(left).for_each(|&part| counts[part] += 1);
        let parts = sets.iter().zip(counts);
        let parts = parts.map(|((samples, _), in_an_epoch)| Part { samples: samples.clone(), in_an_epoch });
        Self { samples, parts: parts.collect() }
    }

    /// Whether epochs hold different samples.
    pub(crate) fn varies(&self) -> bool {
        !self.parts.is_empty()
    }

    /// How many of an epoch's samples come from each of some ranges of samples.
    pub(crate) fn count(&self, samples: &Range<usize>) -> usize {
        if self.parts.is_empty() {
            return samples.len();
        }
        self.parts.iter().find(|part| part.samples == *samples).map_or(0, |part| part.in_an_epoch)
    }

    /// The samples of an epoch, data set by data set.
    pub(super) fn epoch(&self, seed: u64, epoch: u64) -> Vec<usize> {
        if self.parts.is_empty() {
            return (0..self.samples).collect();
        }
        let of = |(number, part): (usize, &Part)| part.epoch(seed, number, epoch);
        self.parts.iter().enumerate().flat_map(of).collect()
    }
}

impl Part {
    fn epoch(&self, seed: u64, number: usize, epoch: u64) -> Vec<usize> {
        let size = self.samples.len() as u64;
        let (first, count) = (epoch * self.in_an_epoch as u64, self.in_an_epoch as u64);
        let purpose = format!("mixed data set {number}");
        let mut picked = Vec::with_capacity(self.in_an_epoch);
        for pass in first / size..(first + count).div_ceil(size) {
            let order = permutation(self.samples.len(), seed, &purpose, pass);
            let start = first.max(pass * size) - pass * size;
            let end = (first + count).min((pass + 1) * size) - pass * size;
            let order = &order[start as usize..end as usize];
            picked.extend(order.iter().map(|&sample| self.samples.start + sample));
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_of_an_epoch() {
        let check = |sets: &[(Range<usize>, f64)], expected: &[usize]| {
            let mix = Mix::weighted(sets);
            let counts: Vec<usize> = sets.iter().map(|(samples, _)| mix.count(samples)).collect();
            assert_eq!(counts, expected);
            for epoch in [0, 1, 7] {
                let picked = mix.epoch(3, epoch);
                let of = |range: &Range<usize>| picked.iter().filter(|sample| range.contains(sample)).count();
                assert_eq!(sets.iter().map(|(samples, _)| of(samples)).collect::<Vec<_>>(), expected);
            }
        };
        check(&[(0..70, 0.5), (70..100, 0.5)], &[50, 50]);
        check(&[(0..70, 3.0), (70..100, 1.0)], &[75, 25]);
        check(&[(0..5, 1.0), (5..7, 1.0), (7..10, 1.0)], &[4, 3, 3]);
        check(&[(0..10, 1.0), (10..10, 1.0)], &[10, 0]);
        assert_eq!(Mix::even(4).epoch(3, 9), [0, 1, 2, 3]);
    }

    #[test]
    fn every_sample_of_a_data_set_is_seen_equally_often() {
        let mix = Mix::weighted(&[(0..70, 1.0), (70..100, 4.0)]);
        // Seven epochs are 7 * 20 = 2 * 70 samples of the first, and 7 * 80 of the second.
        let mut seen = vec![0; 100];
        (0..7).flat_map(|epoch| mix.epoch(3, epoch)).for_each(|sample| seen[sample] += 1);
        assert!(seen[..70].iter().all(|&times| times == 2), "{seen:?}");
        assert!(seen[70..].iter().all(|&times| times == 18 || times == 19), "{seen:?}");
        assert_ne!(mix.epoch(3, 0), mix.epoch(4, 0));
    }
}
