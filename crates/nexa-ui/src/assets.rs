//! What a browser loads beside the pages, all from the binary: a script, a style sheet, the scripts of the
//! review and of the chat, and Plotly.
//!
//! A name holds the hash of the content, so that it may be cached for ever.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::transport::{accepts_gzip, gzip};

const SCRIPT_START: &str = "<script type=\"text/javascript\">";
const SCRIPT_END: &str = "</script>";

/// A file that is served from memory.
#[derive(Debug)]
pub(crate) struct Asset {
    name: String,
    content_type: &'static str,
    bytes: Bytes,
    compressed: OnceLock<Bytes>,
}

impl Asset {
    /// Where it is served.
    pub(crate) fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }

    fn new(stem: &str, extension: &str, content_type: &'static str, bytes: Bytes) -> Self {
        let hash = blake3::hash(&bytes).to_hex();
        let name = format!("{stem}.{}.{extension}", &hash[..8]);
        Self { name, content_type, bytes, compressed: OnceLock::new() }
    }

    fn script(stem: &str, bytes: Bytes) -> Self {
        Self::new(stem, "js", "text/javascript; charset=utf-8", bytes)
    }
}

/// The script of all pages.
pub(crate) fn script() -> &'static Asset {
    static ASSET: OnceLock<Asset> = OnceLock::new();
    ASSET.get_or_init(|| Asset::script("app", Bytes::from_static(include_bytes!("assets/app.js"))))
}

/// The style sheet of all pages.
pub(crate) fn style() -> &'static Asset {
    static ASSET: OnceLock<Asset> = OnceLock::new();
    let bytes = Bytes::from_static(include_bytes!("assets/app.css"));
    ASSET.get_or_init(|| Asset::new("app", "css", "text/css; charset=utf-8", bytes))
}

/// The script of a review: keys, drafts and differences.
pub(crate) fn review() -> &'static Asset {
    static ASSET: OnceLock<Asset> = OnceLock::new();
    ASSET.get_or_init(|| Asset::script("review", Bytes::from_static(include_bytes!("assets/review.js"))))
}

/// The script of the chat: conversations, and answers as they are written.
pub(crate) fn chat() -> &'static Asset {
    static ASSET: OnceLock<Asset> = OnceLock::new();
    ASSET.get_or_init(|| Asset::script("chat", Bytes::from_static(include_bytes!("assets/chat.js"))))
}

/// Plotly, for the pages with charts. Its crate gives it inside a `<script>` element, followed by MathJax.
pub(crate) fn plotly() -> &'static Asset {
    static ASSET: OnceLock<Asset> = OnceLock::new();
    ASSET.get_or_init(|| {
        let page = plotly::Plot::offline_js_sources();
        let script = page
            .split_once(SCRIPT_START)
            .and_then(|(_, rest)| rest.split_once(SCRIPT_END))
            .map(|(script, _)| Bytes::copy_from_slice(script.as_bytes()))
            .expect("the pinned plotly crate gives its library in the first script element; a test holds it to that");
        Asset::script("plotly", script)
    })
}

/// Answers the request for an asset.
pub(crate) fn answer(name: &str, headers: &HeaderMap) -> Response {
    let all = [style(), script(), review(), chat(), plotly()];
    let Some(asset) = all.into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = if accepts_gzip(headers) {
        let bytes = asset.compressed.get_or_init(|| Bytes::from(gzip(&asset.bytes))).clone();
        ([(header::CONTENT_ENCODING, "gzip")], bytes).into_response()
    } else {
        asset.bytes.clone().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plotly_is_the_library_alone() {
        let text = std::str::from_utf8(&plotly().bytes).unwrap();
        assert!(text.len() > 1_000_000 && text.contains("Plotly"), "{} bytes", text.len());
        assert!(!text.contains("<script") && !text.contains("MathJax = "), "more than the library");
    }
}
