//! What the embedded teacher has seen, for whoever measures its callers.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

/// Counts of calls.
#[derive(Debug, Default)]
pub(super) struct Stats {
    answered: HashMap<u64, u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    calls: u64,
    refused: u64,
    failed: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// The counts as they are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Calls that came in.
    pub calls: u64,
    /// Calls that were answered, and so paid for.
    pub answered: u64,
    /// Answers that had been given before, to the very same request.
    pub repeated: u64,
    /// Calls that were not let in.
    pub refused: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens of the prompts of answered calls.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Seconds from the first answered call to the last.
    pub seconds: f64,
}

impl Stats {
    /// Notes a call that comes in.
    pub(super) fn arrive(&mut self) {
        self.calls += 1;
    }

    /// Notes a call that is not let in.
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Notes a call that fails and costs nothing.
    pub(super) fn fail(&mut self) {
        self.failed += 1;
    }

    /// Notes a call whose answer is computed, and so paid for.
    pub(super) fn answer(&mut self, request: u64, (prompt_tokens, completion_tokens): (usize, usize)) {
        let now = Instant::now();
        *self.answered.entry(request).or_default() += 1;
        self.prompt_tokens += prompt_tokens as u64;
        self.completion_tokens += completion_tokens as u64;
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// The counts so far.
    pub(super) fn seen(&self) -> Seen {
        let answered = self.answered.values().sum();
        let seconds = match (self.first, self.last) {
            (Some(first), Some(last)) => (last - first).as_secs_f64(),
            _ => 0.0,
        };
        Seen {
            calls: self.calls,
            answered,
            repeated: answered - self.answered.len() as u64,
            refused: self.refused,
            failed: self.failed,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            seconds,
        }
    }
}
