//! How long the rows of a split are.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::{Item, Lengths, Packaged, Split};

/// A split.
#[derive(Debug, Serialize)]
pub(super) struct SplitCard {
    pub(super) rows: usize,
    pub(super) groups: usize,
    /// Lengths in the student's tokens, where its tokenizer was given, else in characters.
    pub(super) unit: &'static str,
    /// Of whole rows.
    pub(super) length: Option<Statistics>,
    /// Of what stands before the answers.
    pub(super) prompt: Option<Statistics>,
    /// Of what is learnt.
    pub(super) completion: Option<Statistics>,
}

/// Some lengths in a few numbers.
#[derive(Debug, Serialize)]
pub(super) struct Statistics {
    pub(super) total: usize,
    pub(super) mean: f64,
    pub(super) min: usize,
    pub(super) median: usize,
    pub(super) p95: usize,
    pub(super) p99: usize,
    pub(super) max: usize,
}

impl SplitCard {
    pub(super) fn of(split: Split, packaged: &Packaged<'_>) -> Self {
        let kept = || {
            let rows = packaged.items.iter().zip(packaged.groups).zip(packaged.kept);
            rows.filter(move |(_, side)| **side == Some(split)).map(|(pair, _)| pair)
        };
        let unit =
            if packaged.items.iter().all(|item| item.tokens.is_some()) { "tokens" } else { "characters" };
        let lengths: Vec<Lengths> =
            kept().map(|(item, _)| item.tokens.unwrap_or_else(|| characters(item))).collect();
        let of = |length: fn(&Lengths) -> usize| Statistics::of(lengths.iter().map(length).collect());
        let groups: BTreeSet<_> = kept().map(|(_, group)| group).collect();
        Self {
            rows: lengths.len(),
            groups: groups.len(),
            unit,
            length: of(|lengths| lengths.total()),
            prompt: of(|lengths| lengths.prompt),
            completion: of(|lengths| lengths.completion),
        }
    }
}

/// The lengths of a conversation in characters; its last turn is the answer.
fn characters(item: &Item) -> Lengths {
    let mut turns = item.messages.iter().map(|message| message.content.chars().count());
    let completion = turns.next_back().unwrap_or(0);
    Lengths { prompt: turns.sum(), completion }
}

impl Statistics {
    fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        // The smallest length that so many percent of the rows do not exceed.
        let percentile = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).max(1) - 1];
        let total: usize = lengths.iter().sum();
        Some(Self {
            min: *lengths.first()?,
            max: *lengths.last()?,
            total,
            mean: total as f64 / lengths.len() as f64,
            median: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_lengths_that_occur() {
        let lengths = Statistics::of((1..=20).rev().collect()).unwrap();
        let Statistics { min, median, p95, p99, max, total, mean } = lengths;
        assert_eq!((min, median, p95, p99, max, total, mean), (1, 10, 19, 20, 20, 210, 10.5));
        let lengths = Statistics::of(vec![7]).unwrap();
        assert_eq!((lengths.median, lengths.p95), (7, 7));
        assert!(Statistics::of(Vec::new()).is_none());
    }
}
