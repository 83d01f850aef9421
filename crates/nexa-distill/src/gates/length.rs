//! Rejects answers that are empty, too short or too long.

use serde::{Deserialize, Serialize};

use super::{Answer, Gate};
use crate::Result;
use crate::error::check;

/// The bounds, in characters; white space at both ends does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// The shortest answer. Default 1: only the empty ones go.
    pub min_characters: usize,
    /// The longest answer. Default 20,000, about 5,000 tokens: more than a small student's context.
    pub max_characters: usize,
}

impl Default for Length {
    fn default() -> Self {
        Self { enabled: true, min_characters: 1, max_characters: 20_000 }
    }
}

impl Length {
    pub(super) fn check(&self, stage: &'static str) -> Result<()> {
        check(stage, "length.max_characters", self.max_characters)
            .that(self.max_characters >= self.min_characters, "it is not below `min_characters`")
    }
}

impl Gate for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        let characters = answer.output.trim().chars().count();
        if characters == 0 && self.min_characters > 0 {
            Some("empty".to_owned())
        } else if characters < self.min_characters {
            Some(format!("{characters} characters, fewer than {}", self.min_characters))
        } else if characters > self.max_characters {
            Some(format!("{characters} characters, more than {}", self.max_characters))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict;
    use super::*;

    #[test]
    fn characters_are_counted_without_the_space_around_them() {
        let mut gate = Length { min_characters: 3, max_characters: 5, ..Length::default() };
        let mut check = |text: &str, expected: Option<&str>| {
            assert_eq!(verdict(&mut gate, text).as_deref(), expected, "{text:?}");
        };
        check(" \n ", Some("empty"));
        check("  ab ", Some("2 characters, fewer than 3"));
        check("äöü", None);
        check(" abcde ", None);
        check("abcdef", Some("6 characters, more than 5"));
    }
}
