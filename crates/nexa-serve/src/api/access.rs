//! What stands before every handler: the request id, the host and the API key.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::reply::random_hex;
use super::state::Served;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The longest request id that is echoed; a longer one is replaced.
const MAX_REQUEST_ID: usize = 128;

/// Gives every reply the id of its request, or one of our own.
pub(super) async fn echo_request_id(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).filter(|id| id.len() <= MAX_REQUEST_ID).cloned();
    let id = given.or_else(|| HeaderValue::from_str(&format!("req_{}", random_hex())).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Where no key is asked for, lets only requests pass that name a host which cannot be an attacker's.
pub(super) async fn check_host(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if served.is_open() && !host.is_some_and(|host| served.hosts.allows(host)) {
        return ApiError::foreign_host().into_response();
    }
    next.run(request).await
}

/// Lets only requests with a key pass, where keys are set. `/health` needs none: probes have none.
pub(super) async fn require_key(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let is_public = request.uri().path() == "/health";
    if is_public || served.is_open() || given_key(request.headers()).is_some_and(|key| served.accepts(key)) {
        next.run(request).await
    } else {
        ApiError::bad_key().into_response()
    }
}

/// The key in `Authorization: Bearer KEY` or `X-Api-Key: KEY`.
fn given_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get(&API_KEY).and_then(|value| value.to_str().ok()))
}
