//! Runs of words that two texts have in common: how rows are held against what models are judged by, before training
//! and after it.
//!
//! # Source
//! Common runs of 13 words are the rule of GPT-3 (Brown et al., "Language models are few-shot learners", 2020, appendix
//! C); words are read as [`crate::words`] says.

use std::hash::Hasher;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::words::Words;

/// Words of a run that texts have in common, as for GPT-3.
pub const RUN_WORDS: usize = 13;

/// Texts of fewer words are not looked for: they stand everywhere.
pub const MIN_WORDS: usize = 5;

/// The hash of each word. Numbers count as they stand: two problems that differ in them are not the same.
pub fn hashes(words: &Words) -> impl Iterator<Item = u64> {
    (0..words.len()).map(|at| xxh3_64(words.span(at, 1)))
}

/// The length of the runs by which a text of some words is looked for: the wanted one, or the whole text where it is
/// shorter; none where it is shorter than `min_words`.
pub fn run_length(words: usize, wanted: usize, min_words: usize) -> Option<usize> {
    (words >= min_words).then(|| wanted.min(words))
}

/// Appends the texts in a value, each on a line; of a turn in a conversation only what is said.
pub fn append_texts(value: &Value, text: &mut String) {
    match value {
        Value::String(part) => {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(part);
        }
        Value::Array(items) => items.iter().for_each(|item| append_texts(item, text)),
        Value::Object(fields) => match fields.get("content").or_else(|| fields.get("value")) {
            Some(said) => append_texts(said, text),
            None => fields.values().for_each(|field| append_texts(field, text)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Hashes of all runs of a text, each in constant time: differences of the prefixes of a polynomial modulo 2^64.
#[derive(Debug)]
pub struct Windows {
    prefixes: Vec<u64>,
}

impl Windows {
    /// Any odd number with bits all over.
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Prepares a text, given as the hashes of its words.
    pub fn of(words: &[u64]) -> Self {
        let mut prefixes = Vec::with_capacity(words.len() + 1);
        prefixes.push(0_u64);
        let mut hash = 0_u64;
        for word in words {
            hash = hash.wrapping_mul(Self::BASE).wrapping_add(*word);
            prefixes.push(hash);
        }
        Self { prefixes }
    }

    /// The hashes of all runs of a length, in order; the length is part of them.
    pub fn hashes(&self, length: usize) -> impl Iterator<Item = u64> {
        let power = (0..length).fold(1_u64, |power, _| power.wrapping_mul(Self::BASE));
        let ends = self.prefixes.iter().skip(length);
        self.prefixes.iter().zip(ends).map(move |(start, end)| {
            let difference = end.wrapping_sub(start.wrapping_mul(power));
            // High bits depend on all words; those that a table goes by are the low ones.
            (difference ^ length as u64).wrapping_mul(Self::BASE).rotate_left(32)
        })
    }
}

/// Takes hashes as they are.
#[derive(Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_run_has_the_same_hash_wherever_it_stands() {
        let hashes = |words: &[u64], length: usize| Windows::of(words).hashes(length).collect::<Vec<_>>();
        let found = hashes(&[5, 6, 7, 5, 6, 7, 8], 3);
        assert_eq!(found.len(), 5);
        assert_eq!(found[0], found[3]);
        assert_eq!(hashes(&[5, 6, 7], 3), [found[0]]);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 4);
        assert_ne!(hashes(&[0, 0], 2), hashes(&[0, 0, 0], 3));
        assert!(hashes(&[1], 2).is_empty());
    }

    #[test]
    fn a_short_text_is_looked_for_as_a_whole() {
        let check = |words, expected| assert_eq!(run_length(words, 13, 5), expected, "{words}");
        check(40, Some(13));
        check(7, Some(7));
        check(4, None);
    }
}
