//! The first page: projects, the latest runs, the heads of leaderboards, what all of it cost.

use chrono::{DateTime, Utc};
use maud::html;
use nexa_core::artifact::Store;
use nexa_core::cost::Spend;
use nexa_core::run;
use serde::Serialize;

use super::leaderboard::{self, ProjectBoard};
use super::parts;
use super::{Page, Section};
use crate::Result;
use crate::format::{self, Cost};
use crate::request::encode;
use crate::scan::{self, Problem, RunRow};
use crate::server::Ui;

const LATEST_RUNS: usize = 8;
const LEADERS: usize = 3;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    lab: String,
    projects: Vec<ProjectRow>,
    latest_runs: Vec<RunRow>,
    leaders: Vec<ProjectBoard>,
    total: Cost,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct ProjectRow {
    name: String,
    artifacts: usize,
    runs: usize,
    newest: Option<DateTime<Utc>>,
    cost: Cost,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui) -> Result<Data> {
    let runs = run::list(&ui.lab)?;
    let artifacts = Store::new(&ui.lab).scan()?;
    let now = Utc::now();
    let mut total = Spend::default();
    let mut projects = Vec::new();
    for name in ui.lab.projects()? {
        let mut spend = Spend::default();
        let own: Vec<_> = runs.found.iter().filter(|run| run.record.project == name).collect();
        own.iter().for_each(|run| spend.merge(&run.record.spend));
        let made = artifacts.found.iter().filter(|artifact| artifact.id().project == name);
        projects.push(ProjectRow {
            artifacts: made.clone().count(),
            runs: own.len(),
            newest: made.map(|artifact| artifact.manifest.created_at).max(),
            cost: Cost::new(&spend),
            name,
        });
        total.merge(&spend);
    }
    let mut leaders: Vec<_> =
        projects.iter().map(|project| leaderboard::of_project(ui, &project.name, None)).collect();
    leaders.retain(|board| !board.groups.is_empty());
    leaders.iter_mut().flat_map(|board| &mut board.groups).for_each(|group| group.rows.truncate(LEADERS));
    Ok(Data {
        lab: ui.lab.root().display().to_string(),
        projects,
        latest_runs: runs.found.iter().take(LATEST_RUNS).map(|run| RunRow::new(run, now)).collect(),
        leaders,
        total: Cost::new(&total),
        problems: [runs.problems, artifacts.problems]
            .iter()
            .flat_map(|problems| scan::problems(&ui.lab, problems))
            .collect(),
    })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let body = html! {
        h1 { "Overview" }
        p.muted.mono { (data.lab) }
        (parts::problems(&data.problems))
        div.tiles {
            div.tile { strong { (format::things(data.projects.len(), "project")) } }
            div.tile { strong { (format::things(data.projects.iter().map(|p| p.artifacts).sum(), "artifact")) } }
            div.tile { strong { (format::things(data.projects.iter().map(|p| p.runs).sum(), "run")) } }
            div.tile { strong title=(data.total.text) { (data.total.short) " spent" } }
        }
        section {
            h2 { "Projects" }
            @if data.projects.is_empty() {
                p.muted { "No project yet. " code { "nexa demo" } " makes one with everything in it." }
            } @else {
                div.scroll { table {
                    thead { tr {
                        th { "project" } th.number { "artifacts" } th.number { "runs" } th { "newest artifact" }
                        th.number { "spend" }
                    } }
                    tbody { @for project in &data.projects { tr.row {
                        td { a href=(format!("/data?project={}", encode(&project.name))) { (project.name) } }
                        td.number { (project.artifacts) }
                        td.number { a href=(format!("/runs?project={}", encode(&project.name))) { (project.runs) } }
                        td.nowrap { @match project.newest { Some(at) => (parts::time(at)), None => (format::UNKNOWN) } }
                        td.number { (parts::cost(&project.cost)) }
                    } } }
                } }
            }
        }
        section {
            h2 { "Latest runs" }
            @if data.latest_runs.is_empty() { p.muted { "Nothing has run yet." } }
            @else { (parts::run_table(&data.latest_runs, false)) p { a href="/runs" { "all runs" } } }
        }
        @if !data.leaders.is_empty() {
            section {
                h2 { "Leaders" }
                @for board in &data.leaders { @for group in &board.groups { (leaderboard::table(&board.project, group)) } }
                p { a href="/leaderboard" { "the whole leaderboard" } }
            }
        }
    };
    Page::new("Overview", Section::Overview, body)
}
