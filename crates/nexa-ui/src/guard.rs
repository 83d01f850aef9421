//! Which `Host` headers are answered.
//!
//! A page from elsewhere can make its own name resolve to 127.0.0.1 and so read what is served there (DNS rebinding).
//! Its requests still carry that name, so only names that cannot be an attacker's are answered.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The hosts that requests may name.
#[derive(Debug, Clone)]
pub(crate) struct AllowedHosts {
    bound: String,
    /// Listening on every interface: any address may be named, which rebinding cannot forge, but still no foreign name.
    any_address: bool,
}

impl AllowedHosts {
    /// Allows loopback, and the host that the server is bound to.
    pub(crate) fn new(bound: &str) -> Self {
        let any_address = bound.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        Self { bound: bound.to_ascii_lowercase(), any_address }
    }

    /// Whether a `Host` header is one of them.
    fn allows(&self, header: &str) -> bool {
        let host = host_of(header).to_ascii_lowercase();
        if host == "localhost" || host == self.bound {
            return true;
        }
        host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || self.any_address)
    }
}

/// The host of a `Host` header, without port and brackets.
fn host_of(header: &str) -> &str {
    if let Some(rest) = header.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(host, _)| host);
    }
    header.rsplit_once(':').map_or(header, |(host, _)| host)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_own_are_allowed() {
        let check = |bound: &str, header: &str, expected: bool| {
            assert_eq!(AllowedHosts::new(bound).allows(header), expected, "{header} on {bound}");
        };
        check("127.0.0.1", "localhost:8501", true);
        check("127.0.0.1", "LOCALHOST", true);
        check("127.0.0.1", "127.0.0.1:8501", true);
        check("127.0.0.1", "127.8.9.10:8501", true);
        check("127.0.0.1", "[::1]:8501", true);
        check("127.0.0.1", "evil.example:8501", false);
        check("127.0.0.1", "localhost.evil.example", false);
        check("127.0.0.1", "127.0.0.1.evil.example", false);
        check("127.0.0.1", "192.168.1.5:8501", false);
        check("127.0.0.1", "[::1", false);
        check("127.0.0.1", "", false);
        check("lab.example", "lab.example:8501", true);
        check("lab.example", "other.example:8501", false);
        check("0.0.0.0", "192.168.1.5:8501", true);
        check("0.0.0.0", "evil.example:8501", false);
    }
}
