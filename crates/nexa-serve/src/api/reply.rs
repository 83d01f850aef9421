//! The JSON of replies, whole and in chunks, for chats and for completions.

use nexa_core::lm::FinishReason;
use serde_json::{Value, json};

use super::state::{Served, unix_seconds};
use crate::{Completion, Usage};

/// Which of the two APIs a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

/// What all parts of one reply have in common.
#[derive(Debug)]
pub(super) struct Reply {
    form: Form,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
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
    pub(super) fn whole(&self, completion: &Completion) -> Value {
        let reason = completion.finish_reason.as_str();
        let (object, choice) = match self.form {
            Form::Chat => (
                "chat.completion",
                json!({
                    "index": 0,
                    "message": {"role": "assistant", "content": completion.text, "refusal": null},
                    "logprobs": null,
                    "finish_reason": reason,
                }),
            ),
            Form::Completion => ("text_completion", text_choice(&completion.text, Some(reason))),
        };
        let mut reply = self.envelope(object, json!([choice]));
        reply["usage"] = usage_json(completion.usage);
        reply
    }

    /// The first chunk of a stream, where the form has one: it says who speaks.
    pub(super) fn opening(&self) -> Option<Value> {
        match self.form {
            Form::Chat => Some(self.chat_chunk(json!({"role": "assistant", "content": ""}), None)),
            Form::Completion => None,
        }
    }

    /// A chunk with more text.
    pub(super) fn delta(&self, text: &str) -> Value {
        match self.form {
            Form::Chat => self.chat_chunk(json!({"content": text}), None),
            Form::Completion => self.chunk(json!([text_choice(text, None)])),
        }
    }

    /// The chunk that says why the answer ends.
    pub(super) fn ending(&self, reason: FinishReason) -> Value {
        match self.form {
            Form::Chat => self.chat_chunk(json!({}), Some(reason)),
            Form::Completion => self.chunk(json!([text_choice("", Some(reason.as_str()))])),
        }
    }

    /// The chunk after the ending that says what the answer took; it has no choice.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage_json(usage);
        chunk
    }

    fn chat_chunk(&self, delta: Value, reason: Option<FinishReason>) -> Value {
        let reason = reason.map(FinishReason::as_str);
        self.chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]))
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

fn text_choice(text: &str, reason: Option<&str>) -> Value {
    json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason})
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

/// 24 random hex digits, for ids.
pub(super) fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())[..24].to_owned()
}
