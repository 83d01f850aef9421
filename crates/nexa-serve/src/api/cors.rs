//! Pages of other origins: which may read replies, by configuration; without any, none may.
//!
//! # Source
//! The Fetch standard, section 3.3 (CORS protocol). Keys come in headers and never in cookies, so credentials are not allowed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::state::Door;

/// How long a browser may remember what is allowed.
const MAX_AGE_SECONDS: &str = "600";

/// The headers of replies that scripts may read besides the common ones.
const EXPOSED: &str = "x-request-id, x-nexa-manifest, retry-after";

/// Where a page comes from: `https://lab.example`, or `*` for anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
        };
        if text == "*" || host.is_some_and(is_host) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(format!("`{text}` is no origin: write `https://host`, `http://host:port` or `*`, without a path"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.0 == "*" || self.0.as_bytes() == origin.as_bytes()
    }
}

/// Tells browsers whether the page of another origin may read the reply, and answers their questions beforehand.
pub(super) async fn allow(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let Some(origin) = origin.filter(|_| !door.origins.is_empty()) else { return next.run(request).await };
    let is_allowed = door.origins.iter().any(|known| known.allows(&origin));
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match asked {
        Some(_) if request.method() == Method::OPTIONS => preflight(is_allowed, request.headers()),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if is_allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

fn preflight(is_allowed: bool, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if is_allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
        if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_more() {
        let check =
            |text: &str, expected: bool| assert_eq!(text.parse::<Origin>().is_ok(), expected, "{text}");
        check("*", true);
        check("https://lab.example", true);
        check("http://localhost:8501", true);
        check("http://[::1]:8501", true);
        check("lab.example", false);
        check("https://", false);
        check("https://lab.example/", false);
        check("https://lab.example/page", false);
        check("null", false);
    }
}
