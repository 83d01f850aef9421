//! The tasks over a held-out split of training data: its items, and how answers to them are graded.
//!
//! Tasks that everybody knows stand in the `harness`.

mod exact_match;
mod item;
mod perplexity;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use exact_match::{ExactMatch, flexible_answer};
pub use item::{Item, read_items};
pub use perplexity::Perplexity;

/// A task by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Greedy answers whose final number must equal the reference.
    ExactMatch,
    /// The probability of the reference conversation's assistant turns.
    Perplexity,
}

impl Task {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::ExactMatch, Self::Perplexity];

    /// The task of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.as_str() == name)
    }

    /// The word for it in configurations and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact_match",
            Self::Perplexity => "perplexity",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
