//! The forms in which conversations are written for other trainers, each as JSONL by split and as one Parquet file.

use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::stage::Context;
use nexa_core::table::{JsonLines, Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::preference::Preference;
use super::{Item, Packaged, Split};
use crate::Result;

/// A form of training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `messages` of `role` and `content`: always written, as the main files.
    Messages,
    /// `conversations` of `from` and `value`, and `system`.
    Sharegpt,
    /// `instruction`, `input`, `output` and `system`.
    Alpaca,
    /// `prompt` and `completion`, both as lists of messages.
    PromptCompletion,
    /// `input`, `output` and `meta`.
    InputOutput,
    /// `prompt`, `chosen` and `rejected`, as lists of messages: pairs of answers to one prompt.
    Dpo,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt_completion",
            Self::InputOutput => "input_output",
            Self::Dpo => "dpo",
        }
    }

    /// A conversation in this form; the main files hold `messages`, and pairs are no conversations.
    fn row(self, item: &Item) -> Option<Row> {
        let system = item.messages.first().filter(|message| message.role == Role::System);
        let system = system.map(|message| message.content.as_str());
        let completion = item.messages.last().map(|message| message.content.as_str());
        let fields = match self {
            Self::Messages | Self::Dpo => return None,
            Self::Sharegpt => {
                json!({"conversations": turns(&item.messages), "system": system.unwrap_or_default()})
            }
            Self::Alpaca => json!({
                "instruction": item.prompt, "input": "", "output": completion, "system": system.unwrap_or_default(),
            }),
            Self::PromptCompletion => {
                let (completion, prompt) = item.messages.split_last()?;
                json!({"prompt": prompt, "completion": [completion]})
            }
            Self::InputOutput => json!({
                "input": item.prompt,
                "output": completion,
                "meta": {
                    "id": item.id,
                    "group": item.group,
                    "domain": item.domain,
                    "reference": item.reference,
                    "system_prompt": system,
                },
            }),
        };
        Some(named(&item.id, fields))
    }
}

/// A row of an id and some fields.
pub(super) fn named(id: &str, fields: Value) -> Row {
    let mut row = Row::from_iter([(columns::ID.to_owned(), json!(id))]);
    if let Value::Object(fields) = fields {
        row.extend(fields);
    }
    row
}

/// The turns after the system's.
fn turns(messages: &[ChatMessage]) -> Vec<Value> {
    messages
        .iter()
        .filter_map(|message| {
            let from = match message.role {
                Role::System => return None,
                Role::User => "human",
                Role::Assistant => "gpt",
                Role::Tool => "observation",
            };
            Some(json!({"from": from, "value": message.content}))
        })
        .collect()
}

/// Writes the files of every form that was asked for besides the main ones.
pub(super) fn write(
    context: &Context<'_>,
    formats: &[Format],
    packaged: &Packaged<'_>,
    pairs: &[Preference],
) -> Result<()> {
    for format in formats.iter().filter(|format| **format != Format::Messages) {
        let rows: Vec<(Split, Row)> = if *format == Format::Dpo {
            pairs.iter().map(|pair| (pair.split, pair.row())).collect()
        } else {
            let kept = packaged.items.iter().zip(packaged.kept);
            kept.filter_map(|(item, split)| Some(((*split)?, format.row(item)?))).collect()
        };
        let name = format.as_str();
        for split in Split::ALL {
            let rows: Vec<Row> =
                rows.iter().filter(|(side, _)| *side == split).map(|(_, row)| row.clone()).collect();
            JsonLines.write(&context.output.join(format!("{}.{name}.jsonl", split.as_str())), &rows)?;
        }
        let all: Vec<Row> = rows
            .into_iter()
            .map(|(split, mut row)| {
                row.insert(columns::SPLIT.to_owned(), json!(split.as_str()));
                row
            })
            .collect();
        if !all.is_empty() {
            context.services.tables.write(&context.output.join(format!("{name}.parquet")), &all)?;
        }
        context.state(&format!("rows_{name}"), all.len())?;
    }
    Ok(())
}
