//! The text of a row: one column, or the contents of a conversation.

use std::borrow::Cow;
use std::path::Path;

use nexa_core::columns::{LANGUAGE, LANGUAGE_CONFIDENCE, MESSAGES};
use nexa_core::table::Row;
use nexa_core::{Error, Result};
use serde_json::Value;

/// The column of a row's text where none is named.
const TEXT: &str = "text";

/// The field of a message that holds what was said.
const CONTENT: &str = "content";

/// The column that holds the text of a row: the one that was named, else `text`, else `messages`.
///
/// # Errors
/// Fails with the place and the columns that there are, when the row has none of them.
pub(super) fn text_column<'a>(row: &Row, named: Option<&'a str>, place: &Path) -> Result<&'a str> {
    let candidates = match named {
        Some(column) => vec![column],
        None => vec![TEXT, MESSAGES],
    };
    candidates.iter().copied().find(|column| row.contains_key(*column)).ok_or_else(|| {
        let wanted = candidates.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(" or ");
        let columns = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Error::malformed(place, format!("column {wanted} is missing; there are: {columns}"))
    })
}

/// The text of a column: as it is, or the contents of its messages on lines of their own. Null is no text.
///
/// # Errors
/// Fails with the place when the column holds neither text nor messages.
pub(super) fn text<'r>(row: &'r Row, column: &str, place: &Path) -> Result<Cow<'r, str>> {
    match row.get(column) {
        None | Some(Value::Null) => Ok(Cow::Borrowed("")),
        Some(Value::String(text)) => Ok(Cow::Borrowed(text)),
        Some(Value::Array(messages)) => {
            let contents: Option<Vec<&str>> = messages.iter().map(content).collect();
            contents.map(|contents| Cow::Owned(contents.join("\n"))).ok_or_else(|| {
                Error::malformed(
                    place,
                    format!("column `{column}` holds a list of other things than messages"),
                )
            })
        }
        Some(other) => {
            Err(Error::malformed(place, format!("column `{column}` holds {other}, not text or messages")))
        }
    }
}

/// Changes the text of a row, or that of each of its messages. The flag says whether it is the whole text.
pub(super) fn change(row: &mut Row, column: &str, mut change: impl FnMut(&str, bool) -> Option<String>) {
    match row.get_mut(column) {
        Some(Value::String(text)) => {
            if let Some(changed) = change(text, true) {
                *text = changed;
            }
        }
        Some(Value::Array(messages)) => {
            for message in messages {
                if let Some(Value::String(text)) = message.get_mut(CONTENT)
                    && let Some(changed) = change(text, false)
                {
                    *text = changed;
                }
            }
        }
        _ => {}
    }
}

/// Adds the columns of the language; null where it cannot be told.
pub(super) fn add_language(row: &mut Row, language: Option<(&str, f64)>) {
    let (code, confidence) = language.unzip();
    row.insert(LANGUAGE.to_owned(), code.into());
    row.insert(LANGUAGE_CONFIDENCE.to_owned(), confidence.into());
}

/// What a message says; nothing where its content is null, as that of a call of tools may be.
fn content(message: &Value) -> Option<&str> {
    match message.as_object()?.get(CONTENT) {
        None | Some(Value::Null) => Some(""),
        Some(content) => content.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(row: Value, named: Option<&str>, expected: Result<&str, &str>) {
        let Value::Object(row) = row else { panic!("a row is an object") };
        let place = Path::new("t.parquet");
        let found = text_column(&row, named, place)
            .and_then(|column| text(&row, column, place).map(Cow::into_owned))
            .map_err(|error| error.to_string());
        match expected {
            Ok(text) => assert_eq!(found.unwrap(), text),
            Err(part) => assert!(found.as_ref().unwrap_err().contains(part), "{found:?}"),
        }
    }

    #[test]
    fn the_text_is_a_column_or_what_messages_say() {
        check(json!({"text": "a", "messages": []}), None, Ok("a"));
        check(json!({"text": null}), None, Ok(""));
        let said =
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        check(said, None, Ok("a\nb"));
        check(json!({"messages": [{"role": "assistant", "content": null}]}), None, Ok(""));
        check(json!({"text": "a", "body": "b"}), Some("body"), Ok("b"));
        check(
            json!({"id": "1", "body": "b"}),
            None,
            Err("`text` or `messages` is missing; there are: id, body"),
        );
        check(json!({"text": "a"}), Some("body"), Err("column `body` is missing"));
        check(json!({"text": 1}), None, Err("holds 1, not text"));
        check(json!({"messages": ["a"]}), None, Err("other things than messages"));
    }
}
