//! Calls of tools: what a model writes for one, and what an answer must be where one is demanded.

use std::collections::BTreeMap;

use nexa_core::lm::{AnswerForm, Tokenizer, ToolSyntax};
use serde_json::{Value, json};

use super::form::with_spaces;

/// Before a call, in [`ToolSyntax::Tagged`].
const OPEN: &str = "<tool_call>";
/// After a call, in [`ToolSyntax::Tagged`].
const CLOSE: &str = "</tool_call>";
/// Before the calls, in [`ToolSyntax::Array`]; in its newer form before each of them.
const CALLS: &str = "[TOOL_CALLS]";
/// Between the name of a tool and its arguments, in the newer form of [`ToolSyntax::Array`].
const ARGUMENTS: &str = "[ARGS]";
/// Between the name of a tool and the id of its call, where the newer form has one.
const CALL_ID: &str = "[CALL_ID]";

/// Special tokens that are parts of calls, with their texts, which a tokenizer leaves out of a text.
pub(super) type CallMarks = BTreeMap<u32, &'static str>;

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    /// What it is called.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether its arguments must fit their schema even where no call is demanded.
    pub strict: bool,
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

/// Looks through a vocabulary for the special tokens that calls are found by. Only [`ToolSyntax::Array`] has such: what the
/// others mark calls with is text, or says no more than the object after it.
pub(super) fn call_marks(tokenizer: &dyn Tokenizer) -> CallMarks {
    if tokenizer.tool_syntax() != Some(ToolSyntax::Array) {
        return CallMarks::new();
    }
    let mark = |id: u32| {
        let name = tokenizer.token_bytes(id)?;
        let text = [CALLS, ARGUMENTS, CALL_ID].into_iter().find(|mark| mark.as_bytes() == name.as_slice())?;
        Some((id, text))
    };
    (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_special(id)).filter_map(mark).collect()
}

/// Returns what an answer looks like that calls one or several of some tools.
pub(crate) fn demanded(syntax: ToolSyntax, tools: &[Tool], parallel: bool) -> AnswerForm {
    match syntax {
        ToolSyntax::Object => AnswerForm::JsonSchema(any_of(tools, "parameters", "#")),
        ToolSyntax::Array => {
            let items = any_of(tools, "arguments", "#/items");
            let mut array = json!({"type": "array", "items": items, "minItems": 1});
            if !parallel {
                array["maxItems"] = json!(1);
            }
            AnswerForm::JsonSchema(array)
        }
        ToolSyntax::Tagged => {
            let more = if parallel { " (\"\\n\" call)*" } else { "" };
            let open = json!(format!("{OPEN}\n"));
            AnswerForm::Grammar(format!("start: call{more}\ncall: {open} {}", tagged_body(tools)))
        }
    }
}

/// Returns what an answer in [`ToolSyntax::Tagged`] looks like that may call tools: any text, but once it opens a call, a call
/// whose arguments fit, where the tool is strict, their schema.
///
/// # Source
/// The structural tags of `llguidance`: the lazy lexeme takes what comes as text up to the mark.
pub(crate) fn offered(tools: &[Tool]) -> AnswerForm {
    let held = |tool: &Tool| {
        let parameters = if tool.strict { tool.parameters.clone() } else { json!({"type": "object"}) };
        Tool { parameters, ..tool.clone() }
    };
    let tools: Vec<Tool> = tools.iter().map(held).collect();
    let lines = [
        "start: call* text".to_owned(),
        "text: TEXT".to_owned(),
        r"TEXT: /(.|\n)*/".to_owned(),
        format!("open[lazy]: TEXT {}", json!(OPEN)),
        format!(r#"call: open "\n" {}"#, tagged_body(&tools)),
    ];
    AnswerForm::Grammar(lines.join("\n"))
}

/// The end of the rule for a call between tags, after its opening, and the rule for what stands between them.
fn tagged_body(tools: &[Tool]) -> String {
    let close = json!(format!("\n{CLOSE}"));
    format!("body {close}\nbody: %json {}", with_spaces(any_of(tools, "arguments", "#")))
}

/// The schema of a call of any of some tools, which stands at a place in the whole schema.
fn any_of(tools: &[Tool], arguments: &str, place: &str) -> Value {
    let call = |(index, tool): (usize, &Tool)| {
        let mut parameters = tool.parameters.clone();
        rebase_references(&mut parameters, &format!("{place}/anyOf/{index}/properties/{arguments}"));
        json!({
            "type": "object",
            "properties": {"name": {"const": tool.name}, arguments: parameters},
            "required": ["name", arguments],
            "additionalProperties": false,
        })
    };
    let calls: Vec<Value> = tools.iter().enumerate().map(call).collect();
    json!({ "anyOf": calls })
}

/// Makes the references in a schema lead to what they mean where it stands at `place` in a larger one: they count from the root
/// of the schema, but are followed from that of the whole. So the definitions of two tools cannot meet, whatever their names.
fn rebase_references(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| rebase_references(schema, place)),
        Value::Object(map) => {
            for (keyword, value) in map {
                match (keyword.as_str(), value) {
                    ("$ref", Value::String(target)) => {
                        if let Some(rest) = target.strip_prefix('#') {
                            *target = format!("{place}{}", rest.trim_end_matches('/'));
                        }
                    }
                    // Values, in which a key that looks like a keyword is none.
                    ("const" | "default" | "enum" | "examples", _) => {}
                    // Schemas by names, which may be keywords too.
                    (
                        "$defs" | "definitions" | "dependentSchemas" | "patternProperties" | "properties",
                        Value::Object(named),
                    ) => named.values_mut().for_each(|schema| rebase_references(schema, place)),
                    (_, value) => rebase_references(value, place),
                }
            }
        }
        _ => {}
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
            ToolSyntax::Array => {
                let answer = rest.trim();
                calls(answer.trim_start_matches(CALLS)).or_else(|| named_calls(answer))
            }
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

/// Reads calls in Mistral's newer form: `[TOOL_CALLS]name[ARGS]{…}`, one after the other.
fn named_calls(text: &str) -> Option<Vec<Piece>> {
    let call = |text: &str| {
        let (name, arguments) = text.split_once(ARGUMENTS)?;
        let name = name.split(CALL_ID).next()?.trim();
        let arguments: Value = serde_json::from_str(arguments).ok().filter(Value::is_object)?;
        let call = Piece::Call { name: name.to_owned(), arguments: arguments.to_string() };
        (!name.is_empty()).then_some(call)
    };
    text.strip_prefix(CALLS)?.split(CALLS).map(call).collect()
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
    use std::sync::Arc;

    use super::super::detokenize::Detokenizer;
    use super::*;
    use crate::byte_tokenizer::{ByteTokenizer, CALL_MARKS};

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

    #[test]
    fn calls_that_name_their_tool_before_the_arguments_are_found_too() {
        let one = r#"[TOOL_CALLS]add[ARGS]{"a": [1]}"#;
        check(ToolSyntax::Array, one, &[call("add", r#"{"a":[1]}"#)]);
        let several = format!("{one}[TOOL_CALLS]sub[CALL_ID]a1b2c3d4e[ARGS] {{}}");
        check(ToolSyntax::Array, &several, &[call("add", r#"{"a":[1]}"#), call("sub", "{}")]);
        for broken in ["[TOOL_CALLS]add[ARGS]{\"a\": ", "[TOOL_CALLS]add{}", "[TOOL_CALLS][ARGS]{}"] {
            check(ToolSyntax::Array, broken, &[text(broken)]);
        }
    }

    #[test]
    fn calls_are_found_where_their_marks_are_special_tokens() {
        let tokenizer = Arc::new(ByteTokenizer::default());
        let marks = Arc::new(call_marks(&*tokenizer));
        let texts: Vec<&str> = marks.values().copied().collect();
        assert_eq!(texts, [CALLS, ARGUMENTS, CALL_ID]);
        let [calls, arguments, call_id] = CALL_MARKS;
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        let found = |token_ids: &[u32]| {
            let mut detokenizer = Detokenizer::new(tokenizer.clone(), Arc::clone(&marks));
            let mut answer: String = token_ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
            answer.push_str(&detokenizer.finish().unwrap());
            read(ToolSyntax::Array, &answer, answer.len())
        };
        let first = [vec![calls], bytes("add"), vec![arguments], bytes(r#"{"a": 1}"#)].concat();
        assert_eq!(found(&first), [call("add", r#"{"a":1}"#)]);
        let second =
            [vec![calls], bytes("sub"), vec![call_id], bytes("a1"), vec![arguments], bytes("{}")].concat();
        assert_eq!(found(&[first, second].concat()), [call("add", r#"{"a":1}"#), call("sub", "{}")]);
        let older = [vec![calls], bytes(r#" [{"name": "add", "arguments": {"a": 1}}]"#)].concat();
        assert_eq!(found(&older), [call("add", r#"{"a":1}"#)]);
    }

    #[test]
    fn references_lead_to_the_schema_that_they_stand_in() {
        let check = |schema: Value, expected: Value| {
            let mut rebased = schema;
            rebase_references(&mut rebased, "#/x");
            assert_eq!(rebased, expected);
        };
        check(
            json!({"properties": {"$ref": {"$ref": "#/$defs/A"}, "const": {"items": [{"$ref": "#"}]}}}),
            json!({"properties": {"$ref": {"$ref": "#/x/$defs/A"}, "const": {"items": [{"$ref": "#/x"}]}}}),
        );
        check(
            json!({"$defs": {"A": {"anyOf": [{"$ref": "#/properties/a"}]}, "enum": {"$ref": "#/"}}}),
            json!({"$defs": {"A": {"anyOf": [{"$ref": "#/x/properties/a"}]}, "enum": {"$ref": "#/x"}}}),
        );
        let data = json!({"enum": [{"$ref": "#/a"}], "default": {"$ref": "#/a"}, "const": {"$ref": "#/a"}});
        check(data.clone(), data);
        let elsewhere = json!({"$ref": "https://example.org/schema#/a"});
        check(elsewhere.clone(), elsewhere);
    }
}
