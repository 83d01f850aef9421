//! How many tokens of prompts a step may read, so that nobody waits long for its end.
//!
//! A step cannot be interrupted: whoever goes away, arrives or is being answered waits for its end. Tokens are therefore
//! counted by the time that they took in the step before. Where prompts are cut changes no token.

use std::time::Duration;

/// How long a step should take at most. Two of them, one of answers and one of an embedding, stay below a second.
const STEP: Duration = Duration::from_millis(400);
/// Tokens that a step may read however slow the model is: fewer hardly take less time, as all weights are read for one.
const LEAST: usize = 16;

/// The pace of a model.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens of prompts in one step at most.
    most: usize,
    /// What the step before says; few until one has been seen.
    tokens: usize,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        Self { most, tokens: LEAST.min(most) }
    }

    /// Tokens of prompts that the next step may read; at least one.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Learns from a step that fed so many tokens.
    ///
    /// The time of a step is a part that every step takes and a part for each token, so that the time per token of a small
    /// step is too long, never too short: the next one is larger until it takes as long as it may. A step of few tokens
    /// says nothing of large ones.
    pub(super) fn learn(&mut self, fed: usize, took: Duration) {
        if fed < LEAST.min(self.most) && took < STEP {
            return;
        }
        let fitting = fed as f64 * STEP.as_secs_f64() / took.as_secs_f64().max(1e-9);
        // What is larger than `usize` becomes its largest.
        self.tokens = (fitting as usize).clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_until_they_take_as_long_as_they_may() {
        let took = |tokens: usize| Duration::from_millis(25) + Duration::from_micros(2_200) * tokens as u32;
        let mut pace = Pace::new(512);
        assert_eq!(pace.tokens(), 16);
        for _ in 0..20 {
            let tokens = pace.tokens();
            assert!(took(tokens) <= STEP, "{tokens}");
            pace.learn(tokens, took(tokens));
        }
        assert_eq!(pace.tokens(), 170);
        // Later tokens see more, and take longer.
        pace.learn(170, took(340));
        assert_eq!(pace.tokens(), 87);
    }

    #[test]
    fn the_configured_size_is_never_exceeded_and_some_tokens_are_always_read() {
        let check = |most, fed, took_ms, expected| {
            let mut pace = Pace::new(most);
            pace.learn(fed, Duration::from_millis(took_ms));
            assert_eq!(pace.tokens(), expected, "{most} {fed} {took_ms}");
        };
        check(512, 16, 0, 512);
        check(512, 16, 4, 512);
        check(512, 100, 1_000, 40);
        check(512, 16, 60_000, 16);
        check(8, 8, 60_000, 8);
        check(1, 1, 0, 1);
        // A single token is read in the time that its weights take.
        check(512, 1, 30, 16);
        check(512, 1, 4_000, 16);
    }
}
