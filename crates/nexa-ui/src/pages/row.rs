//! One row in full: conversations as conversations, everything else as it stands.

use maud::{Markup, html};
use nexa_core::artifact::{ArtifactId, Store};
use nexa_core::columns;
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::Value;

use super::parts::artifact_url;
use super::rows::table_file;
use super::{Page, Section, value};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::{Error, Result, format};

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    artifact: ArtifactId,
    file: String,
    /// Counts from 1.
    number: usize,
    total: usize,
    row: Row,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, number: &str, params: &Params) -> Result<Data> {
    let artifact = Store::new(&ui.lab).get(id)?;
    let missing = |hint: String| {
        Error::Core(nexa_core::Error::NotFound {
            what: "row",
            name: format!("{number} of {id}"),
            hint: Some(hint),
        })
    };
    let file =
        table_file(&ui.tables, &artifact, params).ok_or_else(|| missing("it has no tables".to_owned()))?;
    let rows = ui.tables.read(&artifact, &file)?;
    let total = rows.len();
    let found = number.parse::<usize>().ok().filter(|number| (1..=total).contains(number));
    let number = found.ok_or_else(|| missing(format!("`{file}` has rows 1 to {total}")))?;
    Ok(Data { artifact: id.clone(), file, number, total, row: rows[number - 1].clone() })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let url = artifact_url(&data.artifact);
    let link = |number: usize| format!("{url}/{number}?file={}", encode(&data.file));
    let body = html! {
        p.crumbs {
            (data.artifact.project) " / "
            a href=(format!("{url}?file={}", encode(&data.file))) { (data.artifact.stem()) } " / " (data.file)
        }
        h1 { "Row " (format::count(data.number as u64)) span.muted { " of " (format::count(data.total as u64)) } }
        p.bar-below {
            @if data.number > 1 { a rel="prev" href=(link(data.number - 1)) { "‹ previous" } }
            @if data.number < data.total { a rel="next" href=(link(data.number + 1)) { "next ›" } }
        }
        dl.row-full { @for (column, value) in &data.row { dt { (column) } dd { (cell(column, value)) } } }
        @if let Some(Value::String(id)) = data.row.get(columns::ID) {
            p.muted {
                "Where it comes from and what became of it: "
                code { "nexa lineage " (quoted(id)) " --in " (data.artifact) }
            }
        }
    };
    Page::new(format!("{} row {}", data.artifact, data.number), Section::Data, body)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@".contains(letter);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn cell(column: &str, value: &Value) -> Markup {
    match value {
        Value::Array(turns) if column == columns::MESSAGES => conversation(turns),
        // Some formats keep a list as its JSON.
        Value::String(text) if column == columns::MESSAGES => {
            match serde_json::from_str::<Vec<Value>>(text) {
                Ok(turns) => conversation(&turns),
                Err(_) => html! { pre.text { (text) } },
            }
        }
        Value::String(text) => html! { pre.text { (text) } },
        Value::Null => html! { span.muted { "null" } },
        Value::Object(_) | Value::Array(_) => value::show(value),
        other => html! { code { (other.to_string()) } },
    }
}

/// Shows the turns of a conversation.
pub(super) fn conversation(turns: &[Value]) -> Markup {
    let part = |turn: &Value, key: &str| turn.get(key).map(format::text).unwrap_or_default();
    html! {
        @for turn in turns {
            @let role = part(turn, "role");
            div.turn data-role=(role) { strong { (role) } pre.text { (part(turn, "content")) } }
        }
    }
}
