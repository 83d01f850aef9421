//! Models that were asked the same, best first, each number with its interval.

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use serde::Serialize;

use super::parts::{self, artifact_url, own_artifact_link, select};
use super::{Page, Section};
use crate::format::{self, Cost};
use crate::leaderboard::{Estimate, Group, LeaderboardView, Standing};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::{Error, Result};

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    project: Option<String>,
    projects: Vec<String>,
    boards: Vec<ProjectBoard>,
}

/// The leaderboard of one project, or why there is none.
#[derive(Debug, Serialize)]
pub(crate) struct ProjectBoard {
    pub(crate) project: String,
    pub(crate) groups: Vec<Group>,
    error: Option<String>,
}

/// The leaderboard of a project; a failure is part of the answer.
pub(crate) fn of_project(ui: &Ui, project: &str) -> ProjectBoard {
    let (view, error) = match ui.leaderboard.leaderboard(project) {
        Ok(view) => (view, None),
        Err(message) => {
            let error = Error::Leaderboard { project: project.to_owned(), message };
            (LeaderboardView::default(), Some(error.to_string()))
        }
    };
    ProjectBoard { project: project.to_owned(), groups: view.groups, error }
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let projects = ui.lab.projects()?;
    let project = params.get("project").map(str::to_owned);
    let wanted = |name: &&String| project.as_ref().is_none_or(|project| project == *name);
    let boards = projects.iter().filter(wanted).map(|name| of_project(ui, name)).collect();
    Ok(Data { boards, project, projects })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let is_empty = data.boards.iter().all(|board| board.groups.is_empty() && board.error.is_none());
    let body = html! {
        h1 { "Leaderboard" }
        @if data.projects.len() > 1 {
            form.filter method="get" action="/leaderboard" {
                (select("project", "every project", &data.projects, data.project.as_deref()))
                button { "filter" }
            }
        }
        @if is_empty { p.muted { "Nothing has been evaluated yet. " code { "nexa evaluate" } " does that." } }
        @for board in &data.boards {
            @if let Some(error) = &board.error { section.problems role="alert" { p { "error: " (error) } } }
            @for group in &board.groups { (table(&board.project, group)) }
        }
        @if !is_empty {
            p.muted { "Lines are 95 % confidence intervals. Exact match: higher is better; bits per byte: lower is better." }
        }
    };
    Page::new("Leaderboard", Section::Leaderboard, body)
}

/// One group.
pub(crate) fn table(project: &str, group: &Group) -> Markup {
    let most_bits = group
        .rows
        .iter()
        .filter_map(|row| row.bits_per_byte)
        .map(|bits| bits.ci_high.unwrap_or(bits.value))
        .fold(0.0, f64::max);
    let has_bits = group.rows.iter().any(|row| row.bits_per_byte.is_some());
    html! {
        section {
            h3 {
                span.muted { (project) " · " } (own_artifact_link(project, &group.dataset)) " · " (group.split) " · "
                (format::count(group.n)) " rows"
            }
            div.scroll { table.board {
                thead { tr {
                    th.number { "#" } th { "model" } th { "exact match" }
                    @if has_bits { th { "bits per byte" } }
                    th { "verdict" } th.number { "spend on the model" } th { "evaluated" } th { "samples" }
                } }
                tbody { @for row in &group.rows { tr.row {
                    td.number { @match row.rank { Some(rank) => (rank), None => (format::UNKNOWN) } }
                    td { (own_artifact_link(project, &row.model)) }
                    td { @match &row.exact_match {
                        Some(estimate) => (interval(estimate, 1.0, &percent)),
                        None => (format::UNKNOWN),
                    } }
                    @if has_bits { td { @match &row.bits_per_byte {
                        Some(estimate) => (interval(estimate, most_bits, &format::number)),
                        None => (format::UNKNOWN),
                    } } }
                    td { (verdict(row)) }
                    td.number { @match &row.model_spend { Some(spend) => (parts::cost(&Cost::new(spend))), None => (format::UNKNOWN) } }
                    td.nowrap { @match row.created_at { Some(at) => (parts::time(at)), None => (format::UNKNOWN) } }
                    td.nowrap { (samples(&row.evaluation)) }
                } } }
            } }
        }
    }
}

fn verdict(row: &Standing) -> Markup {
    html! {
        @if let Some(verdict) = &row.verdict { (verdict) " " }
        @if let Some(p) = row.p_value {
            span.muted.nowrap { @if p < 0.001 { "p < 0.001" } @else { "p = " (format!("{p:.3}")) } }
        }
        @if row.verdict.is_none() && row.p_value.is_none() { (format::UNKNOWN) }
    }
}

fn samples(evaluation: &str) -> Markup {
    match evaluation.parse::<ArtifactId>() {
        Ok(id) => {
            let url = artifact_url(&id);
            let wrong = format!("{url}?column={}&value=false", encode("correct"));
            html! { a href=(url) { "all" } " · " a href=(wrong) { "wrong" } }
        }
        Err(_) => html! { (evaluation) },
    }
}

fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

/// A number, its interval in words, and both on a scale from 0 to `most`.
fn interval(estimate: &Estimate, most: f64, show: &dyn Fn(f64) -> String) -> Markup {
    const WIDTH: f64 = 140.0;
    let place =
        |value: f64| if most > 0.0 { (value / most).clamp(0.0, 1.0) * (WIDTH - 8.0) + 4.0 } else { 4.0 };
    let at = |value: f64| format!("{:.1}", place(value));
    let ends = estimate.ci_low.zip(estimate.ci_high);
    let words = match ends {
        Some((low, high)) => format!("{} to {}", show(low), show(high)),
        None => "unknown".to_owned(),
    };
    html! {
        span.interval title=(format!("95 % confidence interval: {words}")) {
            svg width=(WIDTH) height="16" role="img" aria-label=(words) {
                rect.track x="0" y="6" width=(WIDTH) height="4" rx="2" {}
                @if let Some((low, high)) = ends {
                    @let (low, high) = (at(low), at(high));
                    line.range x1=(low) x2=(high) y1="8" y2="8" {}
                    line.end x1=(low) x2=(low) y1="4" y2="12" {}
                    line.end x1=(high) x2=(high) y1="4" y2="12" {}
                }
                circle.dot cx=(at(estimate.value)) cy="8" r="4" {}
            }
            span { strong { (show(estimate.value)) } small.muted { (words) } }
        }
    }
}
