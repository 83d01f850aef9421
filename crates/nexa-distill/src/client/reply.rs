//! What comes back from a chat API: a completion, or words about what is wrong. Either may say what was used.

use nexa_core::lm::FinishReason;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Answer;
use super::failure::{Billed, Failure, Unanswered};

/// What a call used, as far as the provider said it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, where reported.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, where reported.
    pub completion_tokens: Option<u64>,
    /// US dollars, where the provider reported them.
    pub reported_usd: Option<f64>,
}

impl Usage {
    /// Tokens of prompt and answer, where both were reported.
    pub fn tokens(&self) -> Option<u64> {
        self.prompt_tokens?.checked_add(self.completion_tokens?)
    }

    /// Reads what a reply says of its usage, if it says anything. What makes no sense counts as not said.
    fn of(reply: &Value) -> Option<Self> {
        let usage = reply.get("usage")?;
        let tokens = |name: &str| usage.get(name).and_then(Value::as_u64);
        let found = Self {
            prompt_tokens: tokens("prompt_tokens"),
            completion_tokens: tokens("completion_tokens"),
            reported_usd: usage.get("cost").and_then(Value::as_f64).filter(|usd| *usd >= 0.0),
        };
        (found != Self::default()).then_some(found)
    }
}

/// The parts of a chat completion that matter here.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    /// What OpenAI's models say where they refuse to fill a schema in.
    #[serde(default)]
    refusal: Option<String>,
    /// As DeepSeek and vLLM name it.
    #[serde(default)]
    reasoning_content: Option<String>,
    /// As OpenRouter and Groq do.
    #[serde(default)]
    reasoning: Option<Value>,
}

impl Message {
    /// What the model thought; the field of some providers holds more than text.
    fn take_reasoning(&mut self) -> Option<String> {
        let text = self.reasoning_content.take().or_else(|| match self.reasoning.take()? {
            Value::String(text) => Some(text),
            _ => None,
        });
        text.filter(|text| !text.is_empty())
    }
}

/// Reads a reply with a status of success. Whatever it is, it was computed, and is charged.
pub(super) fn read_completion(text: &str, model: &str) -> Result<Answer, Unanswered> {
    let malformed = |message: String| Failure::Malformed(format!("{message}: {}", excerpt(text)));
    let reply: Value = serde_json::from_str(text)
        .map_err(|e| Unanswered { failure: malformed(e.to_string()), billed: Billed::Unknown })?;
    let usage = Usage::of(&reply);
    let unanswered = |failure| Unanswered { failure, billed: usage.map_or(Billed::Unknown, Billed::Stated) };
    let completion = match Completion::deserialize(&reply) {
        Ok(completion) => completion,
        // Some gateways report a failure of what is behind them with status 200.
        Err(_) if reply.get("error").is_some() => {
            return Err(unanswered(Failure::Server(Problem::read(text).message)));
        }
        Err(e) => return Err(unanswered(malformed(e.to_string()))),
    };
    let Some(Choice { mut message, finish_reason, logprobs }) = completion.choices.into_iter().next() else {
        return Err(unanswered(malformed("no choices".to_owned())));
    };
    let refusal = message.refusal.take().filter(|text| !text.is_empty());
    let is_refusal = refusal.is_some() || finish_reason.as_deref() == Some("refusal");
    Ok(Answer {
        reasoning: message.take_reasoning(),
        // An answer without text, such as a withheld one, is empty; the policy decides about it.
        text: message.content.filter(|text| !text.is_empty()).or(refusal).unwrap_or_default(),
        finish_reason: match finish_reason.as_deref() {
            Some("length" | "max_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Stop,
        },
        model_id: completion.model.unwrap_or_else(|| model.to_owned()),
        usage: usage.unwrap_or_default(),
        logprobs: logprobs.filter(|logprobs| !logprobs.is_null()),
        is_refusal,
    })
}

/// What a provider says is wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Problem {
    /// In its words.
    pub(super) message: String,
    /// In its code.
    pub(super) code: Option<String>,
    /// What it used all the same, where it says so.
    pub(super) usage: Option<Usage>,
}

impl Problem {
    /// Reads a reply with a status that is none of success.
    pub(super) fn read(text: &str) -> Self {
        let reply: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let error = reply.get("error").unwrap_or(&reply);
        let message = error.get("message").or(Some(error)).and_then(Value::as_str).map(excerpt);
        let code = error.get("code").or_else(|| error.get("type")).and_then(Value::as_str);
        Self {
            message: message.unwrap_or_else(|| excerpt(text)),
            code: code.map(str::to_owned),
            usage: Usage::of(&reply),
        }
    }
}

/// The beginning of a text, on one line.
fn excerpt(text: &str) -> String {
    const CHARACTERS: usize = 200;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "(no text)".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_read_whatever_is_left_out() {
        let check = |text: &str, expected: Result<(&str, FinishReason), &str>| {
            let found = read_completion(text, "m");
            let found = found
                .as_ref()
                .map(|a| (a.text.as_str(), a.finish_reason))
                .map_err(|unanswered| unanswered.failure.kind());
            assert_eq!(found, expected, "{text}");
        };
        let choice = |inner: &str| format!("{{\"choices\": [{inner}]}}");
        check(&choice(r#"{"message": {"content": "hi"}}"#), Ok(("hi", FinishReason::Stop)));
        check(
            &choice(r#"{"message": {"content": null}, "finish_reason": "content_filter"}"#),
            Ok(("", FinishReason::ContentFilter)),
        );
        check(&choice(r#"{"message": {}, "finish_reason": "length"}"#), Ok(("", FinishReason::Length)));
        check(r#"{"choices": []}"#, Err("malformed"));
        check("<html>gateway</html>", Err("malformed"));
        check(r#"{"error": {"message": "upstream", "code": 502}}"#, Err("server_error"));
    }

    #[test]
    fn thoughts_refusals_and_probabilities_are_kept_apart_from_the_text() {
        let read = |message: &str, rest: &str| {
            read_completion(&format!("{{\"choices\": [{{\"message\": {message}{rest}}}]}}"), "m").unwrap()
        };
        let check = |message: &str, expected: Option<&str>| {
            let answer = read(message, "");
            assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("4", expected), "{message}");
        };
        check(r#"{"content": "4", "reasoning_content": "2 + 2"}"#, Some("2 + 2"));
        check(r#"{"content": "4", "reasoning": "2 + 2"}"#, Some("2 + 2"));
        check(r#"{"content": "4", "reasoning": {"effort": "low"}}"#, None);
        check(r#"{"content": "4", "reasoning_content": ""}"#, None);
        let refused = read(r#"{"content": null, "refusal": "I cannot."}"#, "");
        assert_eq!((refused.text.as_str(), refused.is_refusal), ("I cannot.", true));
        assert!(read(r#"{"content": "no"}"#, r#", "finish_reason": "refusal""#).is_refusal);
        let told = read(r#"{"content": "4"}"#, r#", "logprobs": {"content": []}"#);
        assert_eq!(told.logprobs, Some(serde_json::json!({"content": []})));
    }

    #[test]
    fn usage_is_charged_even_where_there_is_no_answer() {
        let stated = |prompt_tokens, completion_tokens, reported_usd| {
            Billed::Stated(Usage { prompt_tokens, completion_tokens, reported_usd })
        };
        let check = |text: &str, expected: Billed| {
            assert_eq!(read_completion(text, "m").unwrap_err().billed, expected, "{text}");
        };
        check(
            r#"{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}"#,
            stated(Some(3), Some(4), None),
        );
        check(
            r#"{"error": {"message": "no"}, "usage": {"prompt_tokens": 3, "cost": 0.5}}"#,
            stated(Some(3), None, Some(0.5)),
        );
        check(r#"{"choices": [], "usage": {"prompt_tokens": "many", "cost": -1}}"#, Billed::Unknown);
        check(r#"{"choices": [], "usage": null}"#, Billed::Unknown);
        check(r#"{"choices": []"#, Billed::Unknown);
        let failed = Problem::read(r#"{"error": {"message": "no"}, "usage": {"cost": 0.25}}"#);
        assert_eq!(failed.usage.unwrap().reported_usd, Some(0.25));
        assert_eq!(Problem::read(r#"{"error": {"message": "no"}}"#).usage, None);
    }
}
