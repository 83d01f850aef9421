//! One artifact: what its manifest says, and the rows of its tables, searched, filtered and paged.

use std::sync::Arc;

use maud::{Markup, html};
use nexa_core::artifact::{Artifact, ArtifactId, Manifest, Store};
use nexa_core::columns;
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::Value;

use super::parts::{artifact_link, artifact_url, run_link, time};
use super::{Page, Section, value};
use crate::Result;
use crate::format::{self, Cost};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::tables::TableCache;

const PAGE_ROWS: usize = 50;
/// Characters of a cell in the table; the row's own page has all.
const CELL_CHARACTERS: usize = 240;
/// A column with more different values than this is searched rather than chosen from.
const MAX_FACET_VALUES: usize = 12;
/// A column with a longer value is prose.
const MAX_FACET_CHARACTERS: usize = 40;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    manifest: Manifest,
    /// The names of those files that are tables.
    tables: Vec<String>,
    cost: Cost,
    table: Option<Table>,
    error: Option<String>,
    #[serde(skip)]
    params: Params,
}

/// A page of a table.
#[derive(Debug, Serialize)]
struct Table {
    file: String,
    columns: Vec<String>,
    total: usize,
    matching: usize,
    page: usize,
    pages: usize,
    facets: Vec<Facet>,
    rows: Vec<Numbered>,
}

/// A row and its number in the file, from 1.
#[derive(Debug, Serialize)]
struct Numbered {
    number: usize,
    row: Row,
}

/// A column with few different values, and how many rows have each.
#[derive(Debug, PartialEq, Serialize)]
struct Facet {
    column: String,
    values: Vec<(String, usize)>,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, params: &Params) -> Result<Data> {
    let artifact = Store::new(&ui.lab).get(id)?;
    let (table, error) = match table_file(&ui.tables, &artifact, params) {
        None => (None, None),
        Some(file) => match ui.tables.read(&artifact, &file) {
            Ok(rows) => (Some(Table::new(file, &rows, params)), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let cost = Cost::new(&artifact.manifest.spend);
    let names = artifact.manifest.files.iter().map(|file| file.name.clone());
    let tables = names.filter(|name| ui.tables.is_table(name)).collect();
    Ok(Data { manifest: artifact.manifest, tables, cost, table, error, params: params.clone() })
}

/// The table that is asked for, else the artifact's main one.
pub(crate) fn table_file(tables: &TableCache, artifact: &Artifact, params: &Params) -> Option<String> {
    params.get("file").or_else(|| tables.main(artifact)).map(str::to_owned)
}

impl Table {
    fn new(file: String, rows: &Arc<Vec<Row>>, params: &Params) -> Self {
        let search = params.get("q").map(str::to_lowercase);
        let filter = params.get("column").zip(params.get("value"));
        let fits = |row: &Row| {
            filter.is_none_or(|(column, wanted)| row.get(column).is_some_and(|found| cell(found) == wanted))
                && search.as_ref().is_none_or(|search| row.values().any(|value| contains(value, search)))
        };
        let matching: Vec<usize> = (0..rows.len()).filter(|&index| fits(&rows[index])).collect();
        let pages = matching.len().div_ceil(PAGE_ROWS).max(1);
        let page = params.number("page").unwrap_or(1).clamp(1, pages);
        let shown = matching.iter().skip((page - 1) * PAGE_ROWS).take(PAGE_ROWS);
        Self {
            file,
            columns: rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default(),
            total: rows.len(),
            matching: matching.len(),
            page,
            pages,
            facets: facets(rows),
            rows: shown.map(|&index| Numbered { number: index + 1, row: rows[index].clone() }).collect(),
        }
    }
}

/// Whether a value, read as text, contains a text in lower case.
fn contains(value: &Value, search: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(search),
        Value::Null => false,
        other => other.to_string().to_lowercase().contains(search),
    }
}

/// A cell as filters name it.
fn cell(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { format::text(value) }
}

/// The columns that are worth choosing from: two or more different short values, but few.
fn facets(rows: &[Row]) -> Vec<Facet> {
    let Some(first) = rows.first() else { return Vec::new() };
    first.keys().filter_map(|column| facet(rows, column)).collect()
}

fn facet(rows: &[Row], column: &str) -> Option<Facet> {
    let mut values: Vec<(String, usize)> = Vec::new();
    for row in rows {
        let value = row.get(column).unwrap_or(&Value::Null);
        if !matches!(value, Value::String(_) | Value::Bool(_) | Value::Null) {
            return None;
        }
        let text = cell(value);
        match values.iter().position(|(known, _)| *known == text) {
            Some(position) => values[position].1 += 1,
            None if values.len() == MAX_FACET_VALUES || text.chars().count() > MAX_FACET_CHARACTERS => {
                return None;
            }
            None => values.push((text, 1)),
        }
    }
    // As many values as rows tell rows apart; they do not group them.
    let groups = values.len() > 1 && values.len() < rows.len();
    values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    groups.then(|| Facet { column: column.to_owned(), values })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let manifest = &data.manifest;
    let id = &manifest.id;
    let body = html! {
        p.crumbs { a href=(format!("/data?project={}", encode(&id.project))) { (id.project) } " / " (manifest.kind) }
        h1.mono { (id.stem()) }
        @if let Some(error) = &data.error { section.problems role="alert" { p { "error: " (error) } } }
        section.columns { (facts(data)) (summary(data)) }
        (file_choice(data))
        @if let Some(table) = &data.table { (rows_section(id, table, &data.params)) }
    };
    Page::new(id.to_string(), Section::Data, body)
}

fn facts(data: &Data) -> Markup {
    let manifest = &data.manifest;
    let lineage = format!("/lineage/{}/{}", encode(&manifest.id.project), encode(&manifest.id.stem()));
    html! {
        div {
            h2 { "Facts" }
            dl.facts {
                dt { "rows" } dd { (format::maybe_count(manifest.counts.rows)) }
                dt { "tokens" } dd { (format::maybe_count(manifest.counts.tokens)) }
                dt { "size" } dd { (format::size(manifest.counts.bytes)) }
                dt { "made" } dd { (time(manifest.created_at)) " by " (manifest.producer.stage) }
                dt { "run" } dd { (run_link(manifest.producer.run.as_str())) }
                dt { "made from" } dd {
                    @if manifest.parents.is_empty() { span.muted { "nothing" } }
                    ul.bare { @for parent in &manifest.parents { li {
                        span.muted { (parent.role) ": " } (artifact_link(&parent.id))
                    } } }
                }
                dt { "lineage" } dd { a href=(lineage) { "where it comes from, what was made of it" } }
                dt { "content" } dd { code title=(manifest.content_hash.as_str()) { (manifest.content_hash.short()) } }
                dt { "spend" } dd { (data.cost.text) }
            }
        }
    }
}

fn summary(data: &Data) -> Markup {
    html! {
        @if !data.manifest.summary.is_empty() {
            div {
                h2 { "Summary" }
                dl.facts { @for (name, fact) in &data.manifest.summary { dt { (name) } dd { (value::show(fact)) } } }
            }
        }
    }
}

fn file_choice(data: &Data) -> Markup {
    let chosen = data.table.as_ref().map(|table| table.file.as_str()).or(data.params.get("file"));
    let url = artifact_url(&data.manifest.id);
    html! {
        section {
            h2 { "Files" }
            ul.chips { @for file in &data.manifest.files { li {
                @if data.tables.contains(&file.name) {
                    a.chip href=(format!("{url}?file={}", encode(&file.name)))
                        aria-current=[(chosen == Some(file.name.as_str())).then_some("true")] {
                        (file.name) " " span.muted { (format::size(file.bytes)) }
                    }
                } @else {
                    span.chip { (file.name) " " span.muted { (format::size(file.bytes)) } }
                }
            } } }
        }
    }
}

fn rows_section(id: &ArtifactId, table: &Table, params: &Params) -> Markup {
    let url = artifact_url(id);
    let filter = params.get("column").zip(params.get("value"));
    let link = |params: Params| format!("{url}{}", params.to_query());
    html! {
        section #rows {
            h2 { "Rows" }
            form.filter method="get" action=(url) {
                input type="hidden" name="file" value=(table.file);
                input type="search" name="q" placeholder="text in any column" value=[params.get("q")] aria-label="search";
                (super::parts::select("column", "any column", &table.columns, params.get("column")))
                input type="text" name="value" placeholder="equals" value=[params.get("value")] aria-label="value of the column";
                button { "filter" }
                @if filter.is_some() || params.get("q").is_some() {
                    a href=(format!("{url}?file={}", encode(&table.file))) { "show all" }
                }
            }
            @for facet in &table.facets {
                ul.chips {
                    li.muted { (facet.column) }
                    @for (text, count) in &facet.values {
                        @let active = filter == Some((facet.column.as_str(), text.as_str()));
                        @let (column, wanted) = if active { ("", "") } else { (facet.column.as_str(), text.as_str()) };
                        li { a.chip href=(link(params.with("page", "").with("column", column).with("value", wanted)))
                            aria-current=[active.then_some("true")] {
                            @if text.is_empty() { "(empty)" } @else { (text) } " " span.muted { (format::count(*count as u64)) }
                        } }
                    }
                }
            }
            @if table.rows.is_empty() { p.muted { "No row fits." } }
            @else { (row_table(&url, table)) }
            p.bar-below {
                @if table.page > 1 {
                    a rel="prev" href=(link(params.with("page", &(table.page - 1).to_string()))) { "‹ previous" }
                }
                span.muted {
                    (format::count(table.matching as u64)) " of " (format::count(table.total as u64)) " rows, page "
                    (table.page) " of " (table.pages)
                }
                @if table.page < table.pages {
                    a rel="next" href=(link(params.with("page", &(table.page + 1).to_string()))) { "next ›" }
                }
            }
        }
    }
}

fn row_table(url: &str, table: &Table) -> Markup {
    html! {
        div.scroll { table.rows {
            thead { tr { th.number { "#" } @for column in &table.columns { th { (column) } } } }
            tbody { @for numbered in &table.rows {
                tr.row {
                    td.number { a href=(format!("{url}/{}?file={}", numbered.number, encode(&table.file))) { (numbered.number) } }
                    @for column in &table.columns {
                        @let value = numbered.row.get(column).unwrap_or(&Value::Null);
                        td class=[class_of(column, value)] {
                            @if value.is_null() { span.muted { "null" } }
                            @else { div.cell { (format::shorten(&format::text(value), CELL_CHARACTERS)) } }
                        }
                    }
                }
            } }
        } }
    }
}

fn class_of(column: &str, value: &Value) -> Option<&'static str> {
    match value {
        Value::Number(_) => Some("number"),
        Value::Bool(false) if column == "correct" => Some("wrong"),
        Value::Bool(true) if column == "correct" => Some("right"),
        _ if column == columns::ID => Some("mono"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(count: usize) -> Arc<Vec<Row>> {
        let row = |i: usize| {
            let domain = if i.is_multiple_of(2) { "add" } else { "sub" };
            let row =
                json!({"id": format!("r{i}"), "domain": domain, "correct": !i.is_multiple_of(5), "n": i});
            row.as_object().unwrap().clone()
        };
        Arc::new((0..count).map(row).collect())
    }

    #[test]
    fn rows_are_filtered_searched_and_paged() {
        let check = |query: &[(&str, &str)], expected: (usize, usize, Option<usize>)| {
            let params =
                query.iter().fold(Params::default(), |params, (name, value)| params.with(name, value));
            let table = Table::new("jsonl".to_owned(), &rows(120), &params);
            let first = table.rows.first().map(|row| row.number);
            assert_eq!((table.matching, table.pages, first), expected, "{query:?}");
        };
        check(&[], (120, 3, Some(1)));
        check(&[("page", "2")], (120, 3, Some(51)));
        check(&[("page", "99")], (120, 3, Some(101)));
        check(&[("q", "R11")], (11, 1, Some(12)));
        check(&[("column", "correct"), ("value", "false")], (24, 1, Some(1)));
        check(&[("column", "domain"), ("value", "sub"), ("q", "r119")], (1, 1, Some(120)));
        check(&[("column", "no such"), ("value", "x")], (0, 1, None));
    }

    #[test]
    fn facets_are_columns_with_few_values() {
        let facets = facets(&rows(100));
        let facet = |column: &str, values: [(&str, usize); 2]| Facet {
            column: column.to_owned(),
            values: values.map(|(text, count)| (text.to_owned(), count)).to_vec(),
        };
        assert_eq!(
            facets,
            [facet("domain", [("add", 50), ("sub", 50)]), facet("correct", [("true", 80), ("false", 20)])]
        );
    }
}
