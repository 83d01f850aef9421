//! What a metric says of one document.

use serde_json::{Value, json};

use crate::harness::metric::ter;

/// The value of a metric for one document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Grade {
    /// A number.
    Number(f64),
    /// A log-likelihood, and the words or bytes that it is of.
    Weighted { logprob_nats: f64, weight: f64 },
    /// The right choice and the chosen one; the right one may be none that there is.
    Labels { gold: Option<usize>, predicted: usize },
    /// The right choice and the probability of each.
    Probabilities { gold: Option<usize>, probabilities: Vec<f64> },
    /// Whether each of several demands was met.
    Flags(Vec<bool>),
    /// A text and what it should be, of which only all together say something.
    Texts { reference: String, prediction: String },
    /// A text and what it should be, with the edits between them and the words that it should have.
    Edits { reference: String, prediction: String, edits: usize, words: usize },
    /// Nothing: the metric leaves grading to others.
    Nothing,
    /// Nothing: there is no answer that could be graded. The metric is over the other documents.
    Missing,
}

impl Grade {
    /// The number of a yes or no.
    pub(crate) fn of(right: bool) -> Self {
        Self::Number(f64::from(u8::from(right)))
    }

    /// Those of some that there are.
    pub(crate) fn present<'g>(grades: &[&'g Self]) -> Vec<&'g Self> {
        grades.iter().copied().filter(|grade| **grade != Self::Missing).collect()
    }

    /// The edits that turn a prediction into its reference.
    pub(crate) fn edits(reference: String, prediction: String) -> Self {
        let (edits, words) = ter::edits(&reference, &prediction);
        Self::Edits { reference, prediction, edits, words }
    }

    /// As the reference writes it.
    pub(crate) fn to_json(&self) -> Value {
        let index = |gold: &Option<usize>| gold.map_or_else(|| Value::from(-100), Value::from);
        match self {
            Self::Number(value) => json!(value),
            Self::Weighted { logprob_nats, weight } => json!([logprob_nats, *weight as u64]),
            Self::Labels { gold, predicted } => json!([index(gold), predicted]),
            Self::Probabilities { gold, probabilities } => json!([index(gold), probabilities]),
            Self::Flags(flags) => json!(flags),
            Self::Texts { reference, prediction } | Self::Edits { reference, prediction, .. } => {
                json!([reference, prediction])
            }
            Self::Nothing | Self::Missing => Value::Null,
        }
    }

    /// One number for the document alone, where that means something.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            Self::Flags(flags) if !flags.is_empty() => {
                Some(flags.iter().filter(|&&met| met).count() as f64 / flags.len() as f64)
            }
            _ => None,
        }
    }
}
