//! The tools that a request offers, and whether one must be called.

use nexa_core::lm::{AnswerForm, ToolSyntax};
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::reply::random_hex;
use crate::engine::{Piece, Tool, ToolStream, demanded, offered};

/// Tools that one request may offer, as at OpenAI.
const MAX_TOOLS: usize = 128;

/// Characters of the id of a call for Mistral's chat templates, which refuse any other number.
const MISTRAL_ID: usize = 9;

/// What the model may call.
pub(super) struct Tools {
    tools: Vec<Tool>,
    /// As the request gave them, for the chat template.
    pub(super) shown: Value,
    choice: Choice,
    parallel: bool,
}

enum Choice {
    /// The model decides.
    Auto,
    /// Some tool is called.
    Required,
    /// This tool is called.
    Named(usize),
}

impl Tools {
    /// Whether the answer must be a call.
    pub(super) fn demand_a_call(&self) -> bool {
        !matches!(self.choice, Choice::Auto)
    }

    /// The form that the answer must have: that of a call where one is demanded, and of any text with calls where the model
    /// decides and a tool is strict.
    ///
    /// Only a mark tells the beginning of a call from text. Where the way of writing calls has none, `strict` holds only for a
    /// call that is demanded; it is not refused, as OpenAI's clients set it for every function that they make of a type.
    pub(super) fn form(&self, syntax: ToolSyntax) -> Option<AnswerForm> {
        match self.choice {
            Choice::Required => Some(demanded(syntax, &self.tools, self.parallel)),
            Choice::Named(index) => Some(demanded(syntax, &self.tools[index..=index], false)),
            Choice::Auto => {
                let holds = syntax == ToolSyntax::Tagged && self.tools.iter().any(|tool| tool.strict);
                holds.then(|| offered(&self.tools))
            }
        }
    }
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`. Nothing is offered where the choice is `none`.
pub(super) fn take_tools(fields: &mut Fields) -> Result<Option<Tools>, ApiError> {
    let parallel = fields.optional_flag("parallel_tool_calls")?.unwrap_or(true);
    let shown = match fields.value("tools") {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("tools", "an array", &other)),
    };
    if shown.len() > MAX_TOOLS {
        return Err(ApiError::bad_param("tools", format!("`tools` holds more than {MAX_TOOLS}")));
    }
    let tools: Vec<Tool> =
        shown.iter().enumerate().map(|(position, item)| tool(position, item)).collect::<Result<_, _>>()?;
    let Some(choice) = take_choice(fields, &tools)? else { return Ok(None) };
    if tools.is_empty() {
        return Ok(None);
    }
    Ok(Some(Tools { tools, shown: shown.into(), choice, parallel }))
}

/// Takes `tool_choice`; `None` where no tool is to be called.
fn take_choice(fields: &mut Fields, tools: &[Tool]) -> Result<Option<Choice>, ApiError> {
    const NAME: &str = "tool_choice";
    let needs_tools = |choice| match tools {
        [] => Err(ApiError::bad_param(NAME, format!("`{NAME}` asks for a call, but there are no `tools`"))),
        _ => Ok(Some(choice)),
    };
    match fields.value(NAME) {
        None => Ok(Some(Choice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(None),
            "auto" => Ok(Some(Choice::Auto)),
            "required" => needs_tools(Choice::Required),
            other => {
                let message =
                    format!("`{NAME}` is `{other}`, but must be none, auto, required or a function");
                Err(ApiError::bad_param(NAME, message))
            }
        },
        Some(choice) => {
            let named = choice.pointer("/function/name").and_then(Value::as_str);
            let Some(name) = named else {
                let expected = "none, auto, required, or an object with `function.name`";
                return Err(wrong_type(NAME, expected, &choice));
            };
            match tools.iter().position(|tool| tool.name == name) {
                Some(index) => needs_tools(Choice::Named(index)),
                None => {
                    let message = format!("`{NAME}` names `{name}`, which is none of the `tools`");
                    Err(ApiError::bad_param(NAME, message))
                }
            }
        }
    }
}

fn tool(position: usize, item: &Value) -> Result<Tool, ApiError> {
    let place = format!("tools[{position}]");
    let bad = |message: String| Err(ApiError::bad_param("tools", message));
    if item.get("type").and_then(Value::as_str) != Some("function") {
        return bad(format!("`{place}.type` must be `function`"));
    }
    let Some(name) = item.pointer("/function/name").and_then(Value::as_str).filter(|name| !name.is_empty())
    else {
        return bad(format!("`{place}.function.name` is missing"));
    };
    let parameters = match item.pointer("/function/parameters") {
        None | Some(Value::Null) => json!({"type": "object"}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return bad(format!("`{place}.function.parameters` is no JSON schema")),
    };
    let strict = match item.pointer("/function/strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(_) => return bad(format!("`{place}.function.strict` must be true or false")),
    };
    Ok(Tool { name: name.to_owned(), parameters, strict })
}

/// The text and the calls of one answer, as they are written.
pub(super) struct Calls {
    syntax: ToolSyntax,
    stream: ToolStream,
    count: usize,
}

/// A part of an answer, in the words of a chunk.
pub(super) enum Told {
    Text(String),
    /// An entry of `tool_calls`, with its `index`.
    Call(Value),
}

impl Calls {
    pub(super) fn new(syntax: ToolSyntax) -> Self {
        Self { syntax, stream: ToolStream::new(syntax), count: 0 }
    }

    /// Takes more of the answer.
    pub(super) fn push(&mut self, text: &str) -> Vec<Told> {
        let pieces = self.stream.push(text);
        self.told(pieces)
    }

    /// Takes the end of the answer.
    pub(super) fn finish(&mut self) -> Vec<Told> {
        let pieces = self.stream.finish();
        self.told(pieces)
    }

    /// Whether the answer has called a tool.
    pub(super) fn have_any(&self) -> bool {
        self.stream.has_calls()
    }

    fn told(&mut self, pieces: Vec<Piece>) -> Vec<Told> {
        let told = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Told::Text(text),
            Piece::Call { name, arguments } => {
                let index = self.count;
                self.count += 1;
                Told::Call(json!({
                    "index": index,
                    "id": call_id(self.syntax),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }))
            }
        });
        told.collect()
    }
}

/// A new id of a call, as the chat template takes it back.
fn call_id(syntax: ToolSyntax) -> String {
    match syntax {
        ToolSyntax::Array => random_hex()[..MISTRAL_ID].to_owned(),
        ToolSyntax::Tagged | ToolSyntax::Object => format!("call_{}", random_hex()),
    }
}
