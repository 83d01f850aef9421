//! Holds a run back whose endpoint is down, or does not accept what is asked, rather than let every row fail after its
//! last retry.
//!
//! Once most of the last calls have failed, no call is sent for a while. Then a single one is, and decides: where it is
//! answered, the run goes on; where it fails like the others, it ends.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many calls are looked at.
const WINDOW: usize = 20;
/// How many must have ended before anything is said of them.
const ENOUGH: usize = 10;

/// The last calls, how many of them failed on the way, at the server or as none that it accepts, and what follows.
#[derive(Debug)]
pub(super) struct Breaker {
    last: VecDeque<bool>,
    state: State,
    cool_down: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls are sent.
    Closed,
    /// None is, before this moment; the next one probes.
    Open(Instant),
    /// This call decides.
    Probing(u64),
}

/// Whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Now,
    /// Not before.
    At(Instant),
    /// Once the call has ended that decides.
    AfterProbe,
}

/// What a failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing yet.
    None,
    /// Nothing is sent for a while.
    Paused {
        /// Calls that failed.
        failed: usize,
        /// Of so many.
        attempts: usize,
    },
    /// Nothing is worth sending any more.
    Stopped {
        /// Calls that failed.
        failed: usize,
        /// Of so many.
        attempts: usize,
    },
}

impl Breaker {
    /// A breaker that gives an endpoint so long to come back; none at all where that is nothing.
    pub(super) fn new(cool_down: Duration) -> Self {
        Self { last: VecDeque::new(), state: State::Closed, cool_down }
    }

    /// Whether a call may be sent.
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.state {
            State::Closed => Gate::Now,
            State::Open(until) if until <= now => Gate::Now,
            State::Open(until) => Gate::At(until),
            State::Probing(_) => Gate::AfterProbe,
        }
    }

    /// Notes that a call is sent.
    pub(super) fn sent(&mut self, call: u64) {
        if let State::Open(_) = self.state {
            self.state = State::Probing(call);
        }
    }

    /// Notes that a call was answered, be it by the wish for fewer of them. Returns whether the endpoint is back by that.
    pub(super) fn answered(&mut self, call: u64) -> bool {
        if self.state == State::Probing(call) {
            self.state = State::Closed;
            self.last.clear();
            return true;
        }
        self.note(false);
        false
    }

    /// Notes that a call failed; `may_pass` says whether waiting can help.
    pub(super) fn failed(&mut self, call: u64, now: Instant, may_pass: bool) -> Effect {
        self.note(true);
        let attempts = self.last.len();
        let failed = self.last.iter().filter(|failed| **failed).count();
        match self.state {
            State::Probing(probe) if probe == call => Effect::Stopped { failed, attempts },
            State::Closed if attempts >= ENOUGH && failed * 2 > attempts => {
                if !may_pass || self.cool_down.is_zero() {
                    return Effect::Stopped { failed, attempts };
                }
                self.state = State::Open(now + self.cool_down);
                Effect::Paused { failed, attempts }
            }
            // What was under way when it opened tells nothing new.
            State::Closed | State::Open(_) | State::Probing(_) => Effect::None,
        }
    }

    fn note(&mut self, failed: bool) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL_DOWN: Duration = Duration::from_secs(15);

    /// The effect of the last of some calls, each of which failed or not.
    fn end(breaker: &mut Breaker, ends: &[(bool, usize)], may_pass: bool) -> Effect {
        let mut effect = Effect::None;
        for &(failed, times) in ends {
            for _ in 0..times {
                if failed {
                    effect = breaker.failed(0, Instant::now(), may_pass);
                } else {
                    breaker.answered(0);
                }
            }
        }
        effect
    }

    #[test]
    fn more_than_half_of_the_last_trip_it() {
        let check = |ends: &[(bool, usize)], expected: Option<(usize, usize)>| {
            let effect = end(&mut Breaker::new(Duration::ZERO), ends, true);
            let expected =
                expected.map_or(Effect::None, |(failed, attempts)| Effect::Stopped { failed, attempts });
            assert_eq!(effect, expected, "{ends:?}");
        };
        check(&[(true, 9)], None);
        check(&[(true, 10)], Some((10, 10)));
        check(&[(false, 5), (true, 5)], None);
        check(&[(false, 5), (true, 6)], Some((6, 11)));
        check(&[(true, 20)], Some((20, 20)));
        check(&[(false, 10), (true, 10)], None);
        check(&[(false, 9), (true, 11)], Some((11, 20)));
    }

    #[test]
    fn after_a_pause_one_call_decides() {
        let mut breaker = Breaker::new(COOL_DOWN);
        assert_eq!(end(&mut breaker, &[(true, 10)], true), Effect::Paused { failed: 10, attempts: 10 });
        let State::Open(until) = breaker.state else { panic!("{breaker:?}") };
        assert_eq!(breaker.gate(until - COOL_DOWN), Gate::At(until));
        assert_eq!(end(&mut breaker, &[(true, 3)], true), Effect::None, "they were under way before");
        assert_eq!(breaker.gate(until), Gate::Now);
        breaker.sent(7);
        assert_eq!(breaker.gate(until), Gate::AfterProbe);
        assert!(!breaker.answered(6) && breaker.answered(7));
        assert_eq!(breaker.gate(until), Gate::Now);
        assert_eq!(end(&mut breaker, &[(true, 9)], true), Effect::None, "the past is forgotten");

        assert!(matches!(end(&mut breaker, &[(true, 1)], true), Effect::Paused { .. }));
        breaker.sent(8);
        assert!(matches!(breaker.failed(8, until, true), Effect::Stopped { .. }));
    }

    #[test]
    fn what_no_waiting_helps_stops_at_once() {
        let effect = end(&mut Breaker::new(COOL_DOWN), &[(true, 10)], false);
        assert_eq!(effect, Effect::Stopped { failed: 10, attempts: 10 });
    }
}
