//! The probabilities of tokens, in the two forms that OpenAI's APIs have for them.

use nexa_core::lm::Tokenizer;
use serde_json::{Map, Value, json};

use crate::TokenLogprob;

/// The most that one request may ask for in each place.
pub(super) const MOST: i64 = 20;

/// Where in a text tokens stand, and who knows how they are written.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tokenizer: &'a dyn Tokenizer,
    /// Characters before them.
    pub(super) offset: usize,
}

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

/// Those of a completion: parallel lists, with places in the text that stands before by `offset` characters. `first` is the
/// first token of an echoed prompt, for which there is no probability; of each other the `most` most probable are told.
pub(super) fn of_completion(
    first: Option<u32>,
    tokens: &[TokenLogprob],
    most: usize,
    place: Place<'_>,
) -> Value {
    let Place { tokenizer, offset } = place;
    let mut place = offset;
    let mut offsets = Vec::with_capacity(tokens.len() + 1);
    let mut texts = Vec::with_capacity(tokens.len() + 1);
    for id in first.into_iter().chain(tokens.iter().map(|token| token.token_id)) {
        let text = text(id, tokenizer);
        offsets.push(place);
        place += text.chars().count();
        texts.push(text);
    }
    let top = |token: &TokenLogprob| {
        let top = token.top.iter().take(most);
        Value::Object(top.map(|&(id, nats)| (text(id, tokenizer), finite(nats))).collect::<Map<_, _>>())
    };
    let unknown = first.map(|_| Value::Null);
    let logprobs = tokens.iter().map(|token| finite(token.logprob_nats));
    json!({
        "tokens": texts,
        "token_logprobs": unknown.clone().into_iter().chain(logprobs).collect::<Vec<_>>(),
        "top_logprobs": unknown.into_iter().chain(tokens.iter().map(top)).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// Those of a prompt, in vLLM's form: for each token an object of the `most` most probable and itself, by id. The first token
/// has none.
pub(super) fn of_prompt(tokens: &[TokenLogprob], most: usize, tokenizer: &dyn Tokenizer) -> Value {
    let entry = |id: u32, nats: f32, rank: usize| {
        let entry = json!({"logprob": finite(nats), "rank": rank, "decoded_token": text(id, tokenizer)});
        (id.to_string(), entry)
    };
    let rated = tokens.iter().map(|token| {
        let own = [entry(token.token_id, token.logprob_nats, token.rank)];
        let top = token.top.iter().take(most).enumerate();
        let others = top.filter(|(_, (id, _))| *id != token.token_id);
        let others = others.map(|(place, &(id, nats))| entry(id, nats, place + 1));
        Value::Object(own.into_iter().chain(others).collect::<Map<_, _>>())
    });
    [Value::Null].into_iter().chain(rated).collect()
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
