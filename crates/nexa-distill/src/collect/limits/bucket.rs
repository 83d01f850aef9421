//! A token bucket: what may be used at once, and how fast it comes back.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::Allowance;

/// How much of a rate may be used at once. Little, so that a minute that begins with a full bucket hardly exceeds the
/// rate; enough that a timer that fires late loses nothing.
const BURST: Duration = Duration::from_millis(500);

/// A limit on a rate; without one, everything is allowed.
#[derive(Debug)]
pub(super) struct Bucket {
    /// What the configuration allows, by the second.
    configured: Option<f64>,
    /// What is allowed, by the second: the lower of the configuration and what the provider says.
    rate: Option<f64>,
    /// What is left; below 0 where a call used more than was there.
    level: f64,
    /// When that was so.
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: Option<u64>, now: Instant) -> Self {
        let rate = per_minute.map(|limit| limit as f64 / 60.0);
        Self { configured: rate, rate, level: rate.map_or(0.0, capacity), at: now }
    }

    /// When an amount can be taken, where that is not always. An amount that no bucket holds waits for a full one.
    pub(super) fn ready_at(&self, amount: f64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let missing = amount.min(capacity(rate)) - self.level_at(rate, now);
        Some(if missing <= 1e-9 { now } else { now + Duration::from_secs_f64(missing / rate) })
    }

    /// Takes an amount, or gives it back where it is negative.
    pub(super) fn take(&mut self, amount: f64, now: Instant) {
        if let Some(rate) = self.rate {
            self.settle(rate, now);
            self.level = (self.level - amount).min(capacity(rate));
        }
    }

    /// Takes in what the provider says. What it has left is the most that there can be: others may use the account.
    pub(super) fn learn(&mut self, allowance: &Allowance, now: Instant) {
        let told = allowance.limit as f64 / allowance.window.as_secs_f64();
        let rate = self.configured.map_or(told, |configured| configured.min(told));
        if self.rate.is_none() {
            self.level = capacity(rate);
            self.at = now;
        }
        self.settle(self.rate.unwrap_or(rate), now);
        self.rate = Some(rate);
        self.level = self.level.min(allowance.remaining as f64).min(capacity(rate));
    }

    fn settle(&mut self, rate: f64, now: Instant) {
        self.level = self.level_at(rate, now);
        self.at = now;
    }

    fn level_at(&self, rate: f64, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + rate * seconds).min(capacity(rate))
    }
}

/// The most that a bucket holds; a single call can always be made.
fn capacity(rate: f64) -> f64 {
    (rate * BURST.as_secs_f64()).max(1.0)
}
