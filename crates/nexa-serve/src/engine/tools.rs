//! Calls of tools: what a model writes for one, and what an answer must be where one is demanded.

use nexa_core::lm::{AnswerForm, ToolSyntax};
use serde_json::{Value, json};

/// Before a call, in [`ToolSyntax::Tagged`].
const OPEN: &str = "<tool_call>";
/// After a call, in [`ToolSyntax::Tagged`].
const CLOSE: &str = "</tool_call>";
/// Before the calls, in [`ToolSyntax::Array`].
const CALLS: &str = "[TOOL_CALLS]";

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    /// What it is called.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text for whoever asked.
    Text(String),
    /// A call of a tool.
    Call {
        /// The tool.
        name: String,
        /// Its arguments as a JSON object.
        arguments: String,
    },
}

/// Returns what an answer looks like that calls one or several of some tools.
pub(crate) fn demanded(syntax: ToolSyntax, tools: &[Tool], parallel: bool) -> AnswerForm {
    let arguments = match syntax {
        ToolSyntax::Tagged | ToolSyntax::Array => "arguments",
        ToolSyntax::Object => "parameters",
    };
    let call = |tool: &Tool| {
        json!({
            "type": "object",
            "properties": {"name": {"const": tool.name}, arguments: tool.parameters},
            "required": ["name", arguments],
            "additionalProperties": false,
        })
    };
    let calls: Vec<Value> = tools.iter().map(call).collect();
    let call = json!({"anyOf": calls});
    match syntax {
        ToolSyntax::Object => AnswerForm::JsonSchema(call),
        ToolSyntax::Array => {
            let mut array = json!({"type": "array", "items": call, "minItems": 1});
            if !parallel {
                array["maxItems"] = json!(1);
            }
            AnswerForm::JsonSchema(array)
        }
        ToolSyntax::Tagged => {
            let more = if parallel { " (\"\\n\" call)*" } else { "" };
            let (open, close) = (json!(format!("{OPEN}\n")), json!(format!("\n{CLOSE}")));
            AnswerForm::Grammar(format!("start: call{more}\ncall: {open} body {close}\nbody: %json {call}"))
        }
    }
}

/// Finds the calls in an answer while it is written. Text is passed on as soon as it cannot be the beginning of a call.
#[derive(Debug)]
pub(crate) struct ToolStream {
    syntax: ToolSyntax,
    /// What may be, or is, the beginning of a call.
    held: String,
    /// Whether anything but white space was passed on.
    has_text: bool,
    has_calls: bool,
}

impl ToolStream {
    /// For an answer of a model that writes calls in some way.
    pub(crate) fn new(syntax: ToolSyntax) -> Self {
        Self { syntax, held: String::new(), has_text: false, has_calls: false }
    }

    /// Takes what the model has written next.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        match self.syntax {
            ToolSyntax::Tagged => while self.tagged(&mut pieces) {},
            ToolSyntax::Object | ToolSyntax::Array => {
                // Only a whole answer is a call.
                let begun = self.held.trim_start();
                if self.has_text || !may_begin(begun, self.starts()) {
                    let text = std::mem::take(&mut self.held);
                    self.pass(text, &mut pieces);
                }
            }
        }
        pieces
    }

    /// Takes the end of the answer.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let rest = std::mem::take(&mut self.held);
        let calls = match self.syntax {
            // A model that stops at the end of a call may leave the mark out.
            ToolSyntax::Tagged => rest.trim_start().strip_prefix(OPEN).and_then(calls),
            ToolSyntax::Object => calls(rest.trim().trim_start_matches("<|python_tag|>")),
            ToolSyntax::Array => calls(rest.trim().trim_start_matches(CALLS)),
        };
        match calls.filter(|_| !self.has_text || self.syntax == ToolSyntax::Tagged) {
            Some(calls) => {
                self.has_calls = true;
                pieces.extend(calls);
            }
            None => self.pass(rest, &mut pieces),
        }
        pieces
    }

    /// Whether the answer has called a tool.
    pub(crate) fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// What an answer that is a call begins with.
    fn starts(&self) -> &'static [&'static str] {
        match self.syntax {
            ToolSyntax::Tagged => &[OPEN],
            ToolSyntax::Object => &["{", "<|python_tag|>"],
            ToolSyntax::Array => &["[{", CALLS],
        }
    }

    /// Passes text or a call on, and returns whether there may be more.
    fn tagged(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(open) = self.held.find(OPEN) else {
            let kept = self.held.len() - begun(&self.held, OPEN);
            let rest = self.held.split_off(kept);
            let text = std::mem::replace(&mut self.held, rest);
            self.pass(text, pieces);
            return false;
        };
        let Some(length) = self.held[open..].find(CLOSE) else {
            let rest = self.held.split_off(open);
            let text = std::mem::replace(&mut self.held, rest);
            self.pass(text, pieces);
            return false;
        };
        let rest = self.held.split_off(open + length + CLOSE.len());
        let whole = std::mem::replace(&mut self.held, rest);
        let (before, call) = whole.split_at(open);
        self.pass(before.to_owned(), pieces);
        match calls(&call[OPEN.len()..length]) {
            Some(calls) => {
                self.has_calls = true;
                pieces.extend(calls);
            }
            // What is malformed is shown as it is: nothing that a model wrote is lost.
            None => self.pass(call.to_owned(), pieces),
        }
        true
    }

    fn pass(&mut self, text: String, pieces: &mut Vec<Piece>) {
        let is_blank = text.trim().is_empty();
        // Line breaks around calls belong to their notation.
        if text.is_empty() || is_blank && self.has_calls {
            return;
        }
        self.has_text |= !is_blank;
        pieces.push(Piece::Text(text));
    }
}

/// How many bytes at the end of a text may be the beginning of a mark.
fn begun(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|&length| text.ends_with(&mark[..length])).unwrap_or(0)
}

/// Whether a text begins with one of some marks, or may yet.
fn may_begin(text: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| text.starts_with(mark) || mark.starts_with(text))
}

/// Reads calls: objects one after the other, or arrays of them.
fn calls(text: &str) -> Option<Vec<Piece>> {
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()?;
    let values = values.into_iter().flat_map(|value| match value {
        Value::Array(items) => items,
        other => vec![other],
    });
    let calls: Vec<Piece> = values.map(call).collect::<Option<_>>()?;
    (!calls.is_empty()).then_some(calls)
}

fn call(mut value: Value) -> Option<Piece> {
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments =
        ["arguments", "parameters"].iter().find_map(|key| value.get_mut(*key).map(Value::take))?;
    let arguments = match arguments {
        Value::String(text) => text,
        arguments => arguments.to_string(),
    };
    Some(Piece::Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an answer that is written in pieces of some bytes; texts that follow each other are joined.
    fn read(syntax: ToolSyntax, answer: &str, bytes: usize) -> Vec<Piece> {
        let mut stream = ToolStream::new(syntax);
        let mut pieces = Vec::new();
        for part in answer.as_bytes().chunks(bytes) {
            pieces.extend(stream.push(std::str::from_utf8(part).expect("ASCII")));
        }
        pieces.extend(stream.finish());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, piece) => joined.push(piece),
            }
        }
        assert_eq!(stream.has_calls(), joined.iter().any(|piece| matches!(piece, Piece::Call { .. })));
        joined
    }

    fn check(syntax: ToolSyntax, answer: &str, expected: &[Piece]) {
        for bytes in 1..=answer.len() {
            assert_eq!(read(syntax, answer, bytes), expected, "{answer} in pieces of {bytes}");
        }
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn calls_between_tags_are_found_wherever_the_answer_is_cut() {
        let one = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        check(ToolSyntax::Tagged, one, &[call("add", r#"{"a":1}"#)]);
        let several = format!("I will add.\n{one}\n{one}");
        let expected = [text("I will add.\n"), call("add", r#"{"a":1}"#), call("add", r#"{"a":1}"#)];
        check(ToolSyntax::Tagged, &several, &expected);
        check(ToolSyntax::Tagged, one.trim_end_matches("\n</tool_call>"), &[call("add", r#"{"a":1}"#)]);
        check(ToolSyntax::Tagged, "1 < 2 and <tool", &[text("1 < 2 and <tool")]);
        let broken = "<tool_call>{\"name\": </tool_call> sorry";
        check(ToolSyntax::Tagged, broken, &[text(broken)]);
        check(ToolSyntax::Tagged, "no call", &[text("no call")]);
    }

    #[test]
    fn an_answer_that_is_an_object_or_an_array_of_calls_is_one() {
        let object = r#" {"name": "add", "parameters": {"a": 1}}"#;
        check(ToolSyntax::Object, object, &[call("add", r#"{"a":1}"#)]);
        check(ToolSyntax::Object, &format!("<|python_tag|>{object}"), &[call("add", r#"{"a":1}"#)]);
        check(ToolSyntax::Object, r#"{"answer": 5}"#, &[text(r#"{"answer": 5}"#)]);
        check(ToolSyntax::Object, r#"It is {"name": 1}"#, &[text(r#"It is {"name": 1}"#)]);
        let array = r#"[{"name": "add", "arguments": {"a": 1}}, {"name": "sub", "arguments": {}}]"#;
        let expected = [call("add", r#"{"a":1}"#), call("sub", "{}")];
        check(ToolSyntax::Array, array, &expected);
        check(ToolSyntax::Array, &format!("[TOOL_CALLS] {array}"), &expected);
        check(ToolSyntax::Array, "[1, 2] is a list", &[text("[1, 2] is a list")]);
    }
}
