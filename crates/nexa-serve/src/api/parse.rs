//! The parsers of requests, as one function: the way in for whatever throws bytes at them.

use super::error::ApiError;
use super::fields::Fields;
use super::{adapters, chat, completions, embeddings, infer, tokens};

/// Reads a body as the route of this path would, without a model, and tells the HTTP status that it would be refused with.
///
/// Not part of the API: it is here for the fuzz target and its bounded sibling among the tests.
#[doc(hidden)]
pub fn parse_body(path: &str, body: &[u8]) -> Result<(), u16> {
    let parsed = Fields::parse(body).and_then(|fields| match path {
        "/v1/chat/completions" => chat::take(fields).map(drop),
        "/v1/completions" => completions::take(fields).map(drop),
        "/v1/embeddings" => embeddings::take(fields).map(drop),
        "/v1/load_lora_adapter" => adapters::take_load(fields).map(drop),
        "/v1/unload_lora_adapter" => adapters::take_unload(fields).map(drop),
        "/infer" => infer::take(fields).map(drop),
        "/tokenize" => tokens::take_encode(fields).map(drop),
        "/detokenize" => tokens::take_decode(fields).map(drop),
        _ => fields.finish(),
    });
    parsed.map_err(|error: ApiError| error.status())
}
