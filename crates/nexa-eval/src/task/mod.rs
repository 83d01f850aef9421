//! Tasks: what is asked of a model, and how its answers are graded.
//!
//! A task asks for all items in batches, through the traits of [`nexa_core::lm`], and keeps every finished answer at
//! once in a [`SampleLog`], so that a killed evaluation asks nothing twice.

mod exact_match;
mod item;
mod perplexity;
mod samples;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use exact_match::{ExactMatch, flexible_answer};
pub use item::{Item, read_items};
pub use perplexity::Perplexity;
pub use samples::{Ask, Sample, SampleLog};

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
    /// The word for it in configurations and files.
    pub fn as_str(self) -> &'static str {
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
