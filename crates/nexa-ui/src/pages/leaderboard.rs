//! Models that were asked the same, best first, each number with its interval.

use std::collections::BTreeSet;

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use serde::Serialize;

use super::board;
use super::interval::{interval, most, percent};
use super::parts::{self, evaluation_url, own_artifact_link, select};
use super::{Page, Section};
use crate::format::{self, Cost};
use crate::leaderboard::{Board, Group, LeaderboardView, Standing};
use crate::request::Params;
use crate::server::Ui;
use crate::{Error, Result};

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    project: Option<String>,
    projects: Vec<String>,
    task: Option<String>,
    /// The tasks that can be chosen, of all projects that are shown.
    tasks: Vec<String>,
    metric: Option<String>,
    /// The metrics that can rank the tasks that are shown.
    metrics: Vec<String>,
    boards: Vec<ProjectBoard>,
}

/// The leaderboard of one project, or why there is none.
#[derive(Debug, Serialize)]
pub(crate) struct ProjectBoard {
    pub(crate) project: String,
    pub(crate) groups: Vec<Group>,
    /// The tasks beside held-out splits; all that were chosen, where one was.
    tasks: Vec<Board>,
    error: Option<String>,
}

/// The leaderboard of a project; a failure is part of the answer.
pub(crate) fn of_project(ui: &Ui, project: &str, metric: Option<&str>) -> ProjectBoard {
    let (view, error) = match ui.leaderboard.leaderboard(project, metric) {
        Ok(view) => (view, None),
        Err(message) => {
            let error = Error::Leaderboard { project: project.to_owned(), message };
            (LeaderboardView::default(), Some(error.to_string()))
        }
    };
    ProjectBoard { project: project.to_owned(), groups: view.groups, tasks: view.boards, error }
}

impl ProjectBoard {
    /// Keeps the boards of one task; where nothing is chosen, held-out splits stand in tables that show both their metrics.
    fn choose(&mut self, task: Option<&str>, metric: Option<&str>) {
        if let Some(task) = task {
            self.groups.clear();
            self.tasks.retain(|board| board.task == task);
        } else if metric.is_none() {
            self.tasks.retain(|board| board.dataset.is_none());
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.tasks.is_empty() && self.error.is_none()
    }
}

impl Data {
    fn is_chosen(&self) -> bool {
        self.task.is_some() || self.metric.is_some()
    }
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let projects = ui.lab.projects()?;
    let chosen = |name: &str| params.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let (project, task, metric) = (chosen("project"), chosen("task"), chosen("metric"));
    let wanted = |name: &&String| project.as_ref().is_none_or(|project| project == *name);
    let mut boards: Vec<ProjectBoard> =
        projects.iter().filter(wanted).map(|name| of_project(ui, name, metric.as_deref())).collect();
    let names: BTreeSet<&String> =
        boards.iter().flat_map(|board| &board.tasks).map(|board| &board.task).collect();
    let tasks = names.into_iter().cloned().collect();
    boards.iter_mut().for_each(|board| board.choose(task.as_deref(), metric.as_deref()));
    let shown = boards.iter().flat_map(|board| &board.tasks);
    let names: BTreeSet<&String> = shown.flat_map(|board| &board.metrics).collect();
    let metrics = names.into_iter().cloned().collect();
    Ok(Data { boards, project, projects, task, tasks, metric, metrics })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let is_empty = data.boards.iter().all(ProjectBoard::is_empty);
    let body = html! {
        h1 { "Leaderboard" }
        @if data.projects.len() > 1 || data.tasks.len() > 1 || data.is_chosen() {
            form.filter method="get" action="/leaderboard" {
                @if data.projects.len() > 1 { (select("project", "every project", &data.projects, data.project.as_deref())) }
                (select("task", "every task", &data.tasks, data.task.as_deref()))
                (select("metric", "each task's first metric", &data.metrics, data.metric.as_deref()))
                button { "filter" }
                @if data.project.is_some() || data.is_chosen() { a href="/leaderboard" { "show all" } }
            }
        }
        @if is_empty && data.is_chosen() { p.muted { "Nothing has been evaluated by this task and metric." } }
        @else if is_empty { p.muted { "Nothing has been evaluated yet. " code { "nexa evaluate" } " does that." } }
        @for board in &data.boards {
            @if let Some(error) = &board.error { section.problems role="alert" { p { "error: " (error) } } }
            @for group in &board.groups { (table(&board.project, group)) }
            @for board_of_task in &board.tasks { (board::table(&board.project, board_of_task)) }
        }
        @if !is_empty {
            p.muted {
                "Lines are 95 % confidence intervals. Exact match: higher is better; bits per byte: lower is better. \
                 Ranks are those that paired tests of all pairs leave open, corrected by Holm's method. CSV and Markdown: "
                code { "nexa leaderboard --format csv" }
            }
        }
    };
    Page::new("Leaderboard", Section::Leaderboard, body)
}

/// One group.
pub(crate) fn table(project: &str, group: &Group) -> Markup {
    let most_bits = most(group.rows.iter().filter_map(|row| row.bits_per_byte.as_ref()));
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
        @if let Some(p) = row.p_value { span.muted.nowrap { (p_value(p)) } }
        @if row.verdict.is_none() && row.p_value.is_none() { (format::UNKNOWN) }
    }
}

/// A p-value to the precision that means something.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

fn samples(evaluation: &str) -> Markup {
    match evaluation.parse::<ArtifactId>() {
        Ok(id) => {
            let url = evaluation_url(&id);
            html! { a href=(url) { "all" } " · " a href=(format!("{url}?task=exact_match&judged=wrong")) { "wrong" } }
        }
        Err(_) => html! { (evaluation) },
    }
}
