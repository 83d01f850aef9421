//! How many samples of each data set an epoch holds, and which.
//!
//! Without weights an epoch is every sample once. With them it has as many samples as the data sets have together, and
//! each data set has the share of them that its weight says, rounded to whole samples. A data set is gone through in
//! passes, each in an order of its own; an epoch begins where the one before it stopped. So every sample of a data set is
//! seen equally often, and what an epoch holds follows from its number alone.
//!
//! The data sets take turns such that the mixture holds from the first sample on: of any number of samples from the
//! beginning, each data set has its share to within one sample. Where samples are packed, lengths decide what comes
//! together, and the mixture holds by the epoch.
//!
//! # Source
//! Tijdeman, "The chairman assignment problem", 1980: who has waited for long enough and has the earliest deadline is next.

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

    /// The samples of an epoch in the order in which they are seen one by one.
    pub(super) fn ordered(&self, seed: u64, epoch: u64) -> Vec<usize> {
        if self.parts.is_empty() {
            return permutation(self.samples, seed, "train", epoch);
        }
        let of = |(number, part): (usize, &Part)| part.epoch(seed, number, epoch).into_iter();
        let mut samples: Vec<_> = self.parts.iter().enumerate().map(of).collect();
        let counts: Vec<usize> = self.parts.iter().map(|part| part.in_an_epoch).collect();
        turns(&counts).into_iter().filter_map(|part| samples[part].next()).collect()
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

/// Whose turn it is each time, among data sets with these numbers of samples: after `n` turns each has had its share of
/// `n` to within less than one.
fn turns(counts: &[usize]) -> Vec<usize> {
    let total = counts.iter().map(|&count| count as i128).sum::<i128>();
    // The bound of the deviation is `1 - 1 / slack`.
    let slack = (2 * counts.len() as i128 - 2).max(1);
    let mut had = vec![0_i128; counts.len()];
    let mut turns = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
    for turn in 1..=total {
        // How far each lies behind its share with this turn, in parts of `total`.
        let behind = |part: usize| counts[part] as i128 * turn - had[part] * total;
        // Turns until it must have had this one, times `slack * count`.
        let deadline = |part: usize| (slack - 1) * total - slack * behind(part);
        let next = (0..counts.len())
            .filter(|&part| counts[part] > 0 && slack * behind(part) >= total)
            .min_by(|&a, &b| {
                let (of_a, of_b) = (deadline(a) * counts[b] as i128, deadline(b) * counts[a] as i128);
                of_a.cmp(&of_b).then(a.cmp(&b))
            })
            .expect("what all lie behind adds up to one turn, so one lies behind by its part of that");
        had[next] += 1;
        turns.push(next);
    }
    turns
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
    fn of_any_number_of_samples_each_data_set_has_its_share() {
        let check = |counts: &[usize]| {
            let total: usize = counts.iter().sum();
            let mut had = vec![0; counts.len()];
            for (before, part) in turns(counts).into_iter().enumerate() {
                had[part] += 1;
                for (had, count) in had.iter().zip(counts) {
                    let off = (*had * total).abs_diff((before + 1) * count);
                    assert!(off < total, "{counts:?} after {}: {had}", before + 1);
                }
            }
            assert_eq!(had, counts);
        };
        check(&[5]);
        check(&[1, 1]);
        check(&[0, 3]);
        check(&[75, 25]);
        check(&[999, 1]);
        check(&[60, 25, 10, 4, 1]);
        for seed in 0..50 {
            let draw = |part: usize| (permutation(97, seed, "counts", part as u64)[0] + 1).pow(2) / 8;
            check(&(0..2 + seed as usize % 7).map(draw).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_mixture_holds_from_the_first_sample_on_and_across_epochs() {
        let mix = Mix::weighted(&[(0..70, 1.0), (70..100, 3.0)]);
        let seen: Vec<usize> = (0..3).flat_map(|epoch| mix.ordered(3, epoch)).collect();
        for count in 1..=seen.len() {
            let first = seen[..count].iter().filter(|&&sample| sample < 70).count();
            assert!((first as f64 - count as f64 / 4.0).abs() < 1.0, "{first} of {count}");
        }
        for epoch in 0..3 {
            let (mut ordered, mut all) = (mix.ordered(3, epoch), mix.epoch(3, epoch));
            assert_ne!(ordered, all);
            ordered.sort_unstable();
            all.sort_unstable();
            assert_eq!(ordered, all);
        }
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
