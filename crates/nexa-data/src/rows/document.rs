//! Which text of a row is compared.

use std::path::Path;

use nexa_core::overlap::append_texts;
use nexa_core::table::Row;
use nexa_core::{Error, columns, config};

use crate::Result;

/// The columns that hold the text where none are named: the first of these sets of which one is there.
const KNOWN: [&[&str]; 6] = [
    &["text"],
    &[columns::MESSAGES],
    &[columns::USER_PROMPT, columns::TEACHER_OUTPUT],
    &["question", "answer"],
    &["prompt", "completion"],
    &["instruction", "input", "output"],
];

/// The columns whose texts, one below the other, are the document of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    columns: Vec<String>,
}

impl Document {
    /// Chooses the columns: those that were named, else what is known to hold texts.
    ///
    /// # Errors
    /// Fails with the columns that there are, when one that was named is missing, or none is known.
    pub(crate) fn choose(named: &[String], first: &Row, place: &Path) -> Result<Self> {
        named.iter().try_for_each(|name| require_column(name, first, place))?;
        if !named.is_empty() {
            return Ok(Self { columns: named.to_vec() });
        }
        let found = KNOWN.iter().find(|names| names.iter().any(|name| first.contains_key(*name)));
        let Some(names) = found else {
            let message =
                format!("no column is known to hold texts; name some in `columns`: {}", names(first));
            return Err(Error::malformed(place, message).into());
        };
        let columns = names.iter().filter(|name| first.contains_key(**name));
        Ok(Self { columns: columns.map(|name| (*name).to_owned()).collect() })
    }

    /// The columns, in the order in which their texts are read.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Puts the text of a row into a buffer, in place of what it held.
    pub(crate) fn read(&self, row: &Row, text: &mut String) {
        text.clear();
        for column in &self.columns {
            if let Some(value) = row.get(column) {
                append_texts(value, text);
            }
        }
    }
}

/// Fails with the nearest column and those that there are, when the rows of a table lack one.
///
/// # Errors
/// As said.
pub(crate) fn require_column(name: &str, first: &Row, place: &Path) -> Result<()> {
    if first.contains_key(name) {
        return Ok(());
    }
    let nearest = config::nearest(name, first.keys().map(String::as_str));
    let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    let message = format!("column `{name}` is missing{hint}; there are: {}", names(first));
    Err(Error::malformed(place, message).into())
}

fn names(row: &Row) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_text_is_found_in_the_columns_that_hold_it() {
        let check = |named: &[&str], row: Value, expected: &str| {
            let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
            let row = row.as_object().unwrap();
            let mut text = "of the row before".to_owned();
            Document::choose(&named, row, Path::new("t")).unwrap().read(row, &mut text);
            assert_eq!(text, expected);
        };
        check(&[], json!({"id": "a", "text": "T", "answer": "A"}), "T");
        check(&[], json!({"answer": "A", "question": "Q"}), "Q\nA");
        check(&[], json!({"user_prompt": "U", "teacher_output": null}), "U");
        check(&["answer"], json!({"answer": "A", "question": "Q"}), "A");
        let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]);
        check(&[], json!({ "messages": turns }), "Hi\nHo");
        check(&["x"], json!({"x": {"a": "1", "b": ["2", 3]}}), "1\n2");
    }

    #[test]
    fn a_missing_column_is_named_with_the_nearest() {
        let check = |named: &[String], expected: &str| {
            let row = json!({"id": "a", "body": "b"});
            let error = Document::choose(named, row.as_object().unwrap(), Path::new("t")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let missing = "t: column `bdy` is missing; did you mean `body`?; there are: id, body";
        check(&["bdy".to_owned()], missing);
        check(&[], "t: no column is known to hold texts; name some in `columns`: id, body");
    }
}
