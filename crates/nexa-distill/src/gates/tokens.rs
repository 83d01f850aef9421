//! Measures whole conversations in the student's tokens, rendered with its template.

use std::sync::Arc;

use nexa_core::lm::{ChatMessage, Role, Tokenizer};
use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, Gate, Measure};
use crate::Result;
use crate::error::check;

pub(super) const VERSION: u32 = 1;

/// The bounds, in tokens of prompt and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Whether the gate is asked, where a tokenizer is given. Default true.
    pub enabled: bool,
    /// The shortest conversation. Default 1.
    pub min: u32,
    /// The longest conversation. Default 4096.
    pub max: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { enabled: true, min: 1, max: 4096 }
    }
}

impl Tokens {
    pub(super) fn check(&self, stage: &'static str) -> Result<()> {
        check(stage, "tokens.max", self.max).that(self.max >= self.min, "it is not below `min`")
    }
}

pub(super) fn gate(settings: Tokens, tokenizer: Arc<dyn Tokenizer>) -> Option<Gate> {
    let bounds = Bounds { min: Some(settings.min.into()), max: Some(settings.max.into()) };
    settings.enabled.then(|| {
        Gate::of_each("tokens", VERSION, bounds, move |answer| Some(measure(answer, tokenizer.as_ref())))
    })
}

fn measure(answer: &Answer<'_>, tokenizer: &dyn Tokenizer) -> Measure {
    let mut messages = answer.asked();
    messages.push(ChatMessage::new(Role::Assistant, answer.output));
    match tokenizer.encode_chat(&messages) {
        Ok(chat) => Measure::new(chat.token_ids.len() as f64, format!("{} tokens", chat.token_ids.len())),
        // What cannot be rendered has no length that could pass.
        Err(error) => Measure::new(0.0, error.to_string()),
    }
}
