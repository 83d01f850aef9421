//! One call to an OpenAI-compatible chat API, and every way in which it can fail.

mod failure;
mod reply;

use std::error::Error as _;
use std::time::Duration;

use nexa_core::lm::{ChatMessage, FinishReason};
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::teacher::{Endpoint, Provider};
use crate::{Error, Result};

pub use failure::{Billed, Failure, Unanswered};
pub use reply::Usage;

use reply::{Problem, read_completion};

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
    /// What it used, as far as that was reported.
    #[serde(flatten)]
    pub usage: Usage,
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
    /// Fails with the kind of failure and what the call may have cost; messages never hold the key.
    pub async fn complete(&self, request: &Request) -> Result<Answer, Unanswered> {
        let url = format!("{}/chat/completions", self.endpoint.base_url);
        let body = body(&self.endpoint, request).to_string();
        let mut call = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = &self.endpoint.key {
            call = call.bearer_auth(key.expose());
        }
        let words = |e: reqwest::Error| self.scrub(&describe(&e.without_url()));
        let response = match call.send().await {
            Ok(response) => response,
            Err(e) => return Err(Unanswered::without_reply(was_sent(&e), words(e))),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|e| Unanswered::broken_off(status, words(e)))?;
        // Scrubbed before it is cut to an excerpt: a key that lies across the cut would no longer be recognised.
        let clean = self.scrub(&text);
        if status.is_success() {
            return read_completion(&text, &self.endpoint.model)
                .or_else(|_| read_completion(&clean, &self.endpoint.model));
        }
        Err(Unanswered::refused(status, &headers, &Problem::read(&clean)))
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

/// Whether the provider may have received a call that failed.
fn was_sent(error: &reqwest::Error) -> bool {
    !error.is_connect() && !error.is_builder()
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
