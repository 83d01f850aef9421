//! Which servers there are to chat with.

use std::fmt;
use std::str::FromStr;

use axum::http::uri::Authority;
use nexa_core::env::Secret;
use serde::Serialize;

use crate::Error;

/// Who answers on the chat page.
#[derive(Debug, Clone)]
pub struct Chat {
    /// The servers; the first is asked where none is chosen. No other one is ever asked.
    pub servers: Vec<ServerAddress>,
    /// What they are sent as `Authorization: Bearer KEY`.
    pub api_key: Option<Secret>,
}

impl Default for Chat {
    /// The server that `nexa inference` starts.
    fn default() -> Self {
        Self { servers: vec![ServerAddress::default()], api_key: None }
    }
}

/// Host and port of an inference server. It is spoken to in plain HTTP: it stands on this machine, in a network of
/// containers, or at the other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ServerAddress(String);

impl ServerAddress {
    /// Host and port, as a URL names them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ServerAddress {
    fn default() -> Self {
        Self("127.0.0.1:8000".to_owned())
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ServerAddress {
    type Err = Error;

    /// Reads `http://HOST:PORT`, with or without the scheme, and with `/v1` behind it, as clients of OpenAI's API write it.
    fn from_str(given: &str) -> Result<Self, Error> {
        let bad = |message| Error::BadServer { given: given.to_owned(), message };
        let rest = match given.split_once("://") {
            None => given,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => {
                return Err(bad("only `http://` is spoken; reach servers behind TLS through a tunnel"));
            }
        };
        let rest = rest.trim_end_matches('/');
        let authority = rest.strip_suffix("/v1").unwrap_or(rest);
        if authority.contains('@') {
            return Err(bad("it holds a user; keys are taken from `NEXA_API_KEY`"));
        }
        let authority: Authority = authority.parse().map_err(|_| bad("this is no host with a port"))?;
        if authority.host().is_empty() {
            return Err(bad("it names no host"));
        }
        match authority.port_u16() {
            Some(port) if port > 0 => Ok(Self(authority.as_str().to_ascii_lowercase())),
            _ => Err(bad("it names no port")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port() {
        let check = |given: &str, expected: Result<&str, &str>| {
            let found = given.parse::<ServerAddress>().map_err(|e| e.to_string());
            match expected {
                Ok(address) => assert_eq!(found.as_ref().map(ServerAddress::as_str), Ok(address), "{given}"),
                Err(message) => {
                    let error = found.expect_err(given);
                    assert!(error.contains(given) && error.contains(message), "{given}: {error}");
                }
            }
        };
        check("http://127.0.0.1:8000", Ok("127.0.0.1:8000"));
        check("127.0.0.1:8000", Ok("127.0.0.1:8000"));
        check("HTTP://Inference:8000/", Ok("inference:8000"));
        check("http://localhost:8000/v1", Ok("localhost:8000"));
        check("http://localhost:8000/v1/", Ok("localhost:8000"));
        check("http://[::1]:8000", Ok("[::1]:8000"));
        check("https://example.org:8000", Err("http://"));
        check("http://user:key@host:8000", Err("NEXA_API_KEY"));
        check("http://127.0.0.1", Err("port"));
        check("http://127.0.0.1:0", Err("port"));
        check("http://127.0.0.1:99999", Err("port"));
        check("http://host:8000/path", Err("host with a port"));
        check("http://host:8000?q", Err("host with a port"));
        check("", Err("host with a port"));
    }
}
