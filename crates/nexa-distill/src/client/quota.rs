//! What a provider says of its limits beside each reply: how much there is, how much is left, when it is whole again.
//!
//! # Source
//! The `x-ratelimit-*` headers of OpenAI, which Groq, Together and others send as well, and Anthropic's
//! `anthropic-ratelimit-*`. The former give the time until a limit is whole as a duration, the latter as a date.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;

/// What is left of the limits on requests and on tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quota {
    /// The limit on requests.
    pub requests: Option<Allowance>,
    /// The limit on tokens.
    pub tokens: Option<Allowance>,
}

/// A limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// How much is allowed in a window.
    pub limit: u64,
    /// How much of that is left now.
    pub remaining: u64,
    /// The window.
    pub window: Duration,
}

/// The window of every limit that does not give itself away as longer.
const MINUTE: Duration = Duration::from_secs(60);

impl Quota {
    /// Reads the headers of a reply.
    pub(super) fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let of = |what: &str| {
            Allowance::read(headers, now, |part| format!("x-ratelimit-{part}-{what}")).or_else(|| {
                Allowance::read(headers, now, |part| format!("anthropic-ratelimit-{what}-{part}"))
            })
        };
        Self { requests: of("requests"), tokens: of("tokens") }
    }
}

impl Allowance {
    fn read(headers: &HeaderMap, now: DateTime<Utc>, name: impl Fn(&str) -> String) -> Option<Self> {
        let text = |part: &str| headers.get(name(part))?.to_str().ok().map(str::trim);
        let limit: u64 = text("limit")?.parse().ok().filter(|limit| *limit > 0)?;
        let remaining: u64 = text("remaining")?.parse().ok()?;
        let reset = text("reset").and_then(|text| wait(text, now)).unwrap_or_default();
        Some(Self { limit, remaining, window: window(limit, remaining, reset) })
    }
}

/// The window of a limit that is whole again after `reset`. What takes longer than a minute is no limit for a minute:
/// the used part comes back in `reset`, so the whole does in proportion.
fn window(limit: u64, remaining: u64, reset: Duration) -> Duration {
    let used = limit.saturating_sub(remaining);
    if reset <= MINUTE || used == 0 { MINUTE } else { reset.mul_f64(limit as f64 / used as f64) }
}

/// Reads a wait: seconds, a duration such as `6m0s` or `20ms`, or a date.
fn wait(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return Some((date.to_utc() - now).to_std().unwrap_or_default());
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let seconds = match &after[..letters] {
            "ms" => amount / 1e3,
            "s" => amount,
            "m" => amount * 60.0,
            "h" => amount * 3_600.0,
            "d" => amount * 86_400.0,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(seconds).ok()?;
        rest = &after[letters..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc()
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(wait(text, now()).map(|wait| wait.as_secs_f64()), expected, "{text}");
        };
        check("12", Some(12.0));
        check("1s", Some(1.0));
        check("6m0s", Some(360.0));
        check("20ms", Some(0.02));
        check("1h2m3.5s", Some(3_723.5));
        check("2026-01-01T00:00:30Z", Some(30.0));
        check("2025-12-31T23:00:00+00:00", Some(0.0));
        check("soon", None);
        check("3 weeks", None);
    }

    #[test]
    fn the_limits_of_both_families_are_read() {
        let check = |headers: &[(&str, &str)], expected: Option<(u64, u64, u64)>| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
                .collect();
            let found = Quota::read(&headers, now()).requests;
            assert_eq!(found.map(|a| (a.limit, a.remaining, a.window.as_secs())), expected, "{headers:?}");
        };
        let openai = |limit, remaining, reset| {
            [
                ("x-ratelimit-limit-requests", limit),
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", reset),
            ]
        };
        check(&openai("60", "59", "1s"), Some((60, 59, 60)));
        // 30 of 14,400 requests come back in three minutes: it is the limit of a day.
        check(&openai("14400", "14370", "3m0s"), Some((14_400, 14_370, 86_400)));
        check(&openai("0", "0", "1s"), None);
        check(&openai("many", "59", "1s"), None);
        check(
            &[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:20Z"),
            ],
            Some((50, 0, 60)),
        );
        check(&[], None);
    }
}
