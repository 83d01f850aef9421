//! One call to an OpenAI-compatible chat API, and every way in which it can fail.

mod batch;
mod failure;
mod quota;
mod reply;
mod request;

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
use nexa_core::lm::FinishReason;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::teacher::Endpoint;
use crate::{Error, Result};

pub use batch::{Batch, BatchReply};
pub use failure::{Billed, Failure, Unanswered};
pub use quota::{Allowance, Quota};
pub use reply::Usage;
pub use request::{Request, Sampling};

use reply::{Problem, read_completion};

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
    /// What the model thought before it answered, where the provider tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The log-probabilities of its tokens in the form of OpenAI, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
    /// Whether the provider says that the model refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_refusal: bool,
}

/// How a call ended, and what the provider said of its limits.
#[derive(Debug)]
pub struct Reply {
    /// The answer, or why there is none and what the call may have cost all the same.
    pub result: Result<Answer, Unanswered>,
    /// What is left of the limits.
    pub quota: Quota,
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

    /// Makes one call with the body of a [`Request`]. Messages never hold the key.
    pub async fn complete(&self, body: String) -> Reply {
        let mut quota = Quota::default();
        let result = self.call(body, &mut quota).await;
        Reply { result, quota }
    }

    async fn call(&self, body: String, quota: &mut Quota) -> Result<Answer, Unanswered> {
        let url = format!("{}/chat/completions", self.endpoint.base_url);
        let call = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        let (status, headers, text) = self.exchange(call).await?;
        *quota = Quota::read(&headers, Utc::now());
        // Scrubbed before it is cut to an excerpt: a key that lies across the cut would no longer be recognised.
        let clean = self.scrub(&text);
        if status.is_success() {
            return read_completion(&text, &self.endpoint.model)
                .or_else(|_| read_completion(&clean, &self.endpoint.model));
        }
        Err(Unanswered::refused(status, &headers, &Problem::read(&clean)))
    }

    /// Sends a call with the key, and takes its whole reply.
    async fn exchange(
        &self,
        mut call: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, HeaderMap, String), Unanswered> {
        if let Some(key) = &self.endpoint.key {
            call = call.bearer_auth(key.expose());
        }
        let words = |e: reqwest::Error| (e.is_timeout(), self.scrub(&describe(&e.without_url())));
        let response = match call.send().await {
            Ok(response) => response,
            Err(e) => return Err(Unanswered::without_reply(was_sent(&e), words(e))),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|e| Unanswered::broken_off(status, words(e)))?;
        Ok((status, headers, text))
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
    fn loopback_is_told_from_the_rest() {
        let check = |url: &str, expected: bool| assert_eq!(is_loopback(url), expected, "{url}");
        check("http://127.0.0.1:80/v1", true);
        check("http://[::1]:80/v1", true);
        check("http://localhost/v1", true);
        check("https://api.openai.com/v1", false);
    }
}
