//! How the embedded teacher treats its callers: how long it takes, how many it lets in, and what it says of that.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a caller meets, whatever is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conduct {
    /// How long an answer takes, in milliseconds. Default 0.
    pub latency_ms: u64,
    /// Calls that are let in, by the second; further ones are asked to come back later (429). Default: all.
    pub requests_per_second: Option<f64>,
    /// Whether each reply tells the limit and what is left of it, in the headers of OpenAI. Default false.
    pub tells_limits: bool,
}

/// Lets calls in at a rate: as many as a second allows at once, and then as they come back.
#[derive(Debug)]
pub(super) struct Gate {
    rate: f64,
    level: f64,
    at: Instant,
}

/// What the gate says of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Admission {
    /// How long to wait, where the call is not let in.
    pub(super) wait: Option<Duration>,
    /// What is left.
    pub(super) remaining: u64,
    /// Calls that are let in in a minute.
    pub(super) limit: u64,
}

impl Gate {
    pub(super) fn new(conduct: &Conduct, now: Instant) -> Option<Self> {
        let rate = conduct.requests_per_second.filter(|rate| *rate > 0.0)?;
        Some(Self { rate, level: rate.max(1.0), at: now })
    }

    /// Lets a call in, or not.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + self.rate * passed).min(self.rate.max(1.0));
        self.at = now;
        let wait = if self.level >= 1.0 {
            self.level -= 1.0;
            None
        } else {
            Some(Duration::from_secs_f64((1.0 - self.level) / self.rate))
        };
        Admission { wait, remaining: self.level as u64, limit: (self.rate * 60.0).round() as u64 }
    }
}

impl Admission {
    /// The headers that tell the limit.
    pub(super) fn headers(&self) -> [(&'static str, String); 3] {
        let missing = self.limit.saturating_sub(self.remaining) as f64;
        let reset_s = if self.limit == 0 { 0.0 } else { missing * 60.0 / self.limit as f64 };
        [
            ("x-ratelimit-limit-requests", self.limit.to_string()),
            ("x-ratelimit-remaining-requests", self.remaining.to_string()),
            ("x-ratelimit-reset-requests", format!("{}ms", (reset_s * 1e3).round().min(60_000.0))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_in_what_its_rate_allows() {
        let start = Instant::now();
        let conduct = Conduct { requests_per_second: Some(10.0), ..Conduct::default() };
        let mut gate = Gate::new(&conduct, start).unwrap();
        let mut check = |at_ms: u64, calls: usize, expected: usize| {
            let now = start + Duration::from_millis(at_ms);
            let let_in = (0..calls).filter(|_| gate.admit(now).wait.is_none()).count();
            assert_eq!(let_in, expected, "{at_ms} ms");
        };
        check(0, 20, 10);
        check(500, 20, 5);
        check(550, 20, 0);
        check(600, 20, 1);
        check(10_000, 20, 10);
        assert!(Gate::new(&Conduct::default(), start).is_none());
    }
}
