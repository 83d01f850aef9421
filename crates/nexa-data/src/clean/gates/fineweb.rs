//! `fineweb@1`: is this text, or a list, a menu, a table?
//!
//! # Source
//! Penedo et al. 2024 (arXiv 2406.17557), section 3.6, with the values of datatrove 0.10's `FineWebQualityFilter`
//! (characters in duplicate lines: 0.01). A line ends well where its very last character does, white space included.

use super::{Gate, Rule, Scratch, at_least, at_most, share};
use crate::clean::text::{duplicates, is_space, is_terminal};

/// See the module.
pub(super) struct FineWeb;

const SCORES: &[&str] = &[
    "lines",
    "terminated_line_ratio",
    "short_line_ratio",
    "duplicate_line_character_ratio",
    "newline_word_ratio",
];

const RULES: &[Rule] = &[
    at_least("min_lines", 0, 1.0),
    at_least("min_terminated_line_ratio", 1, 0.12),
    at_most("max_short_line_ratio", 2, 0.67),
    at_most("max_duplicate_line_character_ratio", 3, 0.01),
    at_most("max_newline_word_ratio", 4, 0.3),
];

/// Characters up to which a line is short.
const SHORT_LINE: usize = 30;

impl Gate for FineWeb {
    fn name(&self) -> &'static str {
        "fineweb@1"
    }

    fn scores(&self) -> &'static [&'static str] {
        SCORES
    }

    fn rules(&self) -> &'static [Rule] {
        RULES
    }

    fn measure(&self, text: &str, scratch: &mut Scratch, scores: &mut Vec<f64>) -> Option<String> {
        let written = || text.split('\n').filter(|line| !line.trim_matches(is_space).is_empty());
        let (mut lines, mut terminated, mut short) = (0, 0, 0);
        for line in written() {
            lines += 1;
            terminated += u64::from(line.ends_with(is_terminal));
            short += u64::from(line.chars().count() <= SHORT_LINE);
        }
        let newlines = text.bytes().filter(|&byte| byte == b'\n').count();
        let repeated = duplicates(written(), newlines + 1, &mut scratch.seen);
        let characters = (text.chars().count() - newlines) as u64;
        let words = scratch.words.of(text).len() as u64;
        scores.extend([
            lines as f64,
            share(terminated, lines),
            share(short, lines),
            share(repeated.characters, characters),
            share(newlines as u64, words),
        ]);
        None
    }
}
