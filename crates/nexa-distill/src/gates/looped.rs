//! Measures how much of an answer says the same over and over, as models do that cannot find an end.
//!
//! A word counts as repeated where it stands in the third or a later copy of a line or of a phrase: a refrain may stand
//! twice. Writing without spaces is taken sign by sign.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, Gate, Measure, percent, share};
use crate::error::check;
use crate::{Result, text};

pub(super) const VERSION: u32 = 1;

/// How much may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loop {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// The greatest share of words that repeat. Default 0.3.
    pub max: f64,
    /// Words of a phrase. Default 8: long enough that plain language hardly repeats it.
    pub phrase_words: usize,
}

impl Default for Loop {
    fn default() -> Self {
        Self { enabled: true, max: 0.3, phrase_words: 8 }
    }
}

/// Shorter lines, such as `}` or `Answer:`, repeat in good answers too.
const WORDS_OF_A_LINE: usize = 3;
/// Copies that may stand.
const COPIES: usize = 2;

impl Loop {
    pub(super) fn check(&self, stage: &'static str) -> Result<()> {
        check(stage, "loop.phrase_words", self.phrase_words).that(self.phrase_words > 0, "a phrase has words")
    }
}

pub(super) fn gate(settings: Loop) -> Option<Gate> {
    let Loop { enabled, max, phrase_words } = settings;
    enabled.then(|| {
        Gate::of_each("loop", VERSION, Bounds::at_most(max), move |answer| {
            Some(measure(answer, phrase_words))
        })
    })
}

fn measure(answer: &Answer<'_>, phrase_words: usize) -> Measure {
    let normalised = text::normalise(answer.output);
    let words = words(&normalised);
    let repeated = in_phrases(&words, phrase_words).max(in_lines(answer.output));
    let repeated = share(repeated.min(words.len()), words.len());
    Measure::new(repeated, format!("{} of the words repeat what stands twice already", percent(repeated)))
}

/// Words in copies of phrases.
fn in_phrases(words: &[&str], phrase_words: usize) -> usize {
    let mut counts = Counts::default();
    // Copies overlap, so what is counted is the words up to the end of the last one.
    let (mut repeated, mut counted_to) = (0, 0);
    for (start, phrase) in words.windows(phrase_words).enumerate() {
        if counts.add(phrase) > COPIES {
            let end = start + phrase_words;
            repeated += end - start.max(counted_to);
            counted_to = end;
        }
    }
    repeated
}

/// Words in copies of lines.
fn in_lines(output: &str) -> usize {
    let mut counts = Counts::default();
    output
        .lines()
        .map(|line| {
            let normalised = text::normalise(line);
            let words = words(&normalised).len();
            if words >= WORDS_OF_A_LINE && counts.add(normalised) > COPIES { words } else { 0 }
        })
        .sum()
}

/// The words of a normalised text; each sign of a writing without spaces is one.
fn words(normalised: &str) -> Vec<&str> {
    let is_sign = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
    normalised
        .split(' ')
        .filter(|word| !word.is_empty())
        .flat_map(|word| word.split_inclusive(is_sign))
        .collect()
}

struct Counts<T>(HashMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Hash + Eq> Counts<T> {
    /// Counts an item, and returns how often it was there, this time included.
    fn add(&mut self, item: T) -> usize {
        let count = self.0.entry(item).or_insert(0);
        *count += 1;
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    #[test]
    fn loops_are_told_from_refrains() {
        let check = |text: &str, expected: f64| {
            let found = score(|answer| Some(measure(answer, 8)), "", text);
            assert!((found - expected).abs() < 1e-3, "{text:?}: {found}");
        };
        check("", 0.0);
        check("1 + 1 = 2\n2 + 2 = 4\n4 + 4 = 8\n#### 8", 0.0);
        check(&"12 + 7 = 19\n".repeat(2), 0.0);
        check(&"12 + 7 = 19\n".repeat(4), 0.5);
        check(&"12 + 7 =  19\nso \n".repeat(4), 0.5);
        check(&"}\n".repeat(50), 0.96);
        check(&"and then ".repeat(9), 0.7778);
        check(&"我不知道该说什么。".repeat(10), 63.0 / 81.0);
        let solution =
            "He buys 3 pens for 2 dollars each, which is 6 dollars, and pays with 10, so 4 are left.";
        check(&format!("{solution}\n{}", "so it is four\n".repeat(3)), 4.0 / 32.0);
    }
}
