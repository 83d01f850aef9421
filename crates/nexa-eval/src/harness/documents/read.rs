//! Reading documents, whatever the format.

use std::path::{Path, PathBuf};

use nexa_core::table::{Row, Tables};
use nexa_core::{Error, files};
use serde_json::{Map, Value};

use crate::Result;

/// Reads the documents of some files, one file after the other. What a document lacks of the columns of others is null.
///
/// # Errors
/// Fails with the path, and the line where there are lines, when a file cannot be read as documents.
pub(crate) fn read(tables: &dyn Tables, paths: &[PathBuf]) -> Result<Vec<Row>> {
    let mut documents = Vec::new();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => documents.extend(read_json(path)?),
            Some("txt") => documents.push(read_text(path)?),
            _ => documents.extend(tables.read(path)?),
        }
    }
    let columns = columns(&documents);
    for document in &mut documents {
        for column in &columns {
            document.entry(column.clone()).or_insert(Value::Null);
        }
    }
    Ok(documents)
}

/// A JSON file is an array of objects, or one object a line.
fn read_json(path: &Path) -> nexa_core::Result<Vec<Row>> {
    let text = files::read_text(path)?;
    let malformed = |message: String| Error::malformed(path, message);
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).map_err(|error| malformed(error.to_string()));
    }
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Row>();
    values.by_ref().map(|row| row.map_err(|error| malformed(error.to_string()))).collect()
}

/// A text file is one document: the `page` of Wikipedia layouts, the `text` of all others.
fn read_text(path: &Path) -> nexa_core::Result<Row> {
    let text = Value::String(files::read_text(path)?);
    Ok(Map::from_iter([("page".to_owned(), text.clone()), ("text".to_owned(), text)]))
}

/// Every column, in the order in which documents bring them up.
fn columns(documents: &[Row]) -> Vec<String> {
    let mut columns = Map::new();
    for name in documents.iter().flat_map(Map::keys) {
        if !columns.contains_key(name) {
            columns.insert(name.clone(), Value::Null);
        }
    }
    columns.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use nexa_core::table::JsonLines;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_of_every_format_are_rows() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str, expected: Value| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = read(&JsonLines, &[path]).unwrap();
            assert_eq!(json!(found), expected, "{name}");
        };
        check("a.jsonl", "{\"a\":1}\n{\"b\":2}\n", json!([{"a": 1, "b": null}, {"b": 2, "a": null}]));
        check("b.json", "[{\"a\": 1}, {\"a\": 2}]", json!([{"a": 1}, {"a": 2}]));
        check("c.json", "{\"a\": 1}\n{\"a\": 2}", json!([{"a": 1}, {"a": 2}]));
        check("d.txt", "one\ntwo", json!([{"page": "one\ntwo", "text": "one\ntwo"}]));
        let path = folder.path().join("e.json");
        std::fs::write(&path, "[1]").unwrap();
        assert!(read(&JsonLines, &[path]).unwrap_err().to_string().contains("e.json"));
    }
}
