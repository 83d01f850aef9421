//! The JSON of replies, whole and in chunks, for chats and for completions.

use std::sync::Arc;
use std::time::Duration;

use nexa_core::lm::{FinishReason, Tokenizer, ToolSyntax};
use serde_json::{Value, json};

use super::logprobs::{self, OffsetTracker};
use super::state::{Served, Target, unix_seconds};
use super::tools::{Calls, Told};
use crate::{Completion, TokenLogprob, Usage};

/// Which of the two APIs a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

/// The prompt, where it stands before a completion.
pub(super) struct Echo {
    pub(super) text: String,
    pub(super) token_ids: Vec<u32>,
    /// Characters of the text before each token.
    pub(super) offsets: Vec<usize>,
    /// How many of the most probable tokens are told in each place, where any are.
    pub(super) top: Option<usize>,
    /// Whether nothing follows.
    pub(super) is_all: bool,
}

impl Echo {
    /// Whether it has probabilities, which come before the first text.
    fn awaits_logprobs(&self) -> bool {
        self.top.is_some() && self.token_ids.len() > 1
    }
}

/// What all parts of one reply have in common.
pub(super) struct Reply {
    form: Form,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    tokenizer: Arc<dyn Tokenizer>,
    pub(super) keep_alive: Duration,
    /// Answers to each prompt.
    pub(super) per_prompt: usize,
    /// The prompts, where they stand before their answers.
    pub(super) echoes: Vec<Echo>,
    /// How many of the most probable tokens are told for each token of the prompt, in vLLM's form.
    pub(super) prompt_top: Option<usize>,
    /// How the model writes calls of tools, where some are offered.
    pub(super) tools: Option<ToolSyntax>,
}

impl Reply {
    pub(super) fn new(form: Form, target: &Target, served: &Served) -> Self {
        let prefix = match form {
            Form::Chat => "chatcmpl",
            Form::Completion => "cmpl",
        };
        Self {
            form,
            id: format!("{prefix}-{}", random_hex()),
            created: unix_seconds(),
            model: target.name.clone(),
            fingerprint: target.fingerprint.clone(),
            tokenizer: Arc::clone(served.engine.tokenizer()),
            keep_alive: served.keep_alive(),
            per_prompt: 1,
            echoes: Vec::new(),
            prompt_top: None,
            tools: None,
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
            let reason = self.reason(completion.finish_reason).as_str();
            match self.form {
                Form::Chat => {
                    let (message, has_calls) = self.message(&completion.text);
                    json!({
                        "index": index,
                        "message": message,
                        "logprobs": self.own_logprobs(index, completion),
                        "finish_reason": with_calls(reason, has_calls),
                    })
                }
                Form::Completion => {
                    let (text, logprobs) = self.echoed(index, completion);
                    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
                }
            }
        };
        let mut choices: Vec<Value> = completions.iter().enumerate().map(choice).collect();
        let of_prompt = |completion: &Completion| {
            let most = self.prompt_top?;
            Some(logprobs::of_prompt(&completion.prompt_logprobs, most, self.tokenizer.as_ref()))
        };
        if self.form == Form::Completion {
            for (choice, completion) in choices.iter_mut().zip(completions) {
                if let Some(of_prompt) = of_prompt(completion) {
                    choice["prompt_logprobs"] = of_prompt;
                }
            }
        }
        let mut reply = self.envelope(object, choices.into());
        reply["usage"] =
            self.usage_json(&completions.iter().map(|completion| completion.usage).collect::<Vec<_>>());
        if self.form == Form::Chat
            && let Some(of_prompt) = completions.first().and_then(of_prompt)
        {
            reply["prompt_logprobs"] = of_prompt;
        }
        reply
    }

    /// What the assistant says, and whether it calls tools.
    fn message(&self, text: &str) -> (Value, bool) {
        let mut message = json!({"role": "assistant", "content": text, "refusal": null});
        let Some(syntax) = self.tools else { return (message, false) };
        let mut calls = Calls::new(syntax);
        let (mut content, mut entries) = (String::new(), Vec::new());
        for told in calls.push(text).into_iter().chain(calls.finish()) {
            match told {
                Told::Text(text) => content.push_str(&text),
                Told::Call(mut call) => {
                    if let Some(call) = call.as_object_mut() {
                        call.remove("index");
                    }
                    entries.push(call);
                }
            }
        }
        if entries.is_empty() {
            return (message, false);
        }
        message["content"] = if content.trim().is_empty() { Value::Null } else { content.into() };
        message["tool_calls"] = entries.into();
        (message, true)
    }

    /// The text and the probabilities of a completion, after those of the prompt where it is echoed.
    fn echoed(&self, index: usize, completion: &Completion) -> (String, Value) {
        let own = self.own_logprobs(index, completion);
        let Some(echo) = self.echo(index) else { return (completion.text.clone(), own) };
        let answer = if echo.is_all { "" } else { &completion.text };
        let mut logprobs = self.echo_logprobs(echo, &completion.prompt_logprobs);
        if !echo.is_all
            && let Value::Object(more) = own
            && let Value::Object(before) = &mut logprobs
        {
            for (list, more) in before.values_mut().zip(more.into_iter().map(|(_, list)| list)) {
                if let (Value::Array(list), Value::Array(more)) = (list, more) {
                    list.extend(more);
                }
            }
        }
        (format!("{}{answer}", echo.text), logprobs)
    }

    /// The probabilities of an echoed prompt; null where none were asked for.
    fn echo_logprobs(&self, echo: &Echo, tokens: &[TokenLogprob]) -> Value {
        let Some(top) = echo.top else { return Value::Null };
        logprobs::of_echo(echo, tokens, top, self.tokenizer.as_ref())
    }

    /// The prompt that stands before an answer, where one does.
    fn echo(&self, index: usize) -> Option<&Echo> {
        self.echoes.get(index / self.per_prompt)
    }

    /// Whether text after an echoed prompt is left out.
    pub(super) fn is_silent(&self) -> bool {
        self.echoes.first().is_some_and(|echo| echo.is_all)
    }

    /// What measures where the tokens of an answer stand: after the echoed prompt, where one is.
    pub(super) fn tracker(&self, index: usize) -> OffsetTracker {
        OffsetTracker::after(self.echo(index).map_or(0, |echo| echo.text.chars().count()))
    }

    fn reason(&self, reason: FinishReason) -> FinishReason {
        if self.is_silent() { FinishReason::Length } else { reason }
    }

    /// The first chunk of an answer in a stream, where the form has one: it says who speaks, or echoes the prompt.
    pub(super) fn opening(&self, index: usize) -> Option<Value> {
        match self.form {
            Form::Chat => {
                Some(self.chat_chunk(index, json!({"role": "assistant", "content": ""}), Value::Null, None))
            }
            Form::Completion => {
                let echo = self.echo(index).filter(|echo| !echo.awaits_logprobs())?;
                Some(self.text_chunk(index, &echo.text, self.echo_logprobs(echo, &[]), None))
            }
        }
    }

    /// The chunk with the probabilities of an echoed prompt, which is its opening, where they are asked for.
    pub(super) fn prompt(&self, index: usize, logprobs: &[TokenLogprob]) -> Option<Value> {
        let echo = self.echo(index).filter(|echo| echo.awaits_logprobs())?;
        Some(self.text_chunk(index, &echo.text, self.echo_logprobs(echo, logprobs), None))
    }

    /// A chunk with more text of an answer, whose tokens the tracker goes along.
    pub(super) fn delta(
        &self,
        index: usize,
        text: &str,
        logprobs: &[TokenLogprob],
        tracker: &mut OffsetTracker,
    ) -> Value {
        let logprobs = self.logprobs(logprobs, text, tracker);
        match self.form {
            Form::Chat => self.chat_chunk(index, json!({"content": text}), logprobs, None),
            Form::Completion => self.text_chunk(index, text, logprobs, None),
        }
    }

    /// A chunk with a call of a tool.
    pub(super) fn call(&self, index: usize, call: Value, logprobs: &[TokenLogprob]) -> Value {
        let logprobs = self.logprobs(logprobs, "", &mut self.tracker(index));
        self.chat_chunk(index, json!({"tool_calls": [call]}), logprobs, None)
    }

    /// The chunk that says why an answer ends.
    pub(super) fn ending(&self, index: usize, reason: FinishReason, has_calls: bool) -> Value {
        let reason = with_calls(self.reason(reason).as_str(), has_calls);
        match self.form {
            Form::Chat => self.chat_chunk(index, json!({}), Value::Null, Some(reason)),
            Form::Completion => self.text_chunk(index, "", Value::Null, Some(reason)),
        }
    }

    /// The probabilities of a whole answer.
    fn own_logprobs(&self, index: usize, completion: &Completion) -> Value {
        self.logprobs(&completion.logprobs, &completion.text, &mut self.tracker(index))
    }

    /// Probabilities in the words of the form; null where none were asked for.
    fn logprobs(&self, tokens: &[TokenLogprob], text: &str, tracker: &mut OffsetTracker) -> Value {
        match self.form {
            _ if tokens.is_empty() => Value::Null,
            Form::Chat => logprobs::of_chat(tokens, self.tokenizer.as_ref()),
            Form::Completion => logprobs::of_completion(tokens, text, tracker, self.tokenizer.as_ref()),
        }
    }

    /// The chunk after the ending that says what the answer took; it has no choice.
    pub(super) fn usage(&self, usages: &[Usage]) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = self.usage_json(usages);
        chunk
    }

    /// The tokens of all answers; a prompt, which several share, counts once.
    fn usage_json(&self, usages: &[Usage]) -> Value {
        let prompts = || usages.iter().step_by(self.per_prompt);
        let prompt_tokens: usize = prompts().map(|usage| usage.prompt_tokens).sum();
        let cached_tokens: usize = prompts().map(|usage| usage.cached_tokens).sum();
        let written: usize = usages.iter().map(|usage| usage.completion_tokens).sum();
        let completion_tokens = if self.is_silent() { 0 } else { written };
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        })
    }

    fn chat_chunk(&self, index: usize, delta: Value, logprobs: Value, reason: Option<&str>) -> Value {
        self.chunk(json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]))
    }

    fn text_chunk(&self, index: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
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

/// Why an answer ends that is complete where it calls tools.
fn with_calls(reason: &str, has_calls: bool) -> &str {
    if has_calls && reason == FinishReason::Stop.as_str() { "tool_calls" } else { reason }
}

/// 24 random hex digits, for ids.
pub(super) fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())[..24].to_owned()
}
