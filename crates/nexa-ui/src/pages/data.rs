//! Every artifact, by project.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use maud::html;
use nexa_core::artifact::{Artifact, Kind, Store};
use serde::Serialize;

use super::parts::{Choice, FilterForm, artifact_link, filter_form, problems, run_link, time};
use super::{Page, Section};
use crate::Result;
use crate::format;
use crate::request::Params;
use crate::scan::{self, Problem};
use crate::server::Ui;
use crate::tables::TableCache;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    filter: Filter,
    projects: Vec<String>,
    total: usize,
    artifacts: Vec<ArtifactRow>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Filter {
    search: Option<String>,
    project: Option<String>,
    kind: Option<String>,
}

#[derive(Debug, Serialize)]
struct ArtifactRow {
    id: String,
    project: String,
    kind: Kind,
    rows: Option<u64>,
    tokens: Option<u64>,
    bytes: u64,
    formats: Vec<String>,
    run: String,
    created_at: DateTime<Utc>,
}

impl ArtifactRow {
    fn new(artifact: &Artifact, tables: &TableCache) -> Self {
        let manifest = &artifact.manifest;
        let formats: BTreeSet<_> =
            manifest.files.iter().map(|file| tables.format_of(&file.name).to_owned()).collect();
        Self {
            id: manifest.id.to_string(),
            project: manifest.id.project.clone(),
            kind: manifest.kind,
            rows: manifest.counts.rows,
            tokens: manifest.counts.tokens,
            bytes: manifest.counts.bytes,
            formats: formats.into_iter().collect(),
            run: manifest.producer.run.to_string(),
            created_at: manifest.created_at,
        }
    }
}

impl Filter {
    fn accepts(&self, row: &ArtifactRow) -> bool {
        self.project.as_ref().is_none_or(|project| *project == row.project)
            && self.kind.as_ref().is_none_or(|kind| kind == row.kind.as_str())
            && self.search.as_ref().is_none_or(|search| row.id.contains(search))
    }
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let scan = Store::new(&ui.lab).scan()?;
    let get = |name| params.get(name).map(str::to_owned);
    let filter = Filter { search: get("q"), project: get("project"), kind: get("kind") };
    let rows = scan.found.iter().map(|artifact| ArtifactRow::new(artifact, &ui.tables));
    Ok(Data {
        projects: ui.lab.projects()?,
        total: scan.found.len(),
        artifacts: rows.filter(|row| filter.accepts(row)).collect(),
        filter,
        problems: scan::problems(&ui.lab, &scan.problems),
    })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let kinds = Kind::ALL.map(|kind| kind.as_str().to_owned());
    let filter = &data.filter;
    let choices = [
        Choice::new("project", "every project", &data.projects, filter.project.as_deref()),
        Choice::new("kind", "every kind", &kinds, filter.kind.as_deref()),
    ];
    let form = FilterForm {
        action: "/data",
        searched: "name",
        search: filter.search.as_deref(),
        choices: &choices,
        is_narrowed: data.artifacts.len() < data.total,
    };
    let body = html! {
        h1 { "Data" }
        (problems(&data.problems))
        (filter_form(&form))
        @if data.artifacts.is_empty() {
            p.muted { @if data.total == 0 { "No artifact yet." } @else { "No artifact fits." } }
        }
        @for project in &data.projects {
            @let own = data.artifacts.iter().filter(|row| row.project == *project).collect::<Vec<_>>();
            @if !own.is_empty() {
                section {
                    h2 { (project) }
                    div.scroll { table {
                        thead { tr {
                            th { "artifact" } th { "kind" } th.number { "rows" } th.number { "tokens" }
                            th.number { "size" } th { "format" } th { "made" } th { "by run" }
                        } }
                        tbody { @for row in own { tr.row {
                            td { (artifact_link(&row.id)) }
                            td { (row.kind) }
                            td.number { (format::maybe_count(row.rows)) }
                            td.number { (format::maybe_count(row.tokens)) }
                            td.number { (format::size(row.bytes)) }
                            td { (row.formats.join(", ")) }
                            td.nowrap { (time(row.created_at)) }
                            td { (run_link(&row.run)) }
                        } } }
                    } }
                }
            }
        }
    };
    Page::new("Data", Section::Data, body)
}
