//! When the next call may be sent: how many may be under way, how many may begin in a minute, and with how many tokens.
//!
//! Nothing here waits or reads a clock; the driver asks and says what time it is. One collection talks to one model of
//! one provider, and holds its lock, so there is one such state for each of them: stages of a pipeline that run at the
//! same time share no limits, as those that ask the same model have their turns, one after the other. What the second
//! would inherit of the first it learns with its first answers: headers come with each, and a burst of refusals is one
//! step.

mod bucket;
mod concurrency;

use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use crate::client::Quota;

use bucket::Bucket;
use concurrency::Concurrency;

/// The limits of a provider on one model, as far as they are known.
#[derive(Debug)]
pub(super) struct Limits {
    concurrency: Concurrency,
    requests: Bucket,
    tokens: Bucket,
    paused_until: Option<Instant>,
}

/// Whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ready {
    Now,
    /// Not before.
    At(Instant),
    /// Once one that is under way has ended.
    AfterAnother,
}

/// A call that was sent, with what was set aside for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    sent: Instant,
    tokens: f64,
}

impl Ticket {
    /// How long ago the call was sent.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.sent)
    }
}

impl Limits {
    /// The limits that are configured.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            concurrency: Concurrency::new(config.max_concurrent_requests),
            requests: Bucket::new(config.max_requests_per_minute, now),
            tokens: Bucket::new(config.max_tokens_per_minute, now),
            paused_until: None,
        }
    }

    /// Whether a call that is expected to use `tokens` may be sent now.
    pub(super) fn ready(&self, now: Instant, in_flight: usize, tokens: f64) -> Ready {
        if in_flight >= self.concurrency.allowed() {
            return Ready::AfterAnother;
        }
        let when = [self.paused_until, self.requests.ready_at(1.0, now), self.tokens.ready_at(tokens, now)];
        match when.into_iter().flatten().max() {
            Some(when) if when > now => Ready::At(when),
            _ => Ready::Now,
        }
    }

    /// Notes that a call is sent.
    pub(super) fn send(&mut self, now: Instant, tokens: f64) -> Ticket {
        self.requests.take(1.0, now);
        self.tokens.take(tokens, now);
        Ticket { sent: now, tokens }
    }

    /// Notes that a call has ended that used `tokens`; where nobody told, what was expected stays taken. What was set
    /// aside is put right however the call ended.
    pub(super) fn end(&mut self, now: Instant, ticket: Ticket, tokens: Option<f64>) {
        if let Some(used) = tokens {
            self.tokens.take(used - ticket.tokens, now);
        }
    }

    /// Notes that a call was answered.
    pub(super) fn succeed(&mut self) {
        self.concurrency.succeed();
    }

    /// Notes that the provider wants fewer calls: fewer are under way from now on, and none is sent for a while. Of the
    /// calls that were under way together only the first counts, as the others tell nothing new.
    pub(super) fn overload(&mut self, now: Instant, ticket: Ticket, wait: Duration, is_asked_for: bool) {
        let is_news = self.concurrency.overload(now, ticket.sent);
        if is_news || is_asked_for {
            self.paused_until = self.paused_until.max(Some(now + wait));
        }
    }

    /// Takes in what the provider says of its limits.
    pub(super) fn learn(&mut self, now: Instant, quota: &Quota) {
        if let Some(allowance) = &quota.requests {
            self.requests.learn(allowance, now);
        }
        if let Some(allowance) = &quota.tokens {
            self.tokens.learn(allowance, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Allowance;

    fn limits(change: fn(&mut Config)) -> (Limits, Instant) {
        let mut config = Config::default();
        change(&mut config);
        let now = Instant::now();
        (Limits::new(&config, now), now)
    }

    /// How many calls can be sent within a time, each of which ends at once with the tokens that it was expected to use.
    fn sent_within(limits: &mut Limits, start: Instant, seconds: u64, tokens: f64) -> usize {
        let end = start + Duration::from_secs(seconds);
        let (mut now, mut sent) = (start, 0);
        while sent < 1_000_000 {
            match limits.ready(now, 0, tokens) {
                Ready::Now => {
                    let ticket = limits.send(now, tokens);
                    limits.end(now, ticket, Some(tokens));
                    sent += 1;
                }
                Ready::At(when) if when <= end => now = when,
                Ready::At(_) | Ready::AfterAnother => break,
            }
        }
        sent
    }

    #[test]
    fn rates_are_used_and_not_exceeded() {
        let check = |change: fn(&mut Config), tokens: f64, expected: usize| {
            let (mut limits, now) = limits(change);
            // A full bucket is let out at first; from then on it is the rate alone.
            sent_within(&mut limits, now, 60, tokens);
            let later = now + Duration::from_secs(60);
            let sent = sent_within(&mut limits, later, 60, tokens);
            assert!(sent.abs_diff(expected) <= 1, "{sent} {expected}");
        };
        check(|config| config.max_requests_per_minute = Some(6_000), 9.0, 6_000);
        check(|config| config.max_requests_per_minute = Some(3), 9.0, 3);
        check(|config| config.max_tokens_per_minute = Some(6_000), 60.0, 100);
        // A call that needs more than a bucket holds goes out all the same, and is made up for.
        check(|config| config.max_tokens_per_minute = Some(600), 1_200.0, 1);
    }

    #[test]
    fn what_is_set_aside_is_put_right() {
        let (mut limits, now) = limits(|config| config.max_tokens_per_minute = Some(6_000));
        let check = |limits: &mut Limits, used: Option<f64>, expected_s: f64| {
            let ticket = limits.send(now, 150.0);
            limits.end(now, ticket, used);
            let wait = match limits.ready(now, 0, 50.0) {
                Ready::At(when) => (when - now).as_secs_f64(),
                other => panic!("{other:?}"),
            };
            assert!((wait - expected_s).abs() < 1e-3, "{wait} {expected_s}");
            limits.tokens = Bucket::new(Some(6_000), now);
        };
        // The bucket holds 50: half a second.
        check(&mut limits, None, 1.5);
        check(&mut limits, Some(100.0), 1.0);
        check(&mut limits, Some(300.0), 3.0);
        let ticket = limits.send(now, 150.0);
        limits.end(now, ticket, Some(0.0));
        assert_eq!(limits.ready(now, 0, 50.0), Ready::Now, "a call that failed gives everything back");
    }

    #[test]
    fn headers_lower_a_rate_and_tell_what_others_used() {
        let (mut limits, now) = limits(|_| ());
        assert_eq!(limits.ready(now, 0, 1e9), Ready::Now);
        let requests = Allowance { limit: 60, remaining: 0, window: Duration::from_secs(60) };
        limits.learn(now, &Quota { requests: Some(requests), tokens: None });
        assert_eq!(limits.ready(now, 0, 1.0), Ready::At(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_burst_of_refusals_is_one_step() {
        let (mut limits, now) = limits(|config| config.max_concurrent_requests = 16);
        let tickets: Vec<_> = (0..16).map(|_| limits.send(now, 0.0)).collect();
        let second = Duration::from_secs(1);
        let refused_at = now + second;
        for ticket in tickets {
            limits.overload(refused_at, ticket, second, false);
        }
        assert_eq!(limits.ready(refused_at, 0, 0.0), Ready::At(refused_at + second));
        let later = refused_at + second;
        assert_eq!(limits.ready(later, 11, 0.0), Ready::Now);
        assert_eq!(limits.ready(later, 12, 0.0), Ready::AfterAnother);
    }
}
