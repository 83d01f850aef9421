//! What a request asks for, beyond its route.

use std::convert::Infallible;
use std::fmt::Write;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::transport::Twin;

/// The parts of a request that pages need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// The path, without `.json`.
    pub(crate) path: String,
    /// The query.
    pub(crate) params: Params,
    /// Whether the JSON twin is wanted.
    pub(crate) twin: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Ask {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // A query that cannot be decoded is one without parameters; pages have defaults for all.
        let pairs = Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default();
        Ok(Self {
            path: parts.uri.path().to_owned(),
            params: Params(pairs),
            twin: parts.extensions.get::<Twin>().is_some(),
        })
    }
}

impl Ask {
    /// The address of the page's twin.
    pub(crate) fn twin_url(&self) -> String {
        format!("{}.json{}", self.path, self.params.to_query())
    }
}

/// The parameters of a query, in their order. Empty ones count as absent: forms send those too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A number, where the parameter holds one.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }

    /// The same parameters, with one replaced or, for an empty value, left out.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut pairs: Vec<_> = self.0.iter().filter(|(key, _)| key != name).cloned().collect();
        pairs.push((name.to_owned(), value.to_owned()));
        Self(pairs)
    }

    /// The query that they make, with its `?`; nothing when there are none.
    pub(crate) fn to_query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            let separator = if query.is_empty() { '?' } else { '&' };
            let _ = write!(query, "{separator}{}={}", encode(name), encode(value));
        }
        query
    }
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_being_written() {
        let pairs = [("q", "a b&c=<é>"), ("run", "x"), ("run", "y"), ("empty", "")];
        let params = Params(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec());
        assert_eq!(params.to_query(), "?q=a%20b%26c%3D%3C%C3%A9%3E&run=x&run=y");
        let uri = format!("/{}", params.to_query()).parse().unwrap();
        let Query(back) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap();
        assert_eq!(back[0].1, "a b&c=<é>");
        assert_eq!(params.all("run").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((params.get("empty"), params.with("run", "").to_query().contains("run")), (None, false));
    }
}
