//! What a metric says of one document.

use serde_json::{Value, json};

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
    /// Nothing: the metric leaves grading to others.
    Nothing,
}

impl Grade {
    /// The number of a yes or no.
    pub(crate) fn of(right: bool) -> Self {
        Self::Number(f64::from(u8::from(right)))
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
            Self::Texts { reference, prediction } => json!([reference, prediction]),
            Self::Nothing => Value::Null,
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
