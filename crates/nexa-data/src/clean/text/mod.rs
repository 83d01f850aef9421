//! Text as the gates see it: words, sentences, lines, and which of them repeat.
//!
//! Everything here is one pass over the bytes and allocates nothing per word: a word is its hash, its length and a few
//! bits, and repetitions are found by hash alone.

mod classes;
mod exceptions;
mod lines;
mod repetition;
mod words;

pub(crate) use lines::{is_space, is_terminal, lines};
pub(crate) use repetition::{Grams, Seen, WordIndex, duplicates};
pub(crate) use words::{ALPHABETIC, STOP_WORDS, SYMBOLIC, Word, sentences, split_words};

/// The hash by which words, lines and paragraphs are told apart.
fn hash(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}
