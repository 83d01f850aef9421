//! What may be asked of a model and what it may answer, as a server sees it.

use std::fmt::Debug;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Which text is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// What a model is asked.
    Prompt,
    /// What it answers.
    Completion,
}

impl Place {
    /// Both places, in the order in which they are looked at.
    pub const ALL: [Self; 2] = [Self::Prompt, Self::Completion];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Completion => "completion",
        }
    }
}

/// What follows from a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A prompt is not answered; a completion ends before it.
    #[default]
    Refuse,
    /// It is replaced by the name of the rule, in brackets.
    Redact,
}

/// A part of a text that a rule is against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// The name of the rule.
    pub rule: String,
    /// What follows.
    pub action: Action,
}

/// Rules that texts are held against.
pub trait Guard: Send + Sync + Debug {
    /// Finds what rules are against, in the order of the text, none over another.
    fn find(&self, text: &str, place: Place) -> Vec<Finding>;

    /// How many bytes at the end of an unfinished text may yet become part of a finding.
    fn hold_back(&self) -> usize;
}

/// Replaces every finding in a text by the name of its rule.
pub fn redacted(text: &str, findings: &[Finding]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut from = 0;
    for finding in findings {
        redacted.push_str(&text[from..finding.range.start]);
        redacted.push_str(&replacement(&finding.rule));
        from = finding.range.end;
    }
    redacted.push_str(&text[from..]);
    redacted
}

/// What stands in the place of a finding.
pub fn replacement(rule: &str) -> String {
    format!("[{rule}]")
}
