//! The probabilities of tokens, in the two forms that OpenAI's APIs have for them.

use nexa_core::lm::Tokenizer;
use serde_json::{Map, Value, json};

use crate::TokenLogprob;

/// The most that one request may ask for in each place.
pub(super) const MOST: i64 = 20;

/// Those of a chat: a list with an entry for each token.
pub(super) fn of_chat(tokens: &[TokenLogprob], tokenizer: &dyn Tokenizer) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let top: Vec<Value> = token.top.iter().map(|&(id, nats)| entry(id, nats, tokenizer)).collect();
            let mut entry = entry(token.token_id, token.logprob_nats, tokenizer);
            entry["top_logprobs"] = top.into();
            entry
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// Those of a completion: parallel lists, with places in the text that stands before by `offset` characters.
pub(super) fn of_completion(tokens: &[TokenLogprob], tokenizer: &dyn Tokenizer, offset: usize) -> Value {
    let mut place = offset;
    let mut offsets = Vec::with_capacity(tokens.len());
    let mut texts = Vec::with_capacity(tokens.len());
    for token in tokens {
        let text = text(token.token_id, tokenizer);
        offsets.push(place);
        place += text.chars().count();
        texts.push(text);
    }
    let top = |token: &TokenLogprob| {
        let entries = token.top.iter().map(|&(id, nats)| (text(id, tokenizer), finite(nats)));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    json!({
        "tokens": texts,
        "token_logprobs": tokens.iter().map(|token| finite(token.logprob_nats)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn entry(token_id: u32, logprob_nats: f32, tokenizer: &dyn Tokenizer) -> Value {
    let bytes = tokenizer.token_bytes(token_id).unwrap_or_default();
    json!({
        "token": String::from_utf8_lossy(&bytes),
        "logprob": finite(logprob_nats),
        "bytes": bytes,
    })
}

fn text(token_id: u32, tokenizer: &dyn Tokenizer) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(token_id).unwrap_or_default()).into_owned()
}

/// JSON has no infinities; OpenAI writes -9999 for what is as good as impossible.
fn finite(logprob_nats: f32) -> Value {
    json!(f64::from(logprob_nats.max(-9999.0)))
}
