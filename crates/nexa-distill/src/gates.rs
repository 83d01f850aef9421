//! Gates: what a teacher's answer must pass before a student learns from it.
//!
//! Each gate looks at one answer and says nothing, or why it is rejected. Gates have versions, raised whenever one
//! would decide otherwise than before.

mod duplicate;
mod length;
mod refusal;
mod repetition;
mod truncation;
mod wrong_answer;

use nexa_core::columns;
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};

use crate::Result;

pub use length::Length;
pub use repetition::Repetition;
pub use truncation::Truncation;

/// What a gate sees of a row.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// What was asked.
    pub prompt: &'a str,
    /// What was answered.
    pub output: &'a str,
    /// Why the answer ended.
    pub finish_reason: Option<&'a str>,
    /// The right final answer, where one is known.
    pub reference: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// Reads a row of teacher outputs. What is missing or null is empty.
    pub fn of(row: &'a Row) -> Self {
        let text = |column: &str| row.get(column).and_then(serde_json::Value::as_str);
        Self {
            prompt: text(columns::USER_PROMPT).unwrap_or_default(),
            output: text(columns::TEACHER_OUTPUT).unwrap_or_default(),
            finish_reason: text(columns::FINISH_REASON),
            reference: text(columns::REFERENCE),
        }
    }
}

/// A gate.
pub trait Gate {
    /// Its name, as it stands in tables and configurations.
    fn name(&self) -> &'static str;

    /// Raised whenever the gate would decide otherwise than before.
    fn version(&self) -> u32;

    /// Says why an answer is rejected, or nothing where it passes. Only the gate against duplicates remembers what it
    /// saw before.
    fn reject(&mut self, answer: &Answer<'_>) -> Option<String>;
}

/// A gate without settings: on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switch {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// The gates, in the order in which they are asked: the cheap and certain ones first, so that a row is rejected for
/// the plainest reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Empty, too short or too long.
    pub length: Length,
    /// Refuses to answer.
    pub refusal: Switch,
    /// Was cut off.
    pub truncation: Truncation,
    /// Says the same over and over.
    pub repetition: Repetition,
    /// Stands in the table already.
    pub duplicate: Switch,
    /// Comes to another result than the reference.
    pub wrong_answer: Switch,
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn check(&self, stage: &'static str) -> Result<()> {
        self.length.check(stage)?;
        self.repetition.check(stage)
    }

    /// The gates that are switched on, in order.
    pub fn chain(&self) -> Vec<Box<dyn Gate>> {
        let gates: [(bool, Box<dyn Gate>); 6] = [
            (self.length.enabled, Box::new(self.length)),
            (self.refusal.enabled, Box::new(refusal::Refusal)),
            (self.truncation.enabled, Box::new(self.truncation.clone())),
            (self.repetition.enabled, Box::new(self.repetition)),
            (self.duplicate.enabled, Box::new(duplicate::Duplicate::default())),
            (self.wrong_answer.enabled, Box::new(wrong_answer::WrongAnswer)),
        ];
        gates.into_iter().filter_map(|(enabled, gate)| enabled.then_some(gate)).collect()
    }
}

/// The sum of all versions, which rises whenever one of them does.
pub(crate) fn version() -> u32 {
    let all: [&dyn Gate; 6] = [
        &Length::default(),
        &refusal::Refusal,
        &Truncation::default(),
        &Repetition::default(),
        &duplicate::Duplicate::default(),
        &wrong_answer::WrongAnswer,
    ];
    all.iter().map(|gate| gate.version()).sum()
}

/// Asks a gate about an output alone, or with what else matters to it.
#[cfg(test)]
fn verdict(gate: &mut dyn Gate, output: &str) -> Option<String> {
    gate.reject(&Answer { prompt: "How many?", output, finish_reason: Some("stop"), reference: None })
}
