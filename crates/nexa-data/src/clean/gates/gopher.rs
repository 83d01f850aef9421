//! `gopher@1`: is this prose, and does it say the same thing again and again?
//!
//! # Source
//! Rae et al. 2021 (arXiv 2112.11446), appendix A.1, as datatrove 0.10 reads it: repeats count from the second copy
//! on, `#` counts as a character, bullets are `•` and `-`, shares of n-grams are of all characters of the text.

use super::{Gate, Rule, Scratch, at_least, at_most, share};
use crate::clean::text::{ALPHABETIC, STOP_WORDS, SYMBOLIC, Word, duplicates, is_space, lines};

/// See the module.
pub(super) struct Gopher;

const SCORES: &[&str] = &[
    "words",
    "mean_word_length",
    "hash_word_ratio",
    "ellipsis_word_ratio",
    "bullet_line_ratio",
    "ellipsis_line_ratio",
    "alphabetic_word_ratio",
    "stop_words",
    "duplicate_paragraph_ratio",
    "duplicate_paragraph_character_ratio",
    "duplicate_line_ratio",
    "duplicate_line_character_ratio",
    "top_2_gram_character_ratio",
    "top_3_gram_character_ratio",
    "top_4_gram_character_ratio",
    "duplicate_5_gram_character_ratio",
    "duplicate_6_gram_character_ratio",
    "duplicate_7_gram_character_ratio",
    "duplicate_8_gram_character_ratio",
    "duplicate_9_gram_character_ratio",
    "duplicate_10_gram_character_ratio",
];

const RULES: &[Rule] = &[
    at_least("min_words", 0, 50.0),
    at_most("max_words", 0, 100_000.0),
    at_least("min_mean_word_length", 1, 3.0),
    at_most("max_mean_word_length", 1, 10.0),
    at_most("max_symbol_word_ratio", 2, 0.1),
    at_most("max_symbol_word_ratio", 3, 0.1),
    at_most("max_bullet_line_ratio", 4, 0.9),
    at_most("max_ellipsis_line_ratio", 5, 0.3),
    at_least("min_alphabetic_word_ratio", 6, 0.8),
    at_least("min_stop_words", 7, 2.0),
    at_most("max_duplicate_paragraph_ratio", 8, 0.3),
    at_most("max_duplicate_paragraph_character_ratio", 9, 0.2),
    at_most("max_duplicate_line_ratio", 10, 0.3),
    at_most("max_duplicate_line_character_ratio", 11, 0.2),
    at_most("max_top_2_gram_character_ratio", 12, 0.2),
    at_most("max_top_3_gram_character_ratio", 13, 0.18),
    at_most("max_top_4_gram_character_ratio", 14, 0.16),
    at_most("max_duplicate_5_gram_character_ratio", 15, 0.15),
    at_most("max_duplicate_6_gram_character_ratio", 16, 0.14),
    at_most("max_duplicate_7_gram_character_ratio", 17, 0.13),
    at_most("max_duplicate_8_gram_character_ratio", 18, 0.12),
    at_most("max_duplicate_9_gram_character_ratio", 19, 0.11),
    at_most("max_duplicate_10_gram_character_ratio", 20, 0.1),
];

impl Gate for Gopher {
    fn name(&self) -> &'static str {
        "gopher@1"
    }

    fn scores(&self) -> &'static [&'static str] {
        SCORES
    }

    fn rules(&self) -> &'static [Rule] {
        RULES
    }

    fn measure(&self, text: &str, scratch: &mut Scratch, scores: &mut Vec<f64>) -> Option<String> {
        prose(text, scratch.words.of(text), scores);
        repetition(text, scratch, scores);
        None
    }
}

/// The numbers of the quality rules.
fn prose(text: &str, words: &[Word], scores: &mut Vec<f64>) {
    let (mut counted, mut characters, mut alphabetic, mut traits) = (0, 0, 0, 0);
    for word in words {
        if word.traits & SYMBOLIC == 0 {
            counted += 1;
            characters += u64::from(word.characters);
        }
        alphabetic += u64::from(word.traits & ALPHABETIC != 0);
        traits |= word.traits;
    }
    let all = words.len() as u64;
    let hashes = text.bytes().filter(|&byte| byte == b'#').count() as u64;
    let ellipses = (text.matches("...").count() + text.matches('…').count()) as u64;
    let (mut total, mut bullets, mut trailing) = (0, 0, 0);
    for line in lines(text) {
        total += 1;
        bullets += u64::from(line.trim_start_matches(is_space).starts_with(['•', '-']));
        let line = line.trim_end_matches(is_space);
        trailing += u64::from(line.ends_with("...") || line.ends_with('…'));
    }
    scores.extend([
        counted as f64,
        share(characters, counted),
        share(hashes, all),
        share(ellipses, all),
        share(bullets, total),
        share(trailing, total),
        share(alphabetic, all),
        f64::from((traits & STOP_WORDS).count_ones()),
    ]);
}

/// The numbers of the repetition rules.
fn repetition(text: &str, scratch: &mut Scratch, scores: &mut Vec<f64>) {
    let Scratch { words, index, seen, grams } = scratch;
    let characters = text.chars().count() as u64;
    let breaks = text.bytes().filter(|&byte| byte == b'\n').count();
    let paragraphs = split_at_breaks(text.trim_matches(is_space), 2);
    for spans in
        [duplicates(paragraphs, breaks + 1, seen), duplicates(split_at_breaks(text, 1), breaks + 1, seen)]
    {
        scores.push(share(spans.duplicates, spans.spans));
        scores.push(share(spans.characters, characters));
    }
    index.build(words.of(text));
    scores.extend((2..=4).map(|n| share(index.top_characters(n, grams), characters)));
    scores.extend((5..=10).map(|n| share(index.duplicate_characters(n, seen), characters)));
}

/// The parts of a text between runs of at least so many line breaks; a run at an end has an empty part beside it.
fn split_at_breaks(text: &str, at_least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut from = 0;
        while let Some(found) = whole[from..].find('\n') {
            let at = from + found;
            let run = whole[at..].bytes().take_while(|&byte| byte == b'\n').count();
            if run >= at_least {
                rest = Some(&whole[at + run..]);
                return Some(&whole[..at]);
            }
            from = at + run;
        }
        rest = None;
        Some(whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_at_runs_of_breaks() {
        let check = |text: &str, at_least: usize, expected: &[&str]| {
            assert_eq!(split_at_breaks(text, at_least).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", 1, &[""]);
        check("a\n\nb\nc", 1, &["a", "b", "c"]);
        check("\na\n", 1, &["", "a", ""]);
        check("a\nb\n\n\nc\n\nd", 2, &["a\nb", "c", "d"]);
    }
}
