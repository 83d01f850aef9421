//! Finds rows that are the same problem: given groups, equal prompts, and paraphrases.
//!
//! A paraphrase says the same with the same numbers, so only prompts with equal numbers are compared, by the words that
//! they have in common. What belongs together is joined (union-find), so that groups may chain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::text;

/// Up to so many prompts with the same numbers, each is compared with each.
const ALL_PAIRS: usize = 512;
/// In larger blocks, each is compared with so many that follow in the order of their words.
const NEIGHBOURS: usize = 64;

/// The groups of some rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clusters {
    /// For each row, the first row of its cluster.
    pub(super) of: Vec<usize>,
    /// Blocks that were too large to compare each with each.
    pub(super) bounded_blocks: usize,
}

/// Groups rows, each given by its group and its prompt.
pub(super) fn clusters(rows: &[(&str, &str)], min_similarity: f64) -> Clusters {
    let mut union = Union::new(rows.len());
    let mut by_group: HashMap<&str, usize> = HashMap::new();
    let mut by_prompt: HashMap<String, usize> = HashMap::new();
    let mut blocks: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
    for (row, (group, prompt)) in rows.iter().enumerate() {
        union.join(row, *by_group.entry(group).or_insert(row));
        match by_prompt.entry(text::normalise(prompt)) {
            std::collections::hash_map::Entry::Occupied(first) => union.join(row, *first.get()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(row);
                // Equal prompts are joined already; one of them stands for all below.
                blocks.entry(text::numbers(prompt)).or_default().push(row);
            }
        }
    }
    let mut bounded_blocks = 0;
    if min_similarity <= 1.0 {
        for block in blocks.into_values().filter(|block| block.len() > 1) {
            bounded_blocks += usize::from(join_similar(rows, block, min_similarity, &mut union));
        }
    }
    Clusters { of: (0..rows.len()).map(|row| union.first(row)).collect(), bounded_blocks }
}

/// Joins the similar prompts of a block; says whether it was too large for all pairs.
fn join_similar(rows: &[(&str, &str)], block: Vec<usize>, min_similarity: f64, union: &mut Union) -> bool {
    let mut members: Vec<(BTreeSet<String>, usize)> =
        block.into_iter().map(|row| (text::words(rows[row].1).collect(), row)).collect();
    let is_bounded = members.len() > ALL_PAIRS;
    if is_bounded {
        members.sort();
    }
    let reach = if is_bounded { NEIGHBOURS } else { members.len() };
    for (at, (words, row)) in members.iter().enumerate() {
        for (other_words, other) in members[at + 1..].iter().take(reach) {
            if union.first(*row) != union.first(*other) && text::jaccard(words, other_words) >= min_similarity
            {
                union.join(*row, *other);
            }
        }
    }
    is_bounded
}

/// Disjoint sets of rows, each named by its first row.
struct Union(Vec<usize>);

impl Union {
    fn new(rows: usize) -> Self {
        Self((0..rows).collect())
    }

    fn first(&mut self, mut row: usize) -> usize {
        while self.0[row] != row {
            // Halves the way for the next time.
            self.0[row] = self.0[self.0[row]];
            row = self.0[row];
        }
        row
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        self.0[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_joined_by_group_by_prompt_and_by_likeness() {
        let rows = [
            ("a", "Ava has 3 apples and buys 4 more apples. How many?"),
            ("b", "Ben has 3 apples and buys 4 more apples. How many?"),
            ("c", "Ben has 3 apples and buys 5 more apples. How many?"),
            ("d", "A train of 3 wagons and 4 cars."),
            ("c", "Something else entirely."),
            ("e", "something  ELSE entirely."),
        ];
        let check = |similarity: f64, expected: [usize; 6]| {
            assert_eq!(clusters(&rows, similarity).of, expected, "{similarity}");
        };
        check(0.5, [0, 0, 2, 3, 2, 2]);
        check(1.0, [0, 1, 2, 3, 2, 2]);
        check(1.1, [0, 1, 2, 3, 2, 2]);
        check(0.01, [0, 0, 2, 0, 2, 2]);
    }

    #[test]
    fn a_large_block_is_bounded_and_still_finds_neighbours() {
        // Six words of each prompt are its own, and two copies differ in one more.
        let prompts: Vec<String> = (0..2_000)
            .map(|n| {
                let word = |k: usize| {
                    char::from(b'a' + u8::try_from((n / 2 / 26_usize.pow(k as u32 % 3)) % 26).unwrap())
                };
                let own: String =
                    (0..6).map(|k| format!("{}{} ", char::from(b'a' + k), word(k.into()))).collect();
                format!("{own}{}", if n % 2 == 0 { "zone" } else { "zwo" })
            })
            .collect();
        let groups: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        let rows: Vec<_> = groups.iter().zip(&prompts).map(|(g, p)| (g.as_str(), p.as_str())).collect();
        let found = clusters(&rows, 0.75);
        assert_eq!(found.bounded_blocks, 1);
        assert!((0..1_000).all(|pair| found.of[2 * pair] == found.of[2 * pair + 1]));
    }
}
