//! Reading rows: optional columns with a default, and texts that may have been stored as numbers.

use std::path::Path;

use nexa_core::artifact::Artifact;
use nexa_core::stage::Context;
use nexa_core::table::{Row, Tables};
use serde_json::Value;

use crate::{Error, Result};

/// Reads the main table of an input, which must not be empty.
pub(crate) fn read(context: &Context<'_>, artifact: &Artifact) -> Result<Vec<Row>> {
    read_by(context.services.tables, artifact)
}

/// As [`read`], outside of a stage's run.
pub(crate) fn read_by(tables: &dyn Tables, artifact: &Artifact) -> Result<Vec<Row>> {
    let path = artifact.file("parquet")?;
    let rows = tables.read(&path)?;
    if rows.is_empty() {
        return Err(nexa_core::Error::malformed(path, "the table has no rows").into());
    }
    Ok(rows)
}

/// Which column a setting means: the one that it names, which must be there, else the first default that is there.
pub(crate) fn column<'a>(
    named: Option<&'a str>,
    defaults: &[&'a str],
    first: &Row,
    place: &Path,
) -> Result<Option<&'a str>> {
    match named {
        Some(name) if first.contains_key(name) => Ok(Some(name)),
        Some(name) => Err(missing(name, first, place)),
        None => Ok(defaults.iter().copied().find(|name| first.contains_key(*name))),
    }
}

/// As [`column`], where there must be one.
pub(crate) fn required_column<'a>(
    named: Option<&'a str>,
    default: &'a str,
    first: &Row,
    place: &Path,
) -> Result<&'a str> {
    let name = named.unwrap_or(default);
    if first.contains_key(name) { Ok(name) } else { Err(missing(name, first, place)) }
}

fn missing(name: &str, first: &Row, place: &Path) -> Error {
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    Error::UnknownColumn {
        column: name.to_owned(),
        place: place.to_owned(),
        nearest: nexa_core::config::nearest(name, names.iter().copied()).map(str::to_owned),
        known: names.join(", "),
    }
}

/// A cell as text: a string as it is, a number or a truth value as JSON writes it, null as nothing.
pub(crate) fn cell(row: &Row, column: &str) -> Option<String> {
    match row.get(column) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    }
}

/// A cell that must hold text with something in it.
pub(crate) fn filled<'a>(row: &'a Row, column: &str, place: &Path) -> Result<&'a str> {
    let text = nexa_core::table::text(row, column, place)?;
    if text.trim().is_empty() {
        let id = cell(row, nexa_core::columns::ID).unwrap_or_default();
        return Err(
            nexa_core::Error::malformed(place, format!("row `{id}`: column `{column}` is empty")).into()
        );
    }
    Ok(text)
}

/// An optional text as a JSON value.
pub(crate) fn value(text: Option<impl Into<String>>) -> Value {
    text.map_or(Value::Null, |text| Value::String(text.into()))
}
