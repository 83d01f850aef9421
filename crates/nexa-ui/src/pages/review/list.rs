//! What can be reviewed, and how far everyone has come.

use maud::html;
use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::review::{Labels, is_reviewable};
use serde::Serialize;

use super::reviewer_form;
use crate::desk;
use crate::format;
use crate::pages::parts::{artifact_url, problems};
use crate::pages::{Page, Section};
use crate::request::Params;
use crate::scan::{self, Problem};
use crate::server::Ui;
use crate::{Result, assets};

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    reviewer: Option<String>,
    artifacts: Vec<Reviewable>,
    problems: Vec<Problem>,
}

/// An artifact that can be reviewed.
#[derive(Debug, Serialize)]
struct Reviewable {
    id: String,
    kind: Kind,
    rows: Option<u64>,
    url: String,
    rows_url: String,
    reviewers: Vec<Done>,
}

/// How many rows someone has decided.
#[derive(Debug, Serialize)]
struct Done {
    reviewer: String,
    decided: usize,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let scan = Store::new(&ui.lab).scan()?;
    let mut problems = scan::problems(&ui.lab, &scan.problems);
    let mut found: Vec<&Artifact> =
        scan.found.iter().filter(|one| is_reviewable(one.manifest.kind)).collect();
    found.sort_by_key(|artifact| std::cmp::Reverse(artifact.manifest.created_at));
    let mut artifacts = Vec::new();
    for artifact in found {
        let reviewers = match Labels::new(&ui.lab, artifact.id()).read_all() {
            Ok(journals) => journals
                .into_iter()
                .map(|(reviewer, journal)| Done { reviewer, decided: journal.history.decided().count() })
                .collect(),
            Err(error) => {
                problems.push(Problem { file: artifact.id().to_string(), message: error.to_string() });
                Vec::new()
            }
        };
        artifacts.push(Reviewable {
            id: artifact.id().to_string(),
            kind: artifact.manifest.kind,
            rows: artifact.manifest.counts.rows,
            url: desk::url(artifact.id()),
            rows_url: artifact_url(artifact.id()),
            reviewers,
        });
    }
    Ok(Data { reviewer: params.get("reviewer").map(str::to_owned), artifacts, problems })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let reviewer = data.reviewer.as_deref();
    let query = Params::default().with("reviewer", reviewer.unwrap_or_default()).to_query();
    let body = html! {
        h1 { "Review" }
        (problems(&data.problems))
        (reviewer_form("/review", reviewer))
        @if data.artifacts.is_empty() { p.muted { "Nothing to review yet: no teacher has answered." } }
        @else {
            div.scroll { table {
                thead { tr {
                    th { "review" } th { "kind" } th.number { "rows" } th { "decided" } th { "agreement" } th { "data" }
                } }
                tbody { @for artifact in &data.artifacts { tr.row {
                    td { a href=(format!("{}{query}", artifact.url)) { (artifact.id) } }
                    td { (artifact.kind) }
                    td.number { (format::maybe_count(artifact.rows)) }
                    td {
                        @for (position, done) in artifact.reviewers.iter().enumerate() {
                            @if position > 0 { ", " }
                            (done.reviewer) " " span.muted { (format::count(done.decided as u64)) }
                        }
                        @if artifact.reviewers.is_empty() { span.muted { "nobody yet" } }
                    }
                    td { @if artifact.reviewers.len() > 1 {
                        a href=(format!("{}/agreement{query}", artifact.url)) { "how far they agree" }
                    } }
                    td { a href=(artifact.rows_url) { "rows" } }
                } } }
            } }
        }
        p.muted {
            "Decisions are lines in " code { "distillation/labels/" } "; "
            code { "nexa distill apply-review" } " makes data of them."
        }
    };
    Page { extra_script: Some(assets::review()), ..Page::new("Review", Section::Review, body) }
}
