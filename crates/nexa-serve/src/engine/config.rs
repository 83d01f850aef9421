//! The sizes of the engine.

use serde::{Deserialize, Serialize};

use crate::Error;

/// How much the engine does at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Sequences that are decoded together.
    pub max_batch: usize,
    /// Requests that may wait beside those; one more is refused.
    pub max_queued: usize,
    /// Tokens that the prompts of waiting requests may have together; a request that would add to more is refused, unless
    /// none waits.
    pub max_queued_tokens: usize,
    /// Tokens of prompts in one step, at most: fewer where the model would take longer than 0.4 s for so many, so that the
    /// answers being written do not stand still while a prompt is read.
    pub prefill_chunk: usize,
    /// Tokens that are scored at a time; beside other work, as many as a step may read.
    pub score_tokens: usize,
    /// Tokens that are guessed from those before them and checked in one step; 0 guesses none.
    pub guesses: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_queued: 256,
            max_queued_tokens: 1 << 20,
            prefill_chunk: 512,
            score_tokens: 4096,
            guesses: 0,
        }
    }
}

impl EngineConfig {
    /// Refuses sizes with which nothing would ever move.
    ///
    /// # Errors
    /// Names the size.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes = [
            ("max_batch", self.max_batch),
            ("max_queued", self.max_queued),
            ("max_queued_tokens", self.max_queued_tokens),
            ("prefill_chunk", self.prefill_chunk),
            ("score_tokens", self.score_tokens),
        ];
        match sizes.into_iter().find(|&(_, size)| size == 0) {
            Some((key, _)) => Err(Error::EngineConfig { key }),
            None => Ok(()),
        }
    }
}
