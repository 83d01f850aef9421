//! One call to an OpenAI-compatible chat API, and every way in which it can fail.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nexa_core::lm::{ChatMessage, FinishReason};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::teacher::{Endpoint, Provider};
use crate::{Error, Result};

/// What is asked of a teacher. Everything in it determines the answer, and nothing else does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus sampling; the provider's default where absent.
    pub top_p: Option<f64>,
    /// The longest answer, in tokens.
    pub max_tokens: u64,
    /// The seed of this sample.
    pub seed: u64,
    /// Which of several samples for one prompt this is.
    pub sample_index: u32,
}

/// What a teacher answered, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The model that answered, as the provider named it.
    pub model_id: String,
    /// Tokens of the prompt, where reported.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, where reported.
    pub completion_tokens: Option<u64>,
    /// US dollars, where the provider reported them.
    pub reported_usd: Option<f64>,
}

/// Why a call was not answered. What kind it is decides what happens next.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The provider wants fewer calls (429).
    RateLimited {
        /// How long to wait, where it said so.
        retry_after: Option<Duration>,
        /// Its words.
        message: String,
    },
    /// The provider failed (5xx, 408, 425).
    Server(String),
    /// The provider was not reached, or was too slow.
    Connection(String),
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
            | Self::Malformed(message)
            | Self::Auth(message)
            | Self::NoCredit(message)
            | Self::NotFound(message)
            | Self::BadRequest(message) => message,
        }
    }
}

/// A client of one teacher.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

impl Client {
    /// Makes a client whose calls take at most `timeout`.
    ///
    /// # Errors
    /// Fails when the HTTP client cannot be made.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Result<Self> {
        install_crypto();
        let mut builder =
            reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        if is_loopback(&endpoint.base_url) {
            // What runs on this machine must not be looked for behind a proxy.
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|e| Error::Start { what: "the HTTP client", message: describe(&e) })?;
        Ok(Self { http, endpoint })
    }

    /// Where calls go.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes one call.
    ///
    /// # Errors
    /// Fails with the kind of failure; messages never hold the key.
    pub async fn complete(&self, request: &Request) -> Result<Answer, Failure> {
        let url = format!("{}/chat/completions", self.endpoint.base_url);
        let body = body(&self.endpoint, request).to_string();
        let mut call = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = &self.endpoint.key {
            call = call.bearer_auth(key.expose());
        }
        let failed = |e: reqwest::Error| Failure::Connection(self.scrub(&describe(&e.without_url())));
        let response = call.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(failed)?;
        // Scrubbed before it is cut to an excerpt: a key that lies across the cut would no longer be recognised.
        let clean = self.scrub(&text);
        if status.is_success() {
            return read_completion(&text, &self.endpoint.model)
                .or_else(|_| read_completion(&clean, &self.endpoint.model));
        }
        let (message, code) = read_problem(&clean);
        let message = format!("{status}: {message}");
        Err(classify(status, &headers, code.as_deref(), message, Utc::now()))
    }

    /// Takes the key out of words that came from outside.
    fn scrub(&self, message: &str) -> String {
        match &self.endpoint.key {
            Some(key) => message.replace(key.expose(), "…"),
            None => message.to_owned(),
        }
    }
}

/// Installs the cryptography of TLS, once for the process.
fn install_crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Another part of the process may have installed one; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn is_loopback(base_url: &str) -> bool {
    reqwest::Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned)).is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// The request in the words of the provider.
fn body(endpoint: &Endpoint, request: &Request) -> Value {
    let mut body = json!({
        "model": endpoint.model,
        "messages": request.messages,
        "temperature": request.temperature,
    });
    // OpenAI's newer models refuse `max_tokens`, Mistral refuses `seed`; the others take both.
    let max_tokens =
        if endpoint.provider == Provider::OpenAi { "max_completion_tokens" } else { "max_tokens" };
    let seed = if endpoint.provider == Provider::Mistral { "random_seed" } else { "seed" };
    body[max_tokens] = json!(request.max_tokens);
    body[seed] = json!(request.seed);
    if let Some(top_p) = request.top_p {
        body["top_p"] = json!(top_p);
    }
    if endpoint.provider == Provider::OpenRouter {
        // Asks for the cost of the call in its answer.
        body["usage"] = json!({"include": true});
    }
    body
}

/// The parts of a chat completion that matter here.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    cost: Option<f64>,
}

fn read_completion(text: &str, model: &str) -> Result<Answer, Failure> {
    let completion: Completion = match serde_json::from_str(text) {
        Ok(completion) => completion,
        // Some gateways report a failure of what is behind them with status 200.
        Err(_) if text.contains("\"error\"") => return Err(Failure::Server(read_problem(text).0)),
        Err(e) => return Err(Failure::Malformed(format!("{e}: {}", excerpt(text)))),
    };
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err(Failure::Malformed(format!("no choices: {}", excerpt(text))));
    };
    let (prompt_tokens, completion_tokens, reported_usd) = completion
        .usage
        .map_or((None, None, None), |usage| (usage.prompt_tokens, usage.completion_tokens, usage.cost));
    Ok(Answer {
        // An answer without text, such as a withheld one, is empty; the gates decide about it.
        text: choice.message.content.unwrap_or_default(),
        finish_reason: match choice.finish_reason.as_deref() {
            Some("length" | "max_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Stop,
        },
        model_id: completion.model.unwrap_or_else(|| model.to_owned()),
        prompt_tokens,
        completion_tokens,
        reported_usd,
    })
}

/// What a provider says is wrong, and its code for it.
fn read_problem(text: &str) -> (String, Option<String>) {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let error = value.get("error").unwrap_or(&value);
    let message = error.get("message").or(Some(error)).and_then(Value::as_str).map(excerpt);
    let code = error.get("code").or_else(|| error.get("type")).and_then(Value::as_str).map(str::to_owned);
    (message.unwrap_or_else(|| excerpt(text)), code)
}

/// The beginning of a text, on one line.
fn excerpt(text: &str) -> String {
    const CHARACTERS: usize = 200;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "(no text)".to_owned(),
        None => line,
    }
}

fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&str>,
    message: String,
    now: DateTime<Utc>,
) -> Failure {
    match status.as_u16() {
        429 if code == Some("insufficient_quota") => Failure::NoCredit(message),
        429 => Failure::RateLimited { retry_after: retry_after(headers, now), message },
        401 | 403 => Failure::Auth(message),
        402 => Failure::NoCredit(message),
        404 => Failure::NotFound(message),
        408 | 425 => Failure::Server(message),
        400..=499 => Failure::BadRequest(message),
        500..=599 => Failure::Server(message),
        _ => Failure::Malformed(message),
    }
}

/// Reads `Retry-After`: seconds, or a date.
///
/// # Source
/// RFC 9110, section 10.2.3.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    // A date that has passed asks for no wait.
    Some((date.to_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

/// An error with its causes: reqwest's own message says little.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
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
    }

    #[test]
    fn a_status_decides_what_happens_next() {
        let check = |status: u16, code: Option<&str>, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = classify(status, &HeaderMap::new(), code, String::new(), Utc::now());
            assert_eq!(failure.kind(), expected, "{status}");
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
        check(302, None, "malformed");
    }

    #[test]
    fn completions_are_read_whatever_is_left_out() {
        let check = |text: &str, expected: Result<(&str, FinishReason), &str>| {
            let found = read_completion(text, "m");
            let found = found.as_ref().map(|a| (a.text.as_str(), a.finish_reason)).map_err(Failure::kind);
            assert_eq!(found, expected, "{text}");
        };
        let choice = |inner: &str| format!("{{\"choices\": [{inner}]}}");
        check(&choice(r#"{"message": {"content": "hi"}}"#), Ok(("hi", FinishReason::Stop)));
        check(
            &choice(r#"{"message": {"content": null}, "finish_reason": "content_filter"}"#),
            Ok(("", FinishReason::ContentFilter)),
        );
        check(&choice(r#"{"message": {}, "finish_reason": "length"}"#), Ok(("", FinishReason::Length)));
        check(r#"{"choices": []}"#, Err("malformed"));
        check("<html>gateway</html>", Err("malformed"));
        check(r#"{"error": {"message": "upstream", "code": 502}}"#, Err("server_error"));
    }

    #[test]
    fn each_provider_gets_its_own_words() {
        let request = Request {
            messages: Vec::new(),
            temperature: 0.5,
            top_p: None,
            max_tokens: 9,
            seed: 3,
            sample_index: 0,
        };
        let check = |provider: Provider, present: &[&str], absent: &[&str]| {
            let endpoint = Endpoint { provider, base_url: String::new(), model: "m".to_owned(), key: None };
            let body = body(&endpoint, &request);
            assert!(present.iter().all(|key| body.get(key).is_some()), "{body}");
            assert!(absent.iter().all(|key| body.get(key).is_none()), "{body}");
        };
        check(Provider::OpenAi, &["max_completion_tokens", "seed"], &["max_tokens", "top_p", "usage"]);
        check(Provider::Mistral, &["max_tokens", "random_seed"], &["seed"]);
        check(Provider::OpenRouter, &["max_tokens", "seed", "usage"], &[]);
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let check = |url: &str, expected: bool| assert_eq!(is_loopback(url), expected, "{url}");
        check("http://127.0.0.1:80/v1", true);
        check("http://[::1]:80/v1", true);
        check("http://localhost/v1", true);
        check("https://api.openai.com/v1", false);
    }
}
