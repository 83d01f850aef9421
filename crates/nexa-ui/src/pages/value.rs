//! Any JSON value, as readable as its shape allows: summaries hold whatever a stage wants to state.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::parts::artifact_link;
use crate::format;

/// How deep tables are nested before the rest is shown as JSON.
const MAX_DEPTH: usize = 3;
/// How many entries of a list are shown.
const MAX_ENTRIES: usize = 100;

/// Shows a value.
pub(crate) fn show(value: &Value) -> Markup {
    nested(value, 0, artifact_link)
}

/// Shows a value without links: texts of models, and pages that are read elsewhere.
pub(crate) fn show_unlinked(value: &Value) -> Markup {
    nested(value, 0, |text| html! { (text) })
}

/// How a text is shown.
type Text = fn(&str) -> Markup;

fn nested(value: &Value, depth: usize, text: Text) -> Markup {
    match value {
        Value::Object(map) if depth < MAX_DEPTH && !map.is_empty() => mapping(map, depth, text),
        Value::Array(items) if depth < MAX_DEPTH => list(items, depth, text),
        scalar => plain(scalar, text),
    }
}

fn plain(value: &Value, text: Text) -> Markup {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => html! { (format::count(whole)) },
            (None, Some(value)) => html! { (format::number(value)) },
            (None, None) => html! { (number.to_string()) },
        },
        Value::String(said) => text(said),
        Value::Null => html! { span.muted { (format::UNKNOWN) } },
        other => html! { code { (other.to_string()) } },
    }
}

/// Counts get bars, so that a funnel looks like one; everything else a table of two columns.
fn mapping(map: &Map<String, Value>, depth: usize, text: Text) -> Markup {
    let counts: Option<Vec<u64>> = map.values().map(Value::as_u64).collect();
    let most = counts.as_deref().and_then(|counts| counts.iter().max().copied()).filter(|_| map.len() > 1);
    html! {
        table.plain { tbody { @for (key, value) in map {
            tr {
                th scope="row" { (key) }
                td { @match (most, value.as_u64()) {
                    (Some(most), Some(count)) => (bar(count, most)),
                    _ => (nested(value, depth + 1, text)),
                } }
            }
        } } }
    }
}

fn list(items: &[Value], depth: usize, text: Text) -> Markup {
    let rows: Option<Vec<&Map<String, Value>>> = items.iter().map(Value::as_object).collect();
    match rows {
        Some(rows) if !rows.is_empty() => records(&rows, depth, text),
        _ if items.is_empty() => html! { span.muted { "none" } },
        _ => html! { @for (position, item) in items.iter().take(MAX_ENTRIES).enumerate() {
            @if position > 0 { ", " } (nested(item, MAX_DEPTH, text))
        } },
    }
}

/// A list of objects is a table.
fn records(rows: &[&Map<String, Value>], depth: usize, text: Text) -> Markup {
    let mut columns: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    html! {
        div.scroll { table {
            thead { tr { @for column in &columns { th { (column) } } } }
            tbody { @for row in rows.iter().take(MAX_ENTRIES) { tr { @for column in &columns {
                td { @if let Some(value) = row.get(*column) { (nested(value, depth + 1, text)) } }
            } } } }
        } }
        @if rows.len() > MAX_ENTRIES { p.muted { "and " (rows.len() - MAX_ENTRIES) " more" } }
    }
}

fn bar(count: u64, most: u64) -> Markup {
    let width = if most == 0 { 0.0 } else { 160.0 * count as f64 / most as f64 };
    html! {
        span.bar {
            svg width="160" height="10" aria-hidden="true" {
                rect.track width="160" height="10" rx="2" {}
                rect.fill width=(format!("{width:.1}")) height="10" rx="2" {}
            }
            (format::count(count))
        }
    }
}
