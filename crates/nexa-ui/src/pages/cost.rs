//! What was spent, by project, by stage and by run.

use std::collections::BTreeMap;

use chrono::Utc;
use maud::{Markup, html};
use nexa_core::cost::Spend;
use nexa_core::run;
use serde::Serialize;

use super::parts::{cost, problems, run_link, status};
use super::{Page, Section};
use crate::Result;
use crate::format::{self, Cost};
use crate::scan::{self, Problem, RunRow};
use crate::server::Ui;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    total: Cost,
    by_project: Vec<Line>,
    by_stage: Vec<Line>,
    runs: Vec<RunRow>,
    machine_usd_per_hour: Option<f64>,
    max_usd_per_run: Option<f64>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    runs: usize,
    cost: Cost,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui) -> Result<Data> {
    let scan = run::list(&ui.lab)?;
    let now = Utc::now();
    let mut total = Spend::default();
    let mut by_project = BTreeMap::new();
    let mut by_stage = BTreeMap::new();
    for run in &scan.found {
        let record = &run.record;
        total.merge(&record.spend);
        for (sums, name) in [(&mut by_project, &record.project), (&mut by_stage, &record.stage)] {
            let (runs, sum): &mut (usize, Spend) = sums.entry(name.clone()).or_default();
            *runs += 1;
            sum.merge(&record.spend);
        }
    }
    let settings = ui.lab.settings();
    Ok(Data {
        total: Cost::new(&total),
        by_project: lines(by_project),
        by_stage: lines(by_stage),
        runs: scan.found.iter().map(|run| RunRow::new(run, now)).collect(),
        machine_usd_per_hour: settings.prices.machine_usd_per_hour,
        max_usd_per_run: settings.budget.max_usd_per_run,
        problems: scan::problems(&ui.lab, &scan.problems),
    })
}

fn lines(sums: BTreeMap<String, (usize, Spend)>) -> Vec<Line> {
    sums.into_iter().map(|(name, (runs, spend))| Line { name, runs, cost: Cost::new(&spend) }).collect()
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let body = html! {
        h1 { "Cost" }
        (problems(&data.problems))
        div.tiles {
            div.tile { strong title=(data.total.text) { (data.total.short) } " in all" }
            div.tile { strong { (format::duration(data.total.machine_seconds)) } " of machines" }
            div.tile { strong { (format::count(data.total.requests)) } " API calls" }
            div.tile { strong { @match data.max_usd_per_run {
                Some(usd) => (format!("${usd:.2}")),
                None => "no",
            } } " ceiling for a run" }
        }
        @if data.machine_usd_per_hour.is_none() {
            p.muted {
                "The hour of this machine has no price, so its time counts as unknown, not as nothing. "
                code { "prices.machine_usd_per_hour" } " in " code { "nexa.yaml" } " gives one."
            }
        }
        (sums("By project", "project", &data.by_project))
        (sums("By stage", "stage", &data.by_stage))
        section {
            h2 { "By run" }
            @if data.runs.is_empty() { p.muted { "Nothing has run yet." } }
            @else { div.scroll { table {
                thead { tr {
                    th { "run" } th { "project" } th { "stage" } th { "status" } (heads()) th.number { "spend" }
                } }
                tbody { @for run in &data.runs { tr.row {
                    td { (run_link(&run.id)) } td { (run.project) } td { (run.stage) } td { (status(run.status)) }
                    (usage(&run.cost)) td.number { (cost(&run.cost)) }
                } } }
            } } }
        }
    };
    Page::new("Cost", Section::Cost, body)
}

fn sums(title: &str, what: &str, lines: &[Line]) -> Markup {
    html! {
        @if !lines.is_empty() {
            section {
                h2 { (title) }
                div.scroll { table {
                    thead { tr { th { (what) } th.number { "runs" } (heads()) th.number { "spend" } } }
                    tbody { @for line in lines { tr {
                        td { (line.name) } td.number { (line.runs) } (usage(&line.cost)) td.number { (cost(&line.cost)) }
                    } } }
                } }
            }
        }
    }
}

fn heads() -> Markup {
    html! { th.number { "machine time" } th.number { "calls" } th.number { "tokens in" } th.number { "tokens out" } }
}

fn usage(cost: &Cost) -> Markup {
    html! {
        td.number { @if cost.machine_seconds > 0.0 { (format::duration(cost.machine_seconds)) } @else { (format::UNKNOWN) } }
        td.number { (format::count(cost.requests)) }
        td.number { (format::count(cost.prompt_tokens)) }
        td.number { (format::count(cost.completion_tokens)) }
    }
}
