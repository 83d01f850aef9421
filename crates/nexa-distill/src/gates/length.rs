//! Measures answers in characters.

use serde::{Deserialize, Serialize};

use super::{Bounds, Gate, Measure};
use crate::Result;
use crate::error::check;

pub(super) const VERSION: u32 = 2;

/// The bounds, in characters; white space at both ends does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// The shortest answer. Default 1.
    pub min_characters: u32,
    /// The longest answer. Default 20,000, about 5,000 tokens: more than a small student's context.
    pub max_characters: u32,
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

pub(super) fn gate(settings: Length) -> Option<Gate> {
    let Length { enabled, min_characters, max_characters } = settings;
    let bounds = Bounds { min: Some(min_characters.into()), max: Some(max_characters.into()) };
    enabled.then(|| {
        Gate::of_each("length", VERSION, bounds, |answer| {
            let characters = answer.output.trim().chars().count();
            Some(Measure::new(characters as f64, format!("{characters} characters")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::super::test::row;
    use super::*;

    #[test]
    fn characters_are_counted_without_the_space_around_them() {
        let mut gate = gate(Length { min_characters: 3, max_characters: 5, ..Length::default() }).unwrap();
        let mut check = |text: &str, expected: Option<&str>| {
            let measures = gate.measure(&[Answer::of(&row("", text))]).unwrap();
            assert_eq!(gate.reject(measures[0].as_ref().unwrap()).as_deref(), expected, "{text:?}");
        };
        check("  ab ", Some("2 characters, the bound is 3"));
        check("äöü", None);
        check(" abcde ", None);
        check("abcdef", Some("6 characters, the bound is 5"));
    }
}
