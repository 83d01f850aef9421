//! The order in which pairs of a block of queries and a block of keys are worked on in the backward pass.
//!
//! A pair adds to the gradients of its queries and to those of its keys, so two pairs may run at the same time only
//! if they share neither. The pairs are dealt into rounds with that property; rounds follow one another, so every
//! gradient is summed in the same order whatever the number of threads, without partial sums in memory.

use std::ops::Range;

use super::blocks::BLOCK;

/// The rounds of a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    blocks: usize,
    /// How many blocks of keys a block of queries sees at most, its own included.
    depth: usize,
}

impl Schedule {
    /// Plans for a number of blocks under a window.
    pub(super) fn new(blocks: usize, window: Option<usize>) -> Self {
        let depth = window.map_or(blocks, |window| 1 + (window - 1).div_ceil(BLOCK));
        Self { blocks, depth: depth.min(blocks) }
    }

    /// Returns the rounds.
    pub(super) fn rounds(self) -> Range<usize> {
        0..if self.by_distance() { self.depth } else { self.blocks }
    }

    /// Lists a round's pairs, queries before keys, by the queries.
    pub(super) fn pairs(self, round: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.blocks)
            .map(move |query| {
                let key = if self.by_distance() {
                    query.checked_sub(round)
                } else {
                    Some((round + self.blocks - query) % self.blocks)
                };
                (query, key)
            })
            .filter_map(move |(query, key)| {
                key.filter(|key| (query + 1).saturating_sub(self.depth) <= *key && *key <= query)
                    .map(|key| (query, key))
            })
    }

    /// Whether a round holds the pairs of one distance: even rounds for a narrow window. Otherwise a round holds the
    /// pairs whose sum is the same modulo the number of blocks, which spreads a triangle evenly.
    fn by_distance(self) -> bool {
        2 * self.depth <= self.blocks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_visible_pair_comes_once_and_rounds_share_no_block() {
        for blocks in 1..20 {
            for window in [None, Some(1), Some(BLOCK), Some(BLOCK + 1), Some(5 * BLOCK + 2), Some(usize::MAX)]
            {
                let schedule = Schedule::new(blocks, window);
                let mut all = BTreeSet::new();
                for round in schedule.rounds() {
                    let pairs: Vec<_> = schedule.pairs(round).collect();
                    let queries: BTreeSet<_> = pairs.iter().map(|pair| pair.0).collect();
                    let keys: BTreeSet<_> = pairs.iter().map(|pair| pair.1).collect();
                    assert_eq!((queries.len(), keys.len()), (pairs.len(), pairs.len()));
                    if window.is_none() {
                        assert!(pairs.len() >= blocks / 2, "round {round} of {blocks} blocks is thin");
                    }
                    for pair in pairs {
                        assert!(all.insert(pair), "{pair:?} twice");
                    }
                }
                let expected: BTreeSet<_> = (0..blocks)
                    .flat_map(|query| (0..=query).map(move |key| (query, key)))
                    .filter(|(query, key)| {
                        super::super::visible(query * BLOCK, window).start < (key + 1) * BLOCK
                    })
                    .collect();
                assert_eq!(all, expected, "{blocks} blocks, window {window:?}");
            }
        }
    }
}
