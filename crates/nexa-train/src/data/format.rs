//! The forms that rows of data sets have, and what they say.

use nexa_core::table::Row;
use nexa_model::{Conversation, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options::DatasetConfig;

/// What a row of a data set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleType {
    /// `messages`, each with `role` and `content`, and perhaps `tools`.
    #[serde(alias = "messages")]
    ChatTemplate,
    /// `prompt` and `completion`: two texts, which are joined without a template, or two lists of messages.
    Completion,
    /// `conversations`, each with `from` and `value`.
    Sharegpt,
    /// `instruction`, perhaps `input`, and `output`: one question and its answer.
    Alpaca,
    /// `input` and `output`: one question and its answer.
    InputOutput,
    /// `text` alone; all of it is trained.
    #[serde(alias = "pretrain")]
    Text,
    /// `chosen` and `rejected`, and perhaps `prompt`: texts or lists of messages.
    #[serde(alias = "dpo")]
    Preference,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Example {
    /// A conversation, of which the turns from `context` messages on are to be learnt.
    Chat { conversation: Conversation, context: usize },
    /// A text and what follows it.
    Completion { prompt: String, completion: String },
    /// A text.
    Text(String),
    /// Two ways to go on; the first is the better one.
    Preference(Box<[Self; 2]>),
}

impl SampleType {
    /// Tells the type by the columns.
    pub(super) fn of(row: &Row, config: &DatasetConfig) -> Option<Self> {
        let has = |column: &str| row.get(column).is_some_and(|value| !value.is_null());
        let named = |field: &Option<String>| field.as_deref().is_some_and(has);
        let found = [
            (has("chosen") && has("rejected"), Self::Preference),
            (named(&config.field_messages) || has("messages"), Self::ChatTemplate),
            (has("conversations"), Self::Sharegpt),
            (has("prompt") && has("completion"), Self::Completion),
            (has("instruction") && has("output"), Self::Alpaca),
            (has("input") && has("output"), Self::InputOutput),
            (named(&config.field) || has("text"), Self::Text),
        ];
        found.into_iter().find(|(fits, _)| *fits).map(|(_, kind)| kind)
    }

    /// Reads a row of this type. `chats` says whether questions and answers can be put into a chat template.
    pub(super) fn read(self, row: &Row, config: &DatasetConfig, chats: bool) -> Result<Example, String> {
        let reader = Reader { row, config };
        match self {
            Self::ChatTemplate => {
                reader.chat(config.field_messages.as_deref().unwrap_or("messages"), ["role", "content"])
            }
            Self::Sharegpt => {
                reader.chat(config.field_messages.as_deref().unwrap_or("conversations"), ["from", "value"])
            }
            Self::Completion => reader.completion(),
            Self::Alpaca => {
                let instruction = reader.text(&config.field_instruction, "instruction")?;
                let input =
                    reader.optional_text(&config.field_input, "input")?.filter(|input| !input.is_empty());
                let output = reader.text(&config.field_output, "output")?;
                if !chats {
                    return Ok(Example::Completion {
                        prompt: alpaca(instruction, input),
                        completion: output.to_owned(),
                    });
                }
                let question =
                    input.map_or_else(|| instruction.to_owned(), |input| format!("{instruction}\n\n{input}"));
                reader.question(question, output)
            }
            Self::InputOutput => {
                let input = reader.text(&config.field_input, "input")?;
                let output = reader.text(&config.field_output, "output")?;
                if !chats {
                    return Ok(Example::Completion {
                        prompt: alpaca(input, None),
                        completion: output.to_owned(),
                    });
                }
                reader.question(input.to_owned(), output)
            }
            Self::Text => Ok(Example::Text(reader.text(&config.field, "text")?.to_owned())),
            Self::Preference => {
                let read = |column| reader.continuation(column, chats);
                Ok(Example::Preference(Box::new([read("chosen")?, read("rejected")?])))
            }
        }
    }
}

/// The columns of a row, for messages.
pub(super) fn columns(row: &Row) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A question without a chat template. The headings are those that Alpaca made usual.
fn alpaca(instruction: &str, input: Option<&str>) -> String {
    let input = input.map(|input| format!("### Input:\n{input}\n\n")).unwrap_or_default();
    format!("### Instruction:\n{instruction}\n\n{input}### Response:\n")
}

/// A row being read.
struct Reader<'a> {
    row: &'a Row,
    config: &'a DatasetConfig,
}

impl<'a> Reader<'a> {
    fn value(&self, column: &str) -> Result<&'a Value, String> {
        let value = self.row.get(column).filter(|value| !value.is_null());
        value.ok_or_else(|| format!("column `{column}` is missing; there are: {}", columns(self.row)))
    }

    fn text(&self, field: &Option<String>, column: &str) -> Result<&'a str, String> {
        let column = field.as_deref().unwrap_or(column);
        self.value(column)?.as_str().ok_or_else(|| format!("column `{column}` does not hold text"))
    }

    fn optional_text(&self, field: &Option<String>, column: &str) -> Result<Option<&'a str>, String> {
        let name = field.as_deref().unwrap_or(column);
        if self.row.get(name).is_none_or(Value::is_null) {
            Ok(None)
        } else {
            self.text(field, column).map(Some)
        }
    }

    /// A conversation in a column, with `tools` and the like from columns of these names.
    fn chat(&self, column: &str, keys: [&str; 2]) -> Result<Example, String> {
        let messages = self.messages(column, keys)?;
        Ok(Example::Chat { conversation: self.conversation(messages)?, context: 0 })
    }

    fn conversation(&self, mut messages: Vec<Message>) -> Result<Conversation, String> {
        if let Some(system) = self.optional_text(&self.config.field_system, "system")?
            && !system.is_empty()
            && messages.first().is_none_or(|message| message.role != "system")
        {
            messages.insert(0, Message::new("system", system));
        }
        let column = |name| match self.row.get(name) {
            None | Some(Value::Null) => Ok(None),
            // Tables that know no lists of maps keep them as text.
            Some(Value::String(json)) => {
                serde_json::from_str(json).map(Some).map_err(|error| format!("column `{name}`: {error}"))
            }
            Some(value) => Ok(Some(value.clone())),
        };
        let template_kwargs = match self.row.get("chat_template_kwargs") {
            Some(Value::Object(kwargs)) => kwargs.clone(),
            _ => Map::new(),
        };
        Ok(Conversation {
            messages,
            tools: column("tools")?,
            documents: column("documents")?,
            template_kwargs,
        })
    }

    fn question(&self, question: String, answer: &str) -> Result<Example, String> {
        let messages = vec![Message::new("user", question), Message::new("assistant", answer)];
        Ok(Example::Chat { conversation: self.conversation(messages)?, context: 0 })
    }

    fn completion(&self) -> Result<Example, String> {
        let prompt = self.config.field_instruction.as_deref().unwrap_or("prompt");
        let completion = self.config.field_output.as_deref().unwrap_or("completion");
        match (self.value(prompt)?, self.value(completion)?) {
            (Value::String(prompt), Value::String(completion)) => {
                Ok(Example::Completion { prompt: prompt.clone(), completion: completion.clone() })
            }
            (Value::Array(_), Value::Array(_)) => self.two_lists(prompt, completion),
            _ => Err(format!(
                "columns `{prompt}` and `{completion}` hold neither two texts nor two lists of messages"
            )),
        }
    }

    fn two_lists(&self, prompt: &str, completion: &str) -> Result<Example, String> {
        let mut messages = self.messages(prompt, ["role", "content"])?;
        let before = messages.len();
        messages.extend(self.messages(completion, ["role", "content"])?);
        let after = messages.len() - before;
        let conversation = self.conversation(messages)?;
        Ok(Example::Chat { context: conversation.messages.len() - after, conversation })
    }

    /// One of the two ways to go on of a preference.
    fn continuation(&self, column: &str, chats: bool) -> Result<Example, String> {
        let prompt = self.config.field_instruction.as_deref().unwrap_or("prompt");
        match (self.row.get(prompt).filter(|prompt| !prompt.is_null()), self.value(column)?) {
            (Some(Value::String(prompt)), Value::String(answer)) if chats => {
                self.question(prompt.clone(), answer)
            }
            (Some(Value::String(prompt)), Value::String(answer)) => {
                Ok(Example::Completion { prompt: prompt.clone(), completion: answer.clone() })
            }
            (Some(Value::Array(_)), Value::Array(_)) => self.two_lists(prompt, column),
            // The question as text and the answer as messages that begin with it or follow it.
            (Some(Value::String(question)), Value::Array(_)) => {
                let mut messages = self.messages(column, ["role", "content"])?;
                if messages.first().is_some_and(|message| message.role == "assistant") {
                    messages.insert(0, Message::new("user", question.as_str()));
                }
                self.last_turn(messages)
            }
            (None, Value::Array(_)) => self.last_turn(self.messages(column, ["role", "content"])?),
            _ => Err(format!("columns `{prompt}` and `{column}` hold neither texts nor lists of messages")),
        }
    }

    /// A conversation of which the last message is to be learnt.
    fn last_turn(&self, messages: Vec<Message>) -> Result<Example, String> {
        let conversation = self.conversation(messages)?;
        Ok(Example::Chat { context: conversation.messages.len().saturating_sub(1), conversation })
    }

    fn messages(&self, column: &str, keys: [&str; 2]) -> Result<Vec<Message>, String> {
        let list =
            self.value(column)?.as_array().ok_or_else(|| format!("column `{column}` is not a list"))?;
        if list.is_empty() {
            return Err(format!("column `{column}` is empty"));
        }
        let mappings = &self.config.message_property_mappings;
        let role_key = mappings.role.as_deref().unwrap_or(keys[0]);
        let content_key = mappings.content.as_deref().unwrap_or(keys[1]);
        let read = |(position, value): (usize, &Value)| {
            let place = format!("column `{column}`, message {}", position + 1);
            let object = value.as_object().ok_or_else(|| format!("{place}: not an object"))?;
            let role = object.get(role_key).and_then(Value::as_str).ok_or_else(|| {
                format!("{place}: key `{role_key}` is missing; there are: {}", columns(object))
            })?;
            let content = object.get(content_key).cloned().unwrap_or(Value::Null);
            let mut rest = object.clone();
            rest.retain(|key, _| key != role_key && key != content_key);
            let content = joined(content);
            if content.is_null() && rest.values().all(Value::is_null) {
                return Err(format!(
                    "{place}: key `{content_key}` is missing; there are: {}",
                    columns(object)
                ));
            }
            Ok(Message { role: usual(role).to_owned(), content, rest })
        };
        list.iter().enumerate().map(read).collect()
    }
}

/// The role as chat templates call it.
fn usual(role: &str) -> &str {
    match role {
        "human" | "User" => "user",
        "gpt" | "bot" | "chatgpt" | "model" | "Assistant" => "assistant",
        "function_response" | "observation" => "tool",
        other => other,
    }
}

/// A list of texts as one text; what else a message may hold is left to the template.
fn joined(content: Value) -> Value {
    let Value::Array(parts) = &content else { return content };
    let text = |part: &Value| {
        let is_text = part.get("type").is_some_and(|kind| kind == "text");
        is_text.then(|| part.get("text")?.as_str().map(str::to_owned)).flatten()
    };
    match parts.iter().map(text).collect::<Option<String>>() {
        Some(text) => Value::String(text),
        None => content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: &Value, config: &DatasetConfig, chats: bool) -> Result<(SampleType, Example), String> {
        let row = row.as_object().expect("an object");
        let kind =
            SampleType::of(row, config).ok_or_else(|| format!("no format; there are: {}", columns(row)))?;
        Ok((kind, kind.read(row, config, chats)?))
    }

    /// `role: content` of every message, with a bar before the first that is to be learnt.
    fn told(example: &Example) -> String {
        match example {
            Example::Chat { conversation, context } => {
                let messages = conversation.messages.iter().enumerate().map(|(position, message)| {
                    let bar = if position == *context { "|" } else { "" };
                    format!("{bar}{}: {}", message.role, message.content.as_str().unwrap_or("-"))
                });
                messages.collect::<Vec<_>>().join("; ")
            }
            Example::Completion { prompt, completion } => format!("{prompt}|{completion}"),
            Example::Text(text) => format!("|{text}"),
            Example::Preference(pair) => format!("{} > {}", told(&pair[0]), told(&pair[1])),
        }
    }

    #[test]
    fn rows_are_told_by_their_columns() {
        let check = |row: Value, kind: SampleType, expected: &str| {
            let (found, example) = read(&row, &DatasetConfig::default(), true).expect("is read");
            assert_eq!((found, told(&example).as_str()), (kind, expected));
        };
        let (user, says) =
            (json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"}));
        check(json!({"messages": [user, says]}), SampleType::ChatTemplate, "|user: a; assistant: b");
        check(
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}]}),
            SampleType::ChatTemplate,
            "|user: xy",
        );
        check(json!({"prompt": "a ", "completion": "b"}), SampleType::Completion, "a |b");
        check(
            json!({"prompt": [user], "completion": [says]}),
            SampleType::Completion,
            "user: a; |assistant: b",
        );
        check(
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}),
            SampleType::Sharegpt,
            "|system: s; user: a; assistant: b",
        );
        check(
            json!({"instruction": "a", "input": "x", "output": "b"}),
            SampleType::Alpaca,
            "|user: a\n\nx; assistant: b",
        );
        check(
            json!({"instruction": "a", "input": "", "output": "b"}),
            SampleType::Alpaca,
            "|user: a; assistant: b",
        );
        check(
            json!({"input": "a", "output": "b", "meta": {}}),
            SampleType::InputOutput,
            "|user: a; assistant: b",
        );
        check(json!({"text": "a"}), SampleType::Text, "|a");
        check(
            json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
            SampleType::Preference,
            "|user: a; assistant: b > |user: a; assistant: c",
        );
        check(
            json!({"chosen": [user, says], "rejected": [user, says]}),
            SampleType::Preference,
            "user: a; |assistant: b > user: a; |assistant: b",
        );
    }

    #[test]
    fn fields_and_types_can_be_named() {
        let config: DatasetConfig = serde_json::from_value(json!({
            "type": "chat_template", "field_messages": "talk",
            "message_property_mappings": {"role": "who", "content": "what"},
        }))
        .expect("a configuration");
        let row = json!({"talk": [{"who": "user", "what": "a"}], "text": "z"});
        assert_eq!(told(&read(&row, &config, true).expect("is read").1), "|user: a");
        let row = json!({"instruction": "a", "input": "x", "output": "b"});
        let (_, example) = read(&row, &DatasetConfig::default(), false).expect("is read");
        assert_eq!(told(&example), "### Instruction:\na\n\n### Input:\nx\n\n### Response:\n|b");
    }

    #[test]
    fn a_row_that_fits_nothing_names_its_columns() {
        let check = |row: Value, expected: &str| {
            let error = read(&row, &DatasetConfig::default(), true).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        check(json!({"question": "a", "answer": "b"}), "question, answer");
        check(json!({"messages": []}), "column `messages` is empty");
        check(
            json!({"messages": [{"role": "user"}]}),
            "message 1: key `content` is missing; there are: role",
        );
        check(json!({"messages": [{"who": "user"}]}), "message 1: key `role` is missing; there are: who");
        check(json!({"prompt": "a", "completion": ["b"]}), "neither two texts nor two lists");
    }
}
