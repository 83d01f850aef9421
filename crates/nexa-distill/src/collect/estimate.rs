//! What a call is expected to use, learnt from those that have ended.

use crate::client::{Request, Usage};

/// Bytes of a token, before any answer has told: English text in common vocabularies.
const BYTES_PER_TOKEN: f64 = 4.0;
/// The share of the longest answer that answers have, before any has told.
const SHARE_OF_LONGEST: f64 = 0.25;
/// How many answers the mean follows.
const WINDOW: f64 = 50.0;

/// Means over the calls that have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Estimate {
    bytes_per_token: Option<f64>,
    completion_tokens: Option<f64>,
}

impl Estimate {
    /// The mean over answers that are there.
    pub(super) fn of<'a>(usages: impl Iterator<Item = &'a Usage>) -> Self {
        let (mut answers, mut tokens) = (0_u64, 0_u64);
        for completion_tokens in usages.filter_map(|usage| usage.completion_tokens) {
            answers += 1;
            tokens += completion_tokens;
        }
        let completion_tokens = (answers > 0).then(|| tokens as f64 / answers as f64);
        Self { bytes_per_token: None, completion_tokens }
    }

    /// Takes in what a call used.
    pub(super) fn observe(&mut self, request: &Request, usage: &Usage) {
        if let Some(tokens) = usage.prompt_tokens.filter(|tokens| *tokens > 0) {
            follow(&mut self.bytes_per_token, request.prompt_bytes() as f64 / tokens as f64);
        }
        if let Some(tokens) = usage.completion_tokens {
            follow(&mut self.completion_tokens, tokens as f64);
        }
    }

    /// Tokens that a prompt is expected to have.
    pub(super) fn prompt_tokens(&self, request: &Request) -> f64 {
        request.prompt_bytes() as f64 / self.bytes_per_token.unwrap_or(BYTES_PER_TOKEN).max(0.1)
    }

    /// Tokens that an answer is expected to have.
    pub(super) fn completion_tokens(&self, request: &Request) -> f64 {
        let longest = request.max_tokens as f64;
        self.completion_tokens.unwrap_or(longest * SHARE_OF_LONGEST).min(longest)
    }

    /// Tokens that a call is expected to use.
    pub(super) fn tokens(&self, request: &Request) -> f64 {
        self.prompt_tokens(request) + self.completion_tokens(request)
    }
}

fn follow(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + (value - mean) / WINDOW));
}
