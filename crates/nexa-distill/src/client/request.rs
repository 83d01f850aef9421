//! What is asked of a teacher, and the hash under which its answer is kept.

use std::sync::Arc;

use nexa_core::hash::ContentHash;
use nexa_core::lm::ChatMessage;
use serde::Serialize;
use serde_json::{Value, json};

use crate::teacher::{Endpoint, Provider};

/// What every request of a collection has in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sampling {
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus sampling; the provider's default where absent, as with everything below.
    pub top_p: Option<f64>,
    /// Keeps the so many most probable tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Makes tokens less probable by how often they stand in the answer already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Makes tokens less probable that stand in the answer already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Ends the answer before any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// How long a model that reasons may reason: `low`, `medium`, `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// The JSON schema of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// Asks for the probabilities of so many tokens at each place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
}

/// What is asked of a teacher. Everything in it determines the answer, and nothing else does.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// What it has in common with the others.
    pub sampling: Arc<Sampling>,
    /// The longest answer, in tokens.
    pub max_tokens: u64,
    /// The seed of this sample.
    pub seed: u64,
    /// Which of several samples for one prompt this is.
    pub sample_index: u32,
    /// How often it was asked before without a usable answer.
    pub repeats: u32,
}

impl Request {
    /// The hash of everything that determines the answer. What a request leaves at its default adds nothing, so that a
    /// parameter that comes later does not change the hashes of what was asked before.
    pub fn key(&self) -> ContentHash {
        let mut value = self.value();
        value["max_tokens"] = json!(self.max_tokens);
        ContentHash::of_json(&value)
    }

    /// The hash of the request without the length of its answer: an answer that ended by itself is the same answer
    /// under any greater length.
    pub fn question(&self) -> ContentHash {
        ContentHash::of_json(&self.value())
    }

    fn value(&self) -> Value {
        let mut value = json!(self.sampling.as_ref());
        value["messages"] = json!(self.messages);
        value["seed"] = json!(self.seed);
        value["sample_index"] = json!(self.sample_index);
        if self.repeats > 0 {
            value["repeats"] = json!(self.repeats);
        }
        value
    }

    /// The seed that is sent: another one each time that the same is asked.
    pub(crate) fn sent_seed(&self) -> u64 {
        // Providers take seeds that a double holds exactly.
        const STEP: u64 = 1 << 32;
        self.seed.wrapping_add(u64::from(self.repeats) * STEP)
    }

    /// The request in the words of a provider.
    pub fn body(&self, endpoint: &Endpoint) -> Value {
        let Endpoint { provider, model, .. } = endpoint;
        let sampling = &self.sampling;
        let mut body =
            json!({"model": model, "messages": self.messages, "temperature": sampling.temperature});
        // OpenAI's newer models refuse `max_tokens`, Mistral refuses `seed`; the others take both.
        let max_tokens = if *provider == Provider::OpenAi { "max_completion_tokens" } else { "max_tokens" };
        let seed = if *provider == Provider::Mistral { "random_seed" } else { "seed" };
        body[max_tokens] = json!(self.max_tokens);
        body[seed] = json!(self.sent_seed());
        let optional = [
            ("top_p", sampling.top_p.map(|p| json!(p))),
            ("top_k", sampling.top_k.map(|k| json!(k))),
            ("frequency_penalty", sampling.frequency_penalty.map(|penalty| json!(penalty))),
            ("presence_penalty", sampling.presence_penalty.map(|penalty| json!(penalty))),
            ("stop", (!sampling.stop.is_empty()).then(|| json!(sampling.stop))),
            ("reasoning_effort", sampling.reasoning_effort.as_ref().map(|effort| json!(effort))),
            (
                "response_format",
                sampling.response_schema.as_ref().and_then(|s| response_format(*provider, s)),
            ),
            ("logprobs", sampling.top_logprobs.map(|_| json!(true))),
            ("top_logprobs", sampling.top_logprobs.map(|k| json!(k))),
            // Asks for the cost of the call in its answer.
            ("usage", (*provider == Provider::OpenRouter).then(|| json!({"include": true}))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }

    /// Bytes of everything that the provider reads: no prompt has more tokens than bytes.
    pub fn prompt_bytes(&self) -> u64 {
        let schema = self.sampling.response_schema.as_ref().map_or(0, |schema| schema.to_string().len());
        self.messages.iter().map(|message| message.content.len() as u64).sum::<u64>() + schema as u64
    }
}

/// How a provider is told the shape of an answer, where it can be told. The answer is checked here in any case.
fn response_format(provider: Provider, schema: &Value) -> Option<Value> {
    match provider {
        // Its chat API in OpenAI's form does not read the field.
        Provider::Anthropic => None,
        Provider::DeepSeek => Some(json!({"type": "json_object"})),
        _ => Some(json!({
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": true, "schema": schema},
        })),
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::Role;

    use super::*;

    fn request(change: impl FnOnce(&mut Request, &mut Sampling)) -> Request {
        let mut sampling = Sampling { temperature: 0.5, ..Sampling::default() };
        let mut request = Request {
            messages: vec![ChatMessage::new(Role::User, "hi")],
            sampling: Arc::default(),
            max_tokens: 9,
            seed: 3,
            sample_index: 0,
            repeats: 0,
        };
        change(&mut request, &mut sampling);
        request.sampling = Arc::new(sampling);
        request
    }

    #[test]
    fn each_provider_gets_its_own_words() {
        let asked = request(|_, sampling| sampling.response_schema = Some(json!({"type": "object"})));
        let check = |provider: Provider, present: &[&str], absent: &[&str]| {
            let endpoint = Endpoint { provider, base_url: String::new(), model: "m".to_owned(), key: None };
            let body = asked.body(&endpoint);
            assert!(present.iter().all(|key| body.get(key).is_some()), "{body}");
            assert!(absent.iter().all(|key| body.get(key).is_none()), "{body}");
        };
        check(
            Provider::OpenAi,
            &["max_completion_tokens", "seed", "response_format"],
            &["max_tokens", "top_p", "usage", "stop", "logprobs"],
        );
        check(Provider::Mistral, &["max_tokens", "random_seed"], &["seed"]);
        check(Provider::OpenRouter, &["max_tokens", "seed", "usage"], &[]);
        check(Provider::Anthropic, &["max_tokens"], &["response_format"]);
    }

    #[test]
    fn the_key_is_of_what_determines_the_answer() {
        let plain = request(|_, _| ());
        // The hash that logs of the first version hold for this request.
        let first = json!({
            "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "top_p": null,
            "max_tokens": 9, "seed": 3, "sample_index": 0,
        });
        assert_eq!(plain.key(), ContentHash::of_json(&first));
        let differs = |change: fn(&mut Request, &mut Sampling)| {
            let other = request(change);
            assert_ne!((plain.key(), plain.question()), (other.key(), other.question()));
            other
        };
        differs(|_, sampling| sampling.top_k = Some(5));
        differs(|_, sampling| sampling.response_schema = Some(json!({})));
        let again = differs(|request, _| request.repeats = 1);
        assert_ne!(again.sent_seed(), plain.sent_seed());
        let longer = request(|request, _| request.max_tokens = 10);
        assert_eq!(longer.question(), plain.question());
        assert_ne!(longer.key(), plain.key());
    }
}
