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
use words::split_words;
pub(crate) use words::{ALPHABETIC, STOP_WORDS, SYMBOLIC, Word, sentences};

/// The words of the text at hand, kept for whoever asks for the same text next.
#[derive(Debug, Default)]
pub(crate) struct Words {
    words: Vec<Word>,
    /// The hash of the text that they are of.
    text: u64,
}

impl Words {
    /// The words of a text: split once, however many gates ask for them.
    pub(crate) fn of(&mut self, text: &str) -> &[Word] {
        let hash = hash(text.as_bytes());
        if self.text != hash {
            self.begin();
            split_words(text, &mut self.words);
            self.text = hash;
        }
        &self.words
    }

    /// Begins a text that comes in lines.
    pub(crate) fn begin(&mut self) {
        self.words.clear();
        self.text = 0;
    }

    /// Adds a line of the text and returns the words of this line.
    pub(crate) fn add_line(&mut self, line: &str) -> &[Word] {
        let from = self.words.len();
        split_words(line, &mut self.words);
        &self.words[from..]
    }

    /// Ends a text that came in lines: its words are those of its lines.
    pub(crate) fn finish(&mut self, text: &str) {
        self.text = hash(text.as_bytes());
    }
}

/// The hash by which words, lines and paragraphs are told apart.
fn hash(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}
