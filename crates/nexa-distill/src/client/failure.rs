//! Every way in which a call can fail, and what it may have cost all the same.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::reply::{Problem, Usage};

/// Why a call was not answered. What kind it is decides what happens next.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The provider wants fewer calls (429, 529, or 503 with a time to come back).
    RateLimited {
        /// How long to wait, where it said so.
        retry_after: Option<Duration>,
        /// Its words.
        message: String,
    },
    /// The provider failed (5xx, 408, 425).
    Server(String),
    /// The provider was not reached, or the connection broke.
    Connection(String),
    /// The provider was too slow.
    Timeout(String),
    /// What came back is no chat completion.
    Malformed(String),
    /// The key was refused (401, 403).
    Auth(String),
    /// The account is empty (402, or a quota that no waiting restores).
    NoCredit(String),
    /// The model or the path does not exist (404).
    NotFound(String),
    /// The provider does not accept this request (400 and the other 4xx); asking again would not help.
    BadRequest(String),
}

impl Failure {
    /// The word for the kind, as it stands in tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Server(_) => "server_error",
            Self::Connection(_) => "connection",
            Self::Timeout(_) => "timeout",
            Self::Malformed(_) => "malformed",
            Self::Auth(_) => "auth",
            Self::NoCredit(_) => "no_credit",
            Self::NotFound(_) => "not_found",
            Self::BadRequest(_) => "bad_request",
        }
    }

    /// What the provider or the system said.
    pub fn message(&self) -> &str {
        match self {
            Self::RateLimited { message, .. }
            | Self::Server(message)
            | Self::Connection(message)
            | Self::Timeout(message)
            | Self::Malformed(message)
            | Self::Auth(message)
            | Self::NoCredit(message)
            | Self::NotFound(message)
            | Self::BadRequest(message) => message,
        }
    }

    /// Whether the same request will fail again whenever it is made; the others fail in passing.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::BadRequest(_))
    }
}

/// What a call that was not answered is charged.
///
/// A provider bills what it has computed, whether or not the answer arrives. The rule:
///
/// - A reply that states its usage is charged that, whatever its status.
/// - Nothing is charged where nothing can have been computed: the connection was not made, or the status is none of
///   success (429, 401, 400, 404, …). That holds for 5xx as well: providers do not bill their own failures.
/// - Everything else may have been computed: a timeout, a connection that broke after the call was sent, a reply of
///   success that is no answer, a call that was cut off. It is charged its worst case, as an assumption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Billed {
    /// Nothing.
    Nothing,
    /// What the reply states.
    Stated(Usage),
    /// Nobody told.
    Unknown,
}

/// A call that was not answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Unanswered {
    /// Why not.
    pub failure: Failure,
    /// What it is charged.
    pub billed: Billed,
}

impl Unanswered {
    /// A call to which no reply came.
    pub(super) fn without_reply(was_sent: bool, words: (bool, String)) -> Self {
        let billed = if was_sent { Billed::Unknown } else { Billed::Nothing };
        Self { failure: lost(words), billed }
    }

    /// A call whose reply broke off after its status.
    pub(super) fn broken_off(status: StatusCode, words: (bool, String)) -> Self {
        let billed = if status.is_success() { Billed::Unknown } else { Billed::Nothing };
        Self { failure: lost(words), billed }
    }

    /// A call whose reply has a status that is none of success.
    pub(super) fn refused(status: StatusCode, headers: &HeaderMap, problem: &Problem) -> Self {
        let message = format!("{status}: {}", problem.message);
        let wish = retry_after(headers, Utc::now());
        let failure = match status.as_u16() {
            429 if problem.code.as_deref() == Some("insufficient_quota") => Failure::NoCredit(message),
            // 529 is Anthropic's word for too much work; a 503 that says when to come back means the same.
            429 | 529 => Failure::RateLimited { retry_after: wish, message },
            503 if wish.is_some() => Failure::RateLimited { retry_after: wish, message },
            401 | 403 => Failure::Auth(message),
            402 => Failure::NoCredit(message),
            404 => Failure::NotFound(message),
            408 | 425 => Failure::Server(message),
            400..=499 => Failure::BadRequest(message),
            500..=599 => Failure::Server(message),
            _ => Failure::Malformed(message),
        };
        Self { failure, billed: problem.usage.map_or(Billed::Nothing, Billed::Stated) }
    }
}

/// A connection that gave no reply, in words and whether the time was up.
fn lost((was_slow, message): (bool, String)) -> Failure {
    if was_slow { Failure::Timeout(message) } else { Failure::Connection(message) }
}

/// Reads how long a provider asks to wait: `retry-after-ms`, which is exact, else `Retry-After` as seconds or a date.
///
/// # Source
/// RFC 9110, section 10.2.3; the former is what OpenAI sends and its own clients read first.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let exact = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    if let Some(wait) = exact.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()) {
        return Some(wait);
    }
    let text = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    // A date that has passed asks for no wait.
    Some((date.to_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        let check = |text: &str, expected: Option<f64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs_f64()), expected, "{text}");
        };
        check("7", Some(7.0));
        check("0.5", Some(0.5));
        check("Thu, 01 Jan 2026 00:01:30 GMT", Some(90.0));
        check("Wed, 31 Dec 2025 00:00:00 GMT", Some(0.0));
        check("-1", None);
        check("soon", None);
        let both = [("retry-after-ms", "1500"), ("retry-after", "2")]
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        assert_eq!(retry_after(&HeaderMap::from_iter(both), now), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn a_status_decides_what_happens_next_and_that_nothing_is_charged() {
        let check = |status: u16, code: Option<&str>, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let problem = Problem { code: code.map(str::to_owned), ..Problem::default() };
            let found = Unanswered::refused(status, &HeaderMap::new(), &problem);
            assert_eq!((found.failure.kind(), found.billed), (expected, Billed::Nothing), "{status}");
        };
        check(429, None, "rate_limited");
        check(429, Some("insufficient_quota"), "no_credit");
        check(401, None, "auth");
        check(403, None, "auth");
        check(402, None, "no_credit");
        check(404, None, "not_found");
        check(400, None, "bad_request");
        check(422, None, "bad_request");
        check(408, None, "server_error");
        check(503, None, "server_error");
        check(529, None, "rate_limited");
        check(302, None, "malformed");
    }

    #[test]
    fn a_reply_that_breaks_off_is_charged_where_its_status_is_one_of_success() {
        let check = |status: u16, expected: Billed| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Unanswered::broken_off(status, (false, String::new())).billed, expected, "{status}");
        };
        check(200, Billed::Unknown);
        check(429, Billed::Nothing);
        check(502, Billed::Nothing);
    }
}
