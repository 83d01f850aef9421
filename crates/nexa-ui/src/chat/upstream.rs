//! The client: one connection for each request, no redirects, no proxies, nothing from the browser but the body.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::{Chat, ServerAddress};
use crate::server::{Ui, stopping};
use crate::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a server may take to say what it serves.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is held in memory: what a server says of itself, errors, and answers that are not streamed.
const MAX_WHOLE_BYTES: usize = 4 << 20;
/// The type of an answer that is handed on as it comes.
const EVENTS: &str = "text/event-stream";
/// What the browser is told of the head of an answer, besides its type.
const PASSED_BACK: [&str; 2] = ["retry-after", "x-request-id"];

/// The servers, and the way to them.
pub(crate) struct Upstream {
    pub(crate) servers: Vec<ServerAddress>,
    authorization: Option<HeaderValue>,
    http: Client<HttpConnector, Body>,
}

impl Upstream {
    /// Makes it ready to ask the servers of a chat.
    ///
    /// # Errors
    /// Fails when no header can carry the key.
    pub(crate) fn new(chat: Chat) -> Result<Self> {
        let authorization = match chat.api_key {
            None => None,
            Some(key) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| Error::BadKey)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        // A connection that is not used again is closed as soon as nobody reads from it, and the server sees that.
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { servers: chat.servers, authorization, http })
    }

    /// The server that a page means; the first, where it names none.
    ///
    /// # Errors
    /// Fails when the user named no such server.
    pub(crate) fn find(&self, given: &str) -> Result<&ServerAddress> {
        let found = self.servers.iter().find(|server| given.is_empty() || server.as_str() == given);
        found.ok_or_else(|| Error::NoServer { given: given.to_owned() })
    }

    /// Asks a server about itself. A body that is not JSON is `null`.
    ///
    /// # Errors
    /// Fails when it does not answer in time.
    pub(super) async fn get(&self, server: &ServerAddress, path: &str) -> Result<(StatusCode, Value)> {
        let asked = async {
            let answer = self.send(server, Method::GET, path, Body::empty()).await?;
            let status = answer.status();
            let body = whole(server, answer).await?;
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let late = |_| unreachable(server, format!("no answer within {} s", INFO_TIMEOUT.as_secs()));
        tokio::time::timeout(INFO_TIMEOUT, asked).await.map_err(late)?
    }

    /// Sends a request and waits for the head of the answer. It may take as long as it takes, for a request may wait in a
    /// queue: whoever is tired of waiting drops this.
    async fn send(
        &self,
        server: &ServerAddress,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(format!("http://{server}{path}"));
        if let Some(key) = &self.authorization {
            request = request.header(header::AUTHORIZATION, key);
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| unreachable(server, e.to_string()))?;
        let answer = self.http.request(request).await.map_err(|e| unreachable(server, cause(&e)))?;
        Ok(answer.map(Body::new))
    }
}

/// Passes a conversation on to a server, and its answer back: as it comes, where it is a stream of events.
///
/// # Errors
/// Fails when the user did not name the server, or it does not answer. What it refuses is an answer.
pub(crate) async fn complete(ui: &Ui, server: &str, conversation: Bytes) -> Result<Response> {
    let server = ui.upstream.find(server)?;
    let path = "/v1/chat/completions";
    let answer = ui.upstream.send(server, Method::POST, path, Body::from(conversation)).await?;
    let status = answer.status();
    let mut headers = HeaderMap::new();
    for name in PASSED_BACK {
        if let Some(value) = answer.headers().get(name) {
            headers.insert(name, value.clone());
        }
    }
    let content_type = content_type(answer.headers());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type != EVENTS {
        return Ok((status, headers, whole(server, answer).await?).into_response());
    }
    // Proxies before us would hold the text back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let events = answer.into_body().into_data_stream().take_until(stopping(ui.stopped.clone()));
    Ok((status, headers, Body::from_stream(events)).into_response())
}

/// The type of an answer, among those that a page of ours may be given: nothing that a browser would render.
fn content_type(headers: &HeaderMap) -> &'static str {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = [EVENTS, "application/json"].into_iter().find(|known| found.starts_with(known));
    known.unwrap_or("text/plain; charset=utf-8")
}

async fn whole(server: &ServerAddress, answer: Response<Body>) -> Result<Bytes> {
    to_bytes(answer.into_body(), MAX_WHOLE_BYTES).await.map_err(|e| unreachable(server, cause(&e)))
}

fn unreachable(server: &ServerAddress, message: String) -> Error {
    Error::Unreachable { server: server.to_string(), message }
}

/// What an error comes down to; the layers above it only say that there is one.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().to_lowercase()
}
