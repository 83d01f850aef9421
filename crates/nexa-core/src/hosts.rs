//! Who may reach a server: the addresses that it may listen on, and the hosts that requests may name.
//!
//! One rule holds for every server. Where nothing asks for a key, a server listens on loopback alone, unless the user
//! says otherwise in so many words, and answers only requests for hosts that cannot be an attacker's. A page from
//! elsewhere can make its own name resolve to 127.0.0.1 and so read what is served there (DNS rebinding), but its
//! requests still carry that name.

use std::net::IpAddr;

/// Whether this machine alone reaches every one of some addresses.
pub fn are_loopback(addresses: &[IpAddr]) -> bool {
    addresses.iter().all(IpAddr::is_loopback)
}

/// A host without the brackets around an IPv6 address.
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The hosts that requests may name where no key is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts {
    bound: String,
    /// Listening on every interface: any address may be named, which rebinding cannot forge, but still no foreign name.
    any_address: bool,
}

impl AllowedHosts {
    /// Allows loopback, and the host that the server is bound to.
    pub fn new(bound: &str) -> Self {
        let bound = without_brackets(bound).to_ascii_lowercase();
        let any_address = bound.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        Self { bound, any_address }
    }

    /// Whether a request with this `Host` header is answered.
    pub fn allows(&self, header: &str) -> bool {
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
        check("[::]", "[fe80::1]:8501", true);
        check("[::]", "evil.example:8501", false);
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let check = |addresses: &[&str], expected: bool| {
            let addresses: Vec<IpAddr> =
                addresses.iter().map(|text| without_brackets(text).parse().unwrap()).collect();
            assert_eq!(are_loopback(&addresses), expected, "{addresses:?}");
        };
        check(&["127.0.0.1", "[::1]"], true);
        check(&["0.0.0.0"], false);
        check(&["[::]"], false);
        check(&["127.0.0.1", "192.168.1.5"], false);
    }
}
