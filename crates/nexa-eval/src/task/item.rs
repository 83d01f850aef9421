//! The items of a held-out split.

use std::collections::BTreeSet;
use std::path::Path;

use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::table::{Row, Tables, text};
use serde_json::Value;

use crate::Result;
use crate::ask::{Asked, Request};

/// One row of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Unique in the split.
    pub id: String,
    /// The slice that it belongs to, where it names one.
    pub domain: Option<String>,
    /// The problem that it is a wording of, where it names one.
    pub group: Option<String>,
    /// The whole conversation, which ends with the assistant.
    pub messages: Vec<ChatMessage>,
    /// The right final answer, where one is known.
    pub reference: Option<String>,
}

impl Item {
    /// The conversation without the final assistant turn: what the model is asked.
    pub fn prompt(&self) -> &[ChatMessage] {
        &self.messages[..self.messages.len() - 1]
    }

    /// The prompt as text: the content of a single turn, or each turn with its role before it.
    pub fn prompt_text(&self) -> String {
        match self.prompt() {
            [only] => only.content.clone(),
            turns => {
                let turn = |turn: &ChatMessage| format!("{}: {}", turn.role.as_str(), turn.content);
                turns.iter().map(turn).collect::<Vec<_>>().join("\n\n")
            }
        }
    }
}

/// Reads the items of a split, in the order of the file.
///
/// # Errors
/// Fails, naming file and row, when a row has no id, repeats one, or holds no conversation that ends with the assistant.
pub fn read_items(tables: &dyn Tables, path: &Path) -> Result<Vec<Item>> {
    let rows = tables.read(path)?;
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let item = read_item(row, path, number + 1)?;
        if !seen.insert(item.id.clone()) {
            let message = format!("row {}: id `{}` stands in an earlier row as well", number + 1, item.id);
            return Err(nexa_core::Error::malformed(path, message).into());
        }
        items.push(item);
    }
    Ok(items)
}

fn read_item(row: &Row, path: &Path, number: usize) -> nexa_core::Result<Item> {
    let id = text(row, columns::ID, path)?.to_owned();
    let malformed =
        |message: String| nexa_core::Error::malformed(path, format!("row {number}, id `{id}`: {message}"));
    let optional = |column: &str| match row.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(malformed(format!("column `{column}` holds {other}, not text"))),
    };
    let messages = row.get(columns::MESSAGES).cloned().unwrap_or(Value::Null);
    let messages: Vec<ChatMessage> = serde_json::from_value(messages)
        .map_err(|e| malformed(format!("column `{}` holds no conversation: {e}", columns::MESSAGES)))?;
    match messages.as_slice() {
        [_, .., last] if last.role == Role::Assistant => {}
        _ => {
            return Err(malformed(
                "the conversation is not a prompt followed by the assistant's turn".to_owned(),
            ));
        }
    }
    let (domain, group) = (optional(columns::DOMAIN)?, optional(columns::GROUP)?);
    let reference = optional(columns::REFERENCE)?;
    Ok(Item { id, domain, group, messages, reference })
}

/// Makes a request of each item.
pub(super) fn asked(items: &[Item], request: impl Fn(&Item) -> Request) -> Vec<Asked> {
    let one = |(unit, item): (usize, &Item)| Asked { request: request(item), item: item.id.clone(), unit };
    items.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexa_core::table::JsonLines;

    fn read(lines: &str) -> Result<Vec<Item>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.jsonl");
        std::fs::write(&path, lines).unwrap();
        read_items(&JsonLines, &path).map_err(|error| error.to_string())
    }

    const FIRST: &str = r#"{"id":"a","domain":"sums","messages":[{"role":"user","content":"1+1?"},{"role":"assistant","content":"2"}],"reference":"2"}"#;
    const LONG: &str = r#"{"id":"b","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}],"reference":null}"#;

    #[test]
    fn a_prompt_is_everything_before_the_last_turn() {
        let items = read(&format!("{FIRST}\n{LONG}\n")).unwrap();
        assert_eq!((items[0].prompt_text().as_str(), items[0].reference.as_deref()), ("1+1?", Some("2")));
        assert_eq!(items[1].prompt_text(), "system: Be brief.\n\nuser: Hi");
        assert_eq!((items[1].domain.as_deref(), items[1].reference.as_deref()), (None, None));
    }

    #[test]
    fn a_bad_row_is_named() {
        let check = |lines: &str, expected: &str| {
            let error = read(lines).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&format!("{FIRST}\n{FIRST}\n"), "row 2: id `a` stands in an earlier row");
        check(r#"{"messages":[]}"#, "column `id` is missing");
        check(r#"{"id":"c"}"#, "row 1, id `c`: column `messages` holds no conversation");
        check(r#"{"id":"c","messages":[{"role":"assistant","content":"x"}]}"#, "not a prompt followed by");
        check(
            r#"{"id":"c","messages":[{"role":"user","content":"x"},{"role":"user","content":"y"}]}"#,
            "not a prompt followed by",
        );
        check(
            &FIRST.replace(r#""reference":"2""#, r#""reference":2"#),
            "column `reference` holds 2, not text",
        );
    }
}
