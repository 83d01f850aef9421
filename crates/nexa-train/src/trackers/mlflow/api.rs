//! Calls of MLflow's REST API: bounded in time and size, without redirects, and silent about passwords.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nexa_core::env::{Environment, Secret};
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use crate::trackers::Failure;

/// How long a call may take in all. A server that is there answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read: a run with all its parameters and tags.
const ANSWER_BYTES: u64 = 1 << 24;
/// Characters of a server's words that are shown.
const MESSAGE_CHARS: usize = 300;

/// A server.
pub(super) struct Api {
    agent: Agent,
    base: String,
    authorization: Option<Secret>,
}

/// What a server has against a call.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// MLflow's word for it, such as `RESOURCE_DOES_NOT_EXIST`.
    pub(super) code: String,
    /// The server's words.
    pub(super) message: String,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, message, .. } = refusal;
        let advice = match status {
            401 | 403 => {
                "; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            }
            300..=399 => "; give the address that it points to",
            _ => "",
        };
        Self::Refused(format!("the server answered {status}: {message}{advice}"))
    }
}

impl Api {
    /// Makes a client of a server.
    pub(super) fn new(uri: &str, environment: &Environment) -> Result<Self, String> {
        let (base, is_loopback) = base_url(uri)?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            // What runs on this machine must not be looked for behind a proxy.
            .proxy(if is_loopback { None } else { Proxy::try_from_env() })
            .tls_config(tls)
            .user_agent("nexa")
            .build()
            .new_agent();
        Ok(Self { agent, base, authorization: authorization(environment) })
    }

    /// The address of the server.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for something.
    pub(super) fn get(&self, call: &str, query: &[(&str, &str)]) -> Result<Result<Value, Refusal>, Failure> {
        let mut request = self.agent.get(self.url(call)).query_pairs(query.iter().copied());
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.expose());
        }
        self.read(request.call())
    }

    /// Sends something.
    pub(super) fn post(&self, call: &str, body: &Value) -> Result<Result<Value, Refusal>, Failure> {
        let mut request = self.agent.post(self.url(call)).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.expose());
        }
        self.read(request.send(body.to_string()))
    }

    fn url(&self, call: &str) -> String {
        format!("{}/api/2.0/mlflow/{call}", self.base)
    }

    /// Tells an answer, a refusal and a failure that may pass apart.
    fn read(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Result<Value, Refusal>, Failure> {
        let away =
            |problem: String| Failure::Unavailable(format!("{} cannot be reached: {problem}", self.base));
        let mut response = response.map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Refused(format!("{}: {e}", self.base)),
            e => away(e.to_string()),
        })?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
        let body = body.map_err(|e| away(e.to_string()))?;
        let value = serde_json::from_str::<Value>(&body);
        match (status, value) {
            (200..=299, Ok(value)) => Ok(Ok(value)),
            (200..=299, Err(_)) => Err(Failure::Refused(format!("{} is no MLflow server", self.base))),
            (408 | 425 | 429 | 500..=599, value) => {
                Err(away(format!("it answered {status}: {}", message(value.ok().as_ref(), &body))))
            }
            (_, value) => {
                let value = value.ok();
                let code = value.as_ref().and_then(|value| value["error_code"].as_str()).unwrap_or_default();
                Ok(Err(Refusal { status, code: code.to_owned(), message: message(value.as_ref(), &body) }))
            }
        }
    }
}

/// Takes an address apart: the part before the API's path, and whether it is of this machine.
pub(super) fn base_url(uri: &str) -> Result<(String, bool), String> {
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Err("must begin with `http://` or `https://`: start a server with `mlflow server`".to_owned());
    }
    // An unusable address is not repeated: a password may stand in it.
    let parsed: Uri = uri.parse().map_err(|e| format!("is no address: {e}"))?;
    let authority = parsed.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(
            "must hold no password: use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD".to_owned()
        );
    }
    let host = parsed.host().filter(|host| !host.is_empty()).ok_or("has no host")?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    Ok((uri.trim_end_matches('/').to_owned(), is_loopback))
}

/// The credentials of the environment, as MLflow's own client takes them: a user's name goes before a token.
fn authorization(environment: &Environment) -> Option<Secret> {
    if let Some(user) = environment.get("MLFLOW_TRACKING_USERNAME") {
        let password = environment.get("MLFLOW_TRACKING_PASSWORD");
        let password = password.as_ref().map_or("", Secret::expose);
        let pair = STANDARD.encode(format!("{}:{password}", user.expose()));
        return Some(Secret::new(format!("Basic {pair}")));
    }
    let token = environment.get("MLFLOW_TRACKING_TOKEN")?;
    Some(Secret::new(format!("Bearer {}", token.expose())))
}

/// What a server said, shortly and on one line.
fn message(value: Option<&Value>, body: &str) -> String {
    let words = value.and_then(|value| value["message"].as_str()).unwrap_or(body);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_mlflow_and_are_not_shown() {
        let check = |env: &str, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(".env"), env).unwrap();
            let found = authorization(&Environment::load(folder.path()).unwrap()).unwrap();
            assert_eq!(found.expose(), expected);
            assert_eq!(format!("{found:?}"), "Secret(…)");
        };
        check("MLFLOW_TRACKING_TOKEN=abc", "Bearer abc");
        check("MLFLOW_TRACKING_USERNAME=ada\nMLFLOW_TRACKING_PASSWORD=pw", "Basic YWRhOnB3");
    }
}
