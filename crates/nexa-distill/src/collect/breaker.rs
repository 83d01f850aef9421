//! Stops a run whose endpoint is down, or does not accept what is asked, rather than let every row fail after its last
//! retry.

use std::collections::VecDeque;

/// How many calls are looked at.
const WINDOW: usize = 20;
/// How many must have ended before anything is said of them.
const ENOUGH: usize = 10;

/// The last calls, and how many of them failed on the way, at the server or as none that it accepts.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    last: VecDeque<bool>,
}

impl Breaker {
    /// Notes how a call ended.
    pub(super) fn note(&mut self, failed: bool) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(failed);
    }

    /// How many calls failed of how many, where it is more than half of enough of them.
    pub(super) fn tripped(&self) -> Option<(usize, usize)> {
        let seen = self.last.len();
        let failed = self.last.iter().filter(|failed| **failed).count();
        (seen >= ENOUGH && failed * 2 > seen).then_some((failed, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_last_trip_it() {
        let check = |ends: &[(bool, usize)], expected: Option<(usize, usize)>| {
            let mut breaker = Breaker::default();
            for &(failed, times) in ends {
                (0..times).for_each(|_| breaker.note(failed));
            }
            assert_eq!(breaker.tripped(), expected, "{ends:?}");
        };
        check(&[(true, 9)], None);
        check(&[(true, 10)], Some((10, 10)));
        check(&[(false, 5), (true, 5)], None);
        check(&[(false, 5), (true, 6)], Some((6, 11)));
        check(&[(true, 20)], Some((20, 20)));
        check(&[(false, 10), (true, 10)], None);
        check(&[(false, 9), (true, 11)], Some((11, 20)));
        check(&[(true, 9), (false, 20)], None);
    }
}
