//! How many calls are under way at once: one more after a while of success, a quarter less when the provider says so.
//!
//! # Source
//! Additive increase and multiplicative decrease, as TCP finds the share of a line that is free (Chiu and Jain, 1989).

use tokio::time::Instant;

/// Answers in a row that allow one more call.
const SUCCESSES_FOR_ONE_MORE: u32 = 25;
/// What is left of the allowed calls when they were too many.
const DECREASE: f64 = 0.75;

#[derive(Debug)]
pub(super) struct Concurrency {
    ceiling: usize,
    allowed: usize,
    successes: u32,
    /// When it was last lowered.
    lowered: Option<Instant>,
}

impl Concurrency {
    /// Begins at the ceiling: most accounts allow it, and those that do not say so at once.
    pub(super) fn new(ceiling: usize) -> Self {
        Self { ceiling, allowed: ceiling, successes: 0, lowered: None }
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    pub(super) fn succeed(&mut self) {
        self.successes += 1;
        if self.successes >= SUCCESSES_FOR_ONE_MORE {
            self.successes = 0;
            self.allowed = (self.allowed + 1).min(self.ceiling);
        }
    }

    /// Notes that a call which was sent at `sent` was one too many. Returns whether that is news: what was sent before
    /// the last step down says nothing about the state since.
    pub(super) fn overload(&mut self, now: Instant, sent: Instant) -> bool {
        if self.lowered.is_some_and(|lowered| sent <= lowered) {
            return false;
        }
        self.lowered = Some(now);
        self.successes = 0;
        self.allowed = ((self.allowed as f64 * DECREASE) as usize).max(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_goes_down_by_a_quarter_once_a_burst_and_up_by_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut concurrency = Concurrency::new(64);
        let mut check = |step: &dyn Fn(&mut Concurrency), expected: usize| {
            step(&mut concurrency);
            assert_eq!(concurrency.allowed(), expected);
        };
        check(&|_| (), 64);
        check(&|c| assert!(c.overload(at(2), at(0))), 48);
        check(&|c| assert!(!c.overload(at(3), at(1))), 48);
        check(&|c| assert!(c.overload(at(5), at(4))), 36);
        check(&|c| (0..24).for_each(|_| c.succeed()), 36);
        check(&|c| c.succeed(), 37);
        check(&|c| (0..25 * 100).for_each(|_| c.succeed()), 64);
        let all_down = |c: &mut Concurrency| {
            for second in 0..99 {
                c.overload(at(10 + 2 * second + 1), at(10 + 2 * second));
            }
        };
        check(&all_down, 1);
    }
}
