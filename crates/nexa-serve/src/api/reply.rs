//! The JSON of replies, whole and in chunks, for chats and for completions.

use std::sync::Arc;

use nexa_core::lm::{FinishReason, Tokenizer};
use serde_json::{Value, json};

use super::logprobs;
use super::state::{Served, unix_seconds};
use crate::{Completion, TokenLogprob, Usage};

/// Which of the two APIs a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

/// What all parts of one reply have in common.
pub(super) struct Reply {
    form: Form,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    tokenizer: Arc<dyn Tokenizer>,
}

impl Reply {
    pub(super) fn new(form: Form, model: String, served: &Served) -> Self {
        let prefix = match form {
            Form::Chat => "chatcmpl",
            Form::Completion => "cmpl",
        };
        Self {
            form,
            id: format!("{prefix}-{}", random_hex()),
            created: unix_seconds(),
            model,
            fingerprint: served.fingerprint.clone(),
            tokenizer: Arc::clone(served.engine.tokenizer()),
        }
    }

    /// What the prompt is called in requests of this form.
    pub(super) fn prompt_param(&self) -> &'static str {
        match self.form {
            Form::Chat => "messages",
            Form::Completion => "prompt",
        }
    }

    /// The whole reply.
    pub(super) fn whole(&self, completions: &[Completion]) -> Value {
        let object = match self.form {
            Form::Chat => "chat.completion",
            Form::Completion => "text_completion",
        };
        let choice = |(index, completion): (usize, &Completion)| {
            let reason = completion.finish_reason.as_str();
            let logprobs = self.logprobs(&completion.logprobs, 0);
            let text = &completion.text;
            match self.form {
                Form::Chat => json!({
                    "index": index,
                    "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": logprobs,
                    "finish_reason": reason,
                }),
                Form::Completion => {
                    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
                }
            }
        };
        let choices: Vec<Value> = completions.iter().enumerate().map(choice).collect();
        let mut reply = self.envelope(object, choices.into());
        reply["usage"] = usage_json(completions.iter().map(|completion| completion.usage));
        reply
    }

    /// The first chunk of an answer in a stream, where the form has one: it says who speaks.
    pub(super) fn opening(&self, index: usize) -> Option<Value> {
        match self.form {
            Form::Chat => {
                Some(self.chat_chunk(index, json!({"role": "assistant", "content": ""}), Value::Null, None))
            }
            Form::Completion => None,
        }
    }

    /// A chunk with more text of an answer, which stands `offset` characters after its beginning.
    pub(super) fn delta(&self, index: usize, text: &str, logprobs: &[TokenLogprob], offset: usize) -> Value {
        let logprobs = self.logprobs(logprobs, offset);
        match self.form {
            Form::Chat => self.chat_chunk(index, json!({"content": text}), logprobs, None),
            Form::Completion => self.text_chunk(index, text, logprobs, None),
        }
    }

    /// The chunk that says why an answer ends.
    pub(super) fn ending(&self, index: usize, reason: FinishReason) -> Value {
        match self.form {
            Form::Chat => self.chat_chunk(index, json!({}), Value::Null, Some(reason)),
            Form::Completion => self.text_chunk(index, "", Value::Null, Some(reason)),
        }
    }

    /// Probabilities in the words of the form; null where none were asked for.
    fn logprobs(&self, tokens: &[TokenLogprob], offset: usize) -> Value {
        match self.form {
            _ if tokens.is_empty() => Value::Null,
            Form::Chat => logprobs::of_chat(tokens, self.tokenizer.as_ref()),
            Form::Completion => logprobs::of_completion(tokens, self.tokenizer.as_ref(), offset),
        }
    }

    /// The chunk after the ending that says what the answer took; it has no choice.
    pub(super) fn usage(&self, usages: &[Usage]) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage_json(usages.iter().copied());
        chunk
    }

    fn chat_chunk(&self, index: usize, delta: Value, logprobs: Value, reason: Option<FinishReason>) -> Value {
        let reason = reason.map(FinishReason::as_str);
        self.chunk(json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]))
    }

    fn text_chunk(&self, index: usize, text: &str, logprobs: Value, reason: Option<FinishReason>) -> Value {
        let reason = reason.map(FinishReason::as_str);
        self.chunk(json!([{"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}]))
    }

    fn chunk(&self, choices: Value) -> Value {
        let object = match self.form {
            Form::Chat => "chat.completion.chunk",
            Form::Completion => "text_completion",
        };
        self.envelope(object, choices)
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

/// The tokens of all answers; the prompt, which they share, counts once.
fn usage_json(usages: impl Iterator<Item = Usage> + Clone) -> Value {
    let first = usages.clone().next().unwrap_or_default();
    let completion_tokens: usize = usages.map(|usage| usage.completion_tokens).sum();
    json!({
        "prompt_tokens": first.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": first.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": first.cached_tokens},
    })
}

/// 24 random hex digits, for ids.
pub(super) fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())[..24].to_owned()
}
