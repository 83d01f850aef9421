//! The texts in a row of training data, in any of the forms that training reads: what a vocabulary is learnt from.
//!
//! Training itself makes conversations of rows, with roles and turns; here only the words count, so a form is no more
//! than the columns that hold some.

use std::path::PathBuf;

use nexa_core::artifact::ArtifactId;
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the rows of a data set are read, in the words of Axolotl, which are those of training.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextColumns {
    /// The data set that this is about, by its name in the lab; any where absent.
    #[serde(alias = "name", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What a row is. Told by its columns where absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// The column of the conversation; `messages`, or `conversations` for ShareGPT, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_messages: Option<String>,
    /// The keys of a message.
    pub message_property_mappings: MessageKeys,
    /// The column of the instructions that stand before a conversation; `system` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_system: Option<String>,
    /// The column of what is asked; `instruction`, `prompt` or `input`, as the type has it, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_instruction: Option<String>,
    /// The column of what the question is about; `input` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_input: Option<String>,
    /// The column of the answer; `output` or `completion`, as the type has it, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_output: Option<String>,
    /// The column of plain text; `text` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The keys of a message, where they are not those of its form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageKeys {
    /// Who speaks; it is no text that a vocabulary is learnt from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What is said; `content`, or `value` for ShareGPT, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `messages`, each with `content`.
    #[serde(alias = "messages")]
    ChatTemplate,
    /// `prompt` and `completion`: texts or lists of messages.
    Completion,
    /// `conversations`, each with `value`.
    Sharegpt,
    /// `instruction`, perhaps `input`, and `output`.
    Alpaca,
    /// `input` and `output`.
    InputOutput,
    /// `text`.
    #[serde(alias = "pretrain")]
    Text,
    /// `chosen` and `rejected`, and perhaps `prompt`: texts or lists of messages.
    #[serde(alias = "dpo")]
    Preference,
}

impl TextColumns {
    /// Whether this is about a data set, whose name may be given with project and version or without.
    pub(crate) fn is_about(&self, id: &ArtifactId) -> bool {
        let whole = id.to_string();
        let short = whole.rsplit('/').next().unwrap_or_default();
        let names = [whole.as_str(), short, &id.name];
        self.path.as_ref().is_none_or(|path| names.iter().any(|name| path.as_os_str() == *name))
    }

    /// Lists the texts of a row.
    ///
    /// # Errors
    /// Names the column that is missing or holds something else, and those that there are.
    pub(crate) fn texts_of(&self, row: &Row) -> Result<Vec<String>, String> {
        let Some(form) = self.form.or_else(|| self.form_of(row)) else {
            return Err(format!(
                "no texts are found by its columns ({}); name them with `datasets=[{{type: …, field_messages: …}}]`",
                names(row)
            ));
        };
        let (optional, required) = self.columns(form);
        let key = if form == Form::Sharegpt { "value" } else { "content" };
        let key = self.message_property_mappings.content.as_deref().unwrap_or(key);
        let mut texts = Vec::new();
        for (column, is_required) in
            optional.iter().map(|column| (column, false)).chain(required.iter().map(|column| (column, true)))
        {
            match row.get(*column).filter(|value| !value.is_null()) {
                Some(value) => texts
                    .extend(texts_in(value, key).map_err(|problem| format!("column `{column}` {problem}"))?),
                None if is_required => {
                    return Err(format!("column `{column}` is missing; there are: {}", names(row)));
                }
                None => {}
            }
        }
        Ok(texts)
    }

    /// Tells what a row is by its columns, in the order in which training does.
    fn form_of(&self, row: &Row) -> Option<Form> {
        let has = |column: &str| row.get(column).is_some_and(|value| !value.is_null());
        let named = |field: &Option<String>| field.as_deref().is_some_and(has);
        let found = [
            (has("chosen") && has("rejected"), Form::Preference),
            (named(&self.field_messages) || has("messages"), Form::ChatTemplate),
            (has("conversations"), Form::Sharegpt),
            (has("prompt") && has("completion"), Form::Completion),
            (has("instruction") && has("output"), Form::Alpaca),
            (has("input") && has("output"), Form::InputOutput),
            (named(&self.field) || has("text"), Form::Text),
        ];
        found.into_iter().find(|(fits, _)| *fits).map(|(_, form)| form)
    }

    /// The columns of a form: those that may be there, and those that must.
    fn columns(&self, form: Form) -> (Vec<&str>, Vec<&str>) {
        fn or<'a>(field: &'a Option<String>, usual: &'a str) -> &'a str {
            field.as_deref().unwrap_or(usual)
        }
        let system = or(&self.field_system, "system");
        match form {
            Form::ChatTemplate => (vec![system], vec![or(&self.field_messages, "messages")]),
            Form::Sharegpt => (vec![system], vec![or(&self.field_messages, "conversations")]),
            Form::Completion => (
                vec![system],
                vec![or(&self.field_instruction, "prompt"), or(&self.field_output, "completion")],
            ),
            Form::Alpaca => (
                vec![system, or(&self.field_input, "input")],
                vec![or(&self.field_instruction, "instruction"), or(&self.field_output, "output")],
            ),
            Form::InputOutput => {
                (vec![system], vec![or(&self.field_input, "input"), or(&self.field_output, "output")])
            }
            Form::Text => (vec![], vec![or(&self.field, "text")]),
            Form::Preference => {
                (vec![system, or(&self.field_instruction, "prompt")], vec!["chosen", "rejected"])
            }
        }
    }
}

/// The texts of a column: one, or what each message of a list says under a key.
fn texts_in(value: &Value, key: &str) -> Result<Vec<String>, String> {
    let messages = match value {
        Value::String(text) => return Ok(vec![text.clone()]),
        Value::Array(messages) => messages,
        _ => return Err("holds neither a text nor a list of messages".to_owned()),
    };
    let mut texts = Vec::with_capacity(messages.len());
    for (position, message) in messages.iter().enumerate() {
        let object = message.as_object().ok_or_else(|| format!("message {}: not an object", position + 1))?;
        match object.get(key) {
            Some(Value::String(text)) => texts.push(text.clone()),
            // A message in parts, of which some are texts.
            Some(Value::Array(parts)) => {
                let said = parts.iter().filter_map(|part| part.get("text")?.as_str());
                texts.extend(said.map(str::to_owned));
            }
            // A call of a tool says nothing.
            _ if object.len() > 1
                && object.get(key).is_none_or(Value::is_null)
                && object.contains_key("tool_calls") => {}
            _ => {
                return Err(format!(
                    "message {}: key `{key}` holds no text; there are: {}",
                    position + 1,
                    names(object)
                ));
            }
        }
    }
    Ok(texts)
}

/// The columns of a row, or the keys of a message.
fn names(row: &Row) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(columns: &Value, row: &Value) -> Result<Vec<String>, String> {
        let columns: TextColumns = serde_json::from_value(columns.clone()).expect("a configuration");
        columns.texts_of(row.as_object().expect("a row"))
    }

    #[test]
    fn every_form_has_its_texts() {
        let check = |row: Value, expected: &[&str]| {
            assert_eq!(read(&json!({}), &row).expect("is read"), expected, "{row}");
        };
        let [user, says] = ["a", "b"].map(|text| json!({ "role": "user", "content": text }));
        check(json!({ "messages": [user, says], "text": "no" }), &["a", "b"]);
        check(json!({ "messages": [user], "system": "s" }), &["s", "a"]);
        let parts =
            json!([{ "type": "text", "text": "x" }, { "type": "image" }, { "type": "text", "text": "y" }]);
        check(json!({ "messages": [{ "role": "user", "content": parts }] }), &["x", "y"]);
        let call = json!({ "role": "assistant", "content": null, "tool_calls": [] });
        check(json!({ "messages": [user, call] }), &["a"]);
        let talk = json!([{ "from": "human", "value": "a" }, { "from": "gpt", "value": "b" }]);
        check(json!({ "conversations": talk, "system": "s" }), &["s", "a", "b"]);
        check(json!({ "prompt": "a", "completion": "b" }), &["a", "b"]);
        check(json!({ "prompt": [user], "completion": [says] }), &["a", "b"]);
        check(json!({ "instruction": "a", "input": "x", "output": "b" }), &["x", "a", "b"]);
        check(json!({ "instruction": "a", "input": null, "output": "b" }), &["a", "b"]);
        check(json!({ "input": "a", "output": "b" }), &["a", "b"]);
        check(json!({ "text": "a" }), &["a"]);
        check(json!({ "prompt": "p", "chosen": "a", "rejected": "b" }), &["p", "a", "b"]);
        check(json!({ "chosen": [user, says], "rejected": [user] }), &["a", "b", "a"]);
    }

    #[test]
    fn columns_and_keys_can_be_named() {
        let check = |columns: Value, row: Value, expected: &[&str]| {
            assert_eq!(read(&columns, &row).expect("is read"), expected, "{row}");
        };
        let keys = json!({ "role": "who", "content": "what" });
        check(
            json!({ "field_messages": "talk", "message_property_mappings": keys }),
            json!({ "talk": [{ "who": "user", "what": "a" }], "text": "no" }),
            &["a"],
        );
        check(
            json!({ "type": "alpaca", "field_instruction": "question", "field_output": "answer" }),
            json!({ "question": "a", "answer": "b" }),
            &["a", "b"],
        );
        check(json!({ "type": "pretrain", "field": "body" }), json!({ "body": "a", "text": "no" }), &["a"]);
        check(json!({ "field": "body" }), json!({ "body": "a" }), &["a"]);
    }

    #[test]
    fn a_row_without_texts_names_its_columns() {
        let check = |columns: Value, row: Value, expected: &str| {
            let error = read(&columns, &row).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        check(json!({}), json!({ "question": "a", "answer": "b" }), "question, answer");
        check(
            json!({ "type": "dpo" }),
            json!({ "chosen": "a" }),
            "column `rejected` is missing; there are: chosen",
        );
        check(json!({}), json!({ "text": 3 }), "column `text` holds neither");
        check(
            json!({}),
            json!({ "messages": [{ "role": "user" }] }),
            "message 1: key `content` holds no text",
        );
        check(json!({}), json!({ "messages": ["a"] }), "message 1: not an object");
    }

    #[test]
    fn an_entry_is_about_the_data_set_that_it_names() {
        let id: ArtifactId = "tutor/sft_v2".parse().expect("an id");
        for (path, expected) in [
            (None, true),
            (Some("sft"), true),
            (Some("sft_v2"), true),
            (Some("tutor/sft_v2"), true),
            (Some("sft_v1"), false),
            (Some("other"), false),
        ] {
            let columns = TextColumns { path: path.map(PathBuf::from), ..TextColumns::default() };
            assert_eq!(columns.is_about(&id), expected, "{path:?}");
        }
    }
}
