//! Answers only requests that name a host which cannot be an attacker's (see [`nexa_core::hosts`]), and lets nobody
//! write but pages of this server.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nexa_core::hosts::AllowedHosts;

/// Answers 403 to requests for foreign hosts.
pub(crate) async fn check_host(
    State(hosts): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| hosts.allows(host)) {
        return next.run(request).await;
    }
    let text = "these dashboards answer only to localhost and to the host that they are bound to; open them by that name\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Answers 403 to requests that would write and come from a page of somebody else. Programs send no sign of a page; they
/// are held to the token alone.
pub(crate) async fn check_origin(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_own(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "only pages of this server may write\n").into_response()
}

fn is_own(headers: &HeaderMap) -> bool {
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A page cannot forge either header. A form under `no-referrer` has the origin `null`, so the first one goes first.
    match (get("sec-fetch-site"), get("origin"), get("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), host) => {
            origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
        }
        (None, None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_own_pages_and_programs_may_write() {
        let check = |headers: &[(&'static str, &'static str)], expected: bool| {
            let map = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(is_own(&map.collect()), expected, "{headers:?}");
        };
        let host = ("host", "127.0.0.1:8501");
        check(&[host], true);
        check(&[host, ("origin", "http://127.0.0.1:8501")], true);
        check(&[host, ("origin", "null"), ("sec-fetch-site", "same-origin")], true);
        check(&[host, ("origin", "null")], false);
        check(&[host, ("origin", "http://127.0.0.1:8502")], false);
        check(&[host, ("origin", "http://evil.example")], false);
        check(&[host, ("origin", "http://127.0.0.1:8501"), ("sec-fetch-site", "cross-site")], false);
        check(&[host, ("sec-fetch-site", "same-site")], false);
        check(&[host, ("sec-fetch-site", "none")], false);
    }
}
