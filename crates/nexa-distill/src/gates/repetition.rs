//! Rejects answers that say the same over and over, as models do that cannot find an end.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Answer, Gate};
use crate::error::check;
use crate::{Result, text};

/// How often the same may stand in one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repetition {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// How often one line of at least three words may stand. Default 3: a refrain may, a loop may not.
    pub max_line_repeats: usize,
    /// Words of a phrase. Default 8: long enough that plain language hardly repeats it.
    pub phrase_words: usize,
    /// How often one phrase may stand; copies may overlap, and numbers count as words. Default 4.
    pub max_phrase_repeats: usize,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { enabled: true, max_line_repeats: 3, phrase_words: 8, max_phrase_repeats: 4 }
    }
}

/// Shorter lines, such as `}` or `Answer:`, repeat in good answers too.
const WORDS_OF_A_LINE: usize = 3;

impl Repetition {
    pub(super) fn check(&self, stage: &'static str) -> Result<()> {
        let repeats = self.max_line_repeats.min(self.max_phrase_repeats);
        check(stage, "repetition", repeats).that(repeats > 0, "everything stands at least once")?;
        check(stage, "repetition.phrase_words", self.phrase_words)
            .that(self.phrase_words > 0, "a phrase has words")
    }
}

impl Gate for Repetition {
    fn name(&self) -> &'static str {
        "repetition"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        let lines = answer
            .output
            .lines()
            .filter(|line| line.split_whitespace().count() >= WORDS_OF_A_LINE)
            .map(text::normalise);
        let line_repeats = most_frequent(lines);
        if line_repeats > self.max_line_repeats {
            return Some(format!("one line stands {line_repeats} times"));
        }
        let normalised = text::normalise(answer.output);
        let words: Vec<&str> = normalised.split(' ').collect();
        let phrase_repeats = most_frequent(words.windows(self.phrase_words));
        (phrase_repeats > self.max_phrase_repeats)
            .then(|| format!("one phrase of {} words stands {phrase_repeats} times", self.phrase_words))
    }
}

fn most_frequent<T: std::hash::Hash + Eq>(items: impl Iterator<Item = T>) -> usize {
    let mut counts = HashMap::new();
    items
        .map(|item| {
            let count = counts.entry(item).or_insert(0);
            *count += 1;
            *count
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::verdict;
    use super::*;

    #[test]
    fn loops_are_told_from_refrains() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(verdict(&mut Repetition::default(), text).as_deref(), expected, "{text:?}");
        };
        check(&"12 + 7 = 19\n".repeat(3), None);
        check(&"12 + 7 = 19\n".repeat(4), Some("one line stands 4 times"));
        check(&"12 + 7 =  19\nso \n".repeat(4), Some("one line stands 4 times"));
        check(&"}\n".repeat(50), Some("one phrase of 8 words stands 43 times"));
        check(&"and then ".repeat(9), Some("one phrase of 8 words stands 6 times"));
        check("1 + 1 = 2\n2 + 2 = 4\n4 + 4 = 8\n#### 8", None);
        check("", None);
    }
}
