//! What stands around every handler: the request id, the host, the API key, and the manifest of the model.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::reply::random_hex;
use super::state::Door;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const MANIFEST: HeaderName = HeaderName::from_static("x-nexa-manifest");

/// What probes ask, which have no key.
const PUBLIC: [&str; 2] = ["/health", "/ready"];

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
pub(super) async fn check_host(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if door.is_open() && !host.is_some_and(|host| door.hosts.allows(host)) {
        return ApiError::foreign_host().into_response();
    }
    next.run(request).await
}

/// Lets only requests with a key pass, where keys are set.
pub(super) async fn require_key(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let is_public = PUBLIC.contains(&request.uri().path());
    if is_public || door.is_open() || given_key(request.headers()).is_some_and(|key| door.keys.accept(key)) {
        next.run(request).await
    } else {
        ApiError::bad_key().into_response()
    }
}

/// Gives every reply the id of the manifest of the model's checkpoint, so that it can be followed back to data and run.
pub(super) async fn name_manifest(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(id) = door.manifest() {
        response.headers_mut().insert(MANIFEST, id);
    }
    response
}

/// The key in `Authorization: Bearer KEY` or `X-Api-Key: KEY`.
fn given_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get(&API_KEY).and_then(|value| value.to_str().ok()))
}
