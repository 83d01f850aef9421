//! What the rules of a server do to prompts before a model sees them.

use nexa_core::guard::{Action, Guard, Place, redacted};
use nexa_core::lm::{self, Sampling, Tokenizer};
use serde_json::Value;

use crate::{Error, Prompt};

/// Holds a prompt against rules: it is refused, or goes on with what they redact replaced.
///
/// # Errors
/// Names the rule that is against the prompt. Token ids are text to the rules, and cannot be replaced: what would be redacted
/// in them is refused.
pub(super) fn check(guard: &dyn Guard, prompt: Prompt, tokenizer: &dyn Tokenizer) -> Result<Prompt, Error> {
    Ok(match prompt {
        Prompt::Text(text) => Prompt::Text(pass(guard, text)?),
        Prompt::Messages(mut messages) => {
            for message in &mut messages {
                message.content = pass(guard, std::mem::take(&mut message.content))?;
            }
            Prompt::Messages(messages)
        }
        Prompt::Conversation { mut messages, tools } => {
            for value in messages.iter_mut().flat_map(|message| message.values_mut()) {
                pass_value(guard, value)?;
            }
            Prompt::Conversation { messages, tools }
        }
        Prompt::Tokens(token_ids) => {
            let bytes: Vec<u8> =
                token_ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
            match guard.find(&String::from_utf8_lossy(&bytes), Place::Prompt).into_iter().next() {
                Some(finding) => return Err(Error::Refused { rule: finding.rule }),
                None => Prompt::Tokens(token_ids),
            }
        }
    })
}

/// Refuses what would tell of an answer more than the rules let through.
pub(super) fn check_sampling(sampling: &Sampling) -> Result<(), Error> {
    if sampling.logprobs.is_some() {
        let message = "this server holds answers against rules, and tells no `logprobs` of their tokens";
        return Err(lm::Error::Invalid(message.to_owned()).into());
    }
    Ok(())
}

fn pass(guard: &dyn Guard, text: String) -> Result<String, Error> {
    let findings = guard.find(&text, Place::Prompt);
    match findings.iter().find(|finding| finding.action == Action::Refuse) {
        Some(finding) => Err(Error::Refused { rule: finding.rule.clone() }),
        None if findings.is_empty() => Ok(text),
        None => Ok(redacted(&text, &findings)),
    }
}

/// Holds every text in a value against rules.
fn pass_value(guard: &dyn Guard, value: &mut Value) -> Result<(), Error> {
    match value {
        Value::String(text) => *text = pass(guard, std::mem::take(text))?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| pass_value(guard, item))?,
        Value::Object(map) => map.values_mut().try_for_each(|value| pass_value(guard, value))?,
        _ => {}
    }
    Ok(())
}
