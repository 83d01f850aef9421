//! Several samples in one sequence: best fit, longest first.
//!
//! # Source
//! Johnson, "Near-optimal bin packing algorithms", 1973: best-fit decreasing needs at most 11/9 of the fewest bins;
//! on lengths as data sets have them it wastes next to nothing.

use std::collections::BTreeMap;

use super::order::permutation;

/// Which samples lie in which sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// The samples of each sequence, in the order in which the sequences are seen.
    pub bins: Vec<Vec<usize>>,
    /// Tokens that a sequence can hold.
    pub capacity: usize,
    /// Tokens of the samples.
    pub tokens: usize,
}

impl Packing {
    /// The share of the sequences that would be padding, were they filled up.
    pub fn waste(&self) -> f64 {
        let room = self.bins.len() * self.capacity;
        if room == 0 { 0.0 } else { 1.0 - self.tokens as f64 / room as f64 }
    }

    /// The share that would be padding, were each sample filled up to the capacity alone.
    pub fn waste_unpacked(&self) -> f64 {
        let room = self.bins.iter().map(Vec::len).sum::<usize>() * self.capacity;
        if room == 0 { 0.0 } else { 1.0 - self.tokens as f64 / room as f64 }
    }
}

/// Packs samples of these lengths into sequences of at most `capacity` tokens.
///
/// Samples of equal length are taken in an order of the seed and the epoch, and so are the sequences: every epoch has
/// its own neighbours, and the same seed always has the same. A sample that is longer than the capacity gets a
/// sequence of its own.
pub fn pack(lengths: &[usize], capacity: usize, seed: u64, epoch: u64) -> Packing {
    let mut order = permutation(lengths.len(), seed, "packing", epoch);
    order.sort_by_key(|&sample| std::cmp::Reverse(lengths[sample]));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    // The bins by the room that is left in them, newest last.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for sample in order {
        let length = lengths[sample];
        let fitting = open.range(length..).next().map(|(&room, _)| room);
        let (bin, room) = match fitting {
            Some(room) => {
                let same = open.get_mut(&room).expect("the range found it");
                let bin = same.pop().expect("empty lists are taken away");
                if same.is_empty() {
                    open.remove(&room);
                }
                bins[bin].push(sample);
                (bin, room - length)
            }
            None => {
                bins.push(vec![sample]);
                (bins.len() - 1, capacity.saturating_sub(length))
            }
        };
        if room > 0 {
            open.entry(room).or_default().push(bin);
        }
    }
    let order = permutation(bins.len(), seed, "sequences", epoch);
    let bins = order.into_iter().map(|bin| std::mem::take(&mut bins[bin])).collect();
    Packing { bins, capacity, tokens: lengths.iter().sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_packed_once_and_nothing_overflows() {
        let lengths: Vec<usize> = (0..500).map(|index| 1 + index * 37 % 97).collect();
        let packing = pack(&lengths, 128, 7, 0);
        let mut seen: Vec<usize> = packing.bins.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        assert!(
            packing.bins.iter().all(|bin| bin.iter().map(|&sample| lengths[sample]).sum::<usize>() <= 128)
        );
        assert!(packing.waste() < 0.03, "{}", packing.waste());
        assert!(packing.waste_unpacked() > 0.5);
    }

    #[test]
    fn the_seed_and_the_epoch_decide() {
        let lengths = [5, 5, 5, 5, 3, 3, 3, 3];
        let packed = |seed, epoch| pack(&lengths, 8, seed, epoch).bins;
        assert_eq!(packed(1, 0), packed(1, 0));
        assert_ne!(packed(1, 0), packed(1, 1));
        assert_ne!(packed(1, 0), packed(2, 0));
    }

    #[test]
    fn edges() {
        assert!(pack(&[], 8, 0, 0).bins.is_empty());
        assert_eq!(pack(&[9, 8], 8, 0, 0).bins.len(), 2);
    }
}
