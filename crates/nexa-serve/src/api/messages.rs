//! The messages of a conversation.

use nexa_core::lm::{ChatMessage, Role};
use serde_json::{Map, Value};

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use crate::Prompt;

/// Roles, as requests name them.
const ROLES: [(&str, Role); 5] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("assistant", Role::Assistant),
    ("tool", Role::Tool),
];

/// A conversation: who said what, and which tools were called in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    messages: Vec<ChatMessage>,
    /// What else the chat template is shown of every message; empty maps where nothing is.
    more: Vec<Map<String, Value>>,
}

impl Conversation {
    /// Who said what.
    pub(super) fn messages(&self) -> &[ChatMessage] {
        &self.messages
    }

    /// Whether tools were called in it.
    pub(super) fn calls_tools(&self) -> bool {
        self.more.iter().any(|more| more.contains_key("tool_calls"))
    }

    /// The prompt, with the tools that the model may call.
    pub(super) fn prompt(self, tools: Option<Value>) -> Prompt {
        if tools.is_none() && !self.calls_tools() {
            return Prompt::Messages(self.messages);
        }
        let message = |(message, more): (ChatMessage, Map<String, Value>)| {
            let said = [("role", message.role.as_str().into()), ("content", message.content.into())];
            said.into_iter().map(|(key, value): (&str, Value)| (key.to_owned(), value)).chain(more).collect()
        };
        let messages = self.messages.into_iter().zip(self.more).map(message).collect();
        Prompt::Conversation { messages, tools }
    }
}

/// Takes `messages`.
pub(super) fn take_messages(fields: &mut Fields) -> Result<Conversation, ApiError> {
    let items = match fields.value("messages") {
        None => return Err(ApiError::bad_param("messages", "`messages` is missing")),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("messages", "an array", &other)),
    };
    if items.is_empty() {
        return Err(ApiError::bad_param("messages", "`messages` is empty"));
    }
    let messages = items.into_iter().enumerate().map(|(position, item)| message(position, item));
    let (messages, more) = messages.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok(Conversation { messages, more })
}

fn message(position: usize, item: Value) -> Result<(ChatMessage, Map<String, Value>), ApiError> {
    let place = format!("messages[{position}]");
    let Value::Object(map) = item else { return Err(wrong_type(&place, "an object", &item)) };
    let mut fields = Fields::from(map);
    let role_param = format!("{place}.role");
    let role = match fields.string("role")? {
        Some(word) => {
            ROLES.iter().find(|(known, _)| *known == word).map(|(_, role)| *role).ok_or_else(|| {
                let known = ROLES.map(|(known, _)| known).join(", ");
                ApiError::bad_param(&role_param, format!("role `{word}` is not one of {known}"))
            })?
        }
        None => return Err(ApiError::bad_param(role_param, format!("`{place}` has no `role`"))),
    };
    for refused in ["function_call", "audio"] {
        if fields.value(refused).is_some() {
            return Err(ApiError::unsupported(format!("{place}.{refused}")));
        }
    }
    let mut more = Map::new();
    if let Some(calls) = fields.value("tool_calls") {
        more.insert("tool_calls".to_owned(), tool_calls(&format!("{place}.tool_calls"), role, calls)?);
    }
    for key in ["tool_call_id", "name", "reasoning_content"] {
        if let Some(text) = fields.string(key)? {
            more.insert(key.to_owned(), text.into());
        }
    }
    let param = format!("{place}.content");
    let content = match fields.value("content") {
        // A turn that only calls tools says nothing.
        None if more.contains_key("tool_calls") => String::new(),
        value => content(&param, value)?,
    };
    Ok((ChatMessage::new(role, content), more))
}

/// Calls as chat templates read them: with the arguments as an object, not as its text.
fn tool_calls(param: &str, role: Role, calls: Value) -> Result<Value, ApiError> {
    let Value::Array(calls) = calls else { return Err(wrong_type(param, "an array", &calls)) };
    if role != Role::Assistant {
        return Err(ApiError::bad_param(param, format!("`{param}` is only for messages of the assistant")));
    }
    let call = |(index, mut call): (usize, Value)| {
        let name = call.pointer("/function/name").and_then(Value::as_str);
        if name.is_none() {
            let message = format!("`{param}[{index}].function.name` is missing");
            return Err(ApiError::bad_param(param, message));
        }
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && let Some(text) = arguments.as_str()
        {
            *arguments = serde_json::from_str(text).map_err(|error| {
                let message = format!("`{param}[{index}].function.arguments` is not valid JSON: {error}");
                ApiError::bad_param(param, message)
            })?;
        }
        Ok(call)
    };
    calls.into_iter().enumerate().map(call).collect()
}

/// A text, or parts that are all texts, which are put on lines of their own as vLLM and llama.cpp do.
fn content(param: &str, value: Option<Value>) -> Result<String, ApiError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
                _ => Err(ApiError::bad_param(param, format!("`{param}` holds a part that is not text"))),
            };
            Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Some(other) => Err(wrong_type(param, "a string or an array of text parts", &other)),
        None => Err(ApiError::bad_param(param, format!("`{param}` is missing"))),
    }
}
