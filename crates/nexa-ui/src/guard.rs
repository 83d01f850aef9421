//! Answers only requests that name a host which cannot be an attacker's; see [`nexa_core::hosts`].

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
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
