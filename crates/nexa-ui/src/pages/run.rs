//! One run: what it was told, what it did, how its numbers went.

use std::fmt::Write;

use chrono::Utc;
use maud::{Markup, html};
use nexa_core::files;
use nexa_core::run::{self, Run, RunId, RunRecord, State};
use serde::Serialize;
use serde_json::{Map, Value};

use super::parts::{artifact_link, status, time};
use super::{Page, Section};
use crate::follow::newest_progress;
use crate::format;
use crate::metrics::{Curves, Tail};
use crate::request::encode;
use crate::scan::RunRow;
use crate::server::Ui;
use crate::{Result, assets};

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    run: RunRow,
    record: RunRecord,
    config_yaml: String,
    metrics: Vec<Metric>,
    progress: Option<Map<String, Value>>,
    problems: Vec<String>,
}

/// A metric in short.
#[derive(Debug, Serialize)]
struct Metric {
    key: String,
    points: usize,
    last: f64,
    lowest: f64,
    lowest_at: f64,
    highest: f64,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &RunId) -> Result<Data> {
    let run = Run::find(&ui.lab, id)?;
    let folder = run::folder(&ui.lab, id);
    let curves = Curves::read(&folder)?;
    // The resolved configuration is in the record too; the file is nicer to read.
    let config_yaml = files::read_text(&folder.join("config.yaml"))
        .unwrap_or_else(|_| serde_json::to_string_pretty(&run.record.config).unwrap_or_default());
    Ok(Data {
        run: RunRow::new(&run, Utc::now()),
        config_yaml,
        metrics: curves.curves.iter().filter_map(|curve| Metric::new(&curve.key, &curve.points)).collect(),
        progress: newest_progress(&mut Tail::after(folder.join("events.jsonl"), 0)?)?,
        problems: curves.problems,
        record: run.record,
    })
}

/// The curves of a run, in full.
pub(crate) fn curves(ui: &Ui, id: &RunId) -> Result<Curves> {
    Run::find(&ui.lab, id)?;
    Curves::read(&run::folder(&ui.lab, id))
}

/// The rows of a run's metrics as CSV: every column that any row has.
pub(crate) fn metrics_csv(ui: &Ui, id: &RunId) -> Result<String> {
    Run::find(&ui.lab, id)?;
    let mut tail = Tail::after(run::folder(&ui.lab, id).join("metrics.jsonl"), 0)?;
    let rows: Vec<Map<String, Value>> = tail.read(|row, _| row)?.lines.into_iter().flatten().collect();
    let mut columns: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let mut csv = String::new();
    push_line(&mut csv, columns.iter().map(|column| (*column).clone()));
    for row in &rows {
        push_line(
            &mut csv,
            columns.iter().map(|column| row.get(*column).map(format::text).unwrap_or_default()),
        );
    }
    Ok(csv)
}

fn push_line(csv: &mut String, cells: impl Iterator<Item = String>) {
    for (position, cell) in cells.enumerate() {
        let separator = if position == 0 { "" } else { "," };
        let _ = if cell.contains(['"', ',', '\n', '\r']) {
            write!(csv, "{separator}\"{}\"", cell.replace('"', "\"\""))
        } else {
            write!(csv, "{separator}{cell}")
        };
    }
    csv.push_str("\r\n");
}

impl Metric {
    fn new(key: &str, points: &[[f64; 2]]) -> Option<Self> {
        let lowest = points.iter().min_by(|a, b| a[1].total_cmp(&b[1]))?;
        let highest = points.iter().max_by(|a, b| a[1].total_cmp(&b[1]))?;
        Some(Self {
            key: key.to_owned(),
            points: points.len(),
            last: points.last()?[1],
            lowest: lowest[1],
            lowest_at: lowest[0],
            highest: highest[1],
        })
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let (run, record) = (&data.run, &data.record);
    let live = run.status == State::Running;
    let has_charts = live || !data.metrics.is_empty();
    let body = html! {
        p.crumbs { a href="/runs" { "runs" } }
        h1.mono { (run.id) " " span #status { (status(run.status)) } }
        @if let Some(reason) = record.exit_reason.as_deref().filter(|reason| *reason != run.status.as_str()) {
            section.problems { p { (run.status.as_str()) ": " (reason) } }
        }
        @if run.status == State::Killed {
            section.problems { p { "Its process is gone without a word. The same command goes on where it stopped." } }
        }
        @if live { (progress(data.progress.as_ref())) }
        @if !data.problems.is_empty() {
            section.problems { ul { @for problem in data.problems.iter().take(5) { li { (problem) } } } }
        }
        @if has_charts { (charts(&[run.id.as_str()], live)) }
        (metric_table(data))
        section.columns {
            (facts(data))
            div { h2 { "Configuration" } pre.code { (data.config_yaml) } }
        }
    };
    let extra_script = has_charts.then(assets::plotly);
    Page { title: run.id.clone(), section: Some(Section::Runs), body, extra_script }
}

fn progress(newest: Option<&Map<String, Value>>) -> Markup {
    let number = |key| newest.and_then(|progress| progress.get(key)).and_then(Value::as_u64);
    let text =
        |key| newest.and_then(|progress| progress.get(key)).and_then(Value::as_str).unwrap_or_default();
    html! {
        div #progress aria-live="polite" {
            progress value=[number("done")] max=[number("total")] {}
            span { @if let Some(done) = number("done") {
                (format::count(done)) @if let Some(total) = number("total") { " of " (format::count(total)) }
                " " (text("unit")) "  " (text("note"))
            } }
        }
    }
}

/// Where the script draws the curves of runs. Without it, the table of metrics remains.
pub(crate) fn charts(runs: &[&str], live: bool) -> Markup {
    html! {
        section #charts data-runs=(runs.join(" ")) data-live[live] {
            div.toolbar {
                h2 { "Curves" }
                label { "smoothing " input #smoothing type="range" min="0" max="0.99" step="0.01" value="0.6"; output { "0.60" } }
                @for run in runs {
                    a href=(format!("/runs/{}/metrics.csv", encode(run))) download {
                        "CSV" @if runs.len() > 1 { " of " (run) }
                    }
                }
            }
            noscript { p.muted { "Curves need JavaScript; the numbers are below." } }
            div.grid {}
        }
    }
}

fn metric_table(data: &Data) -> Markup {
    html! {
        @if !data.metrics.is_empty() {
            section {
                h2 { "Metrics" }
                div.scroll { table {
                    thead { tr {
                        th { "metric" } th.number { "last" } th.number { "lowest" } th.number { "at step" }
                        th.number { "highest" } th.number { "points" }
                    } }
                    tbody { @for metric in &data.metrics { tr {
                        td { (metric.key) }
                        td.number { (format::number(metric.last)) }
                        td.number { (format::number(metric.lowest)) }
                        td.number { (format::number(metric.lowest_at)) }
                        td.number { (format::number(metric.highest)) }
                        td.number { (format::count(metric.points as u64)) }
                    } } }
                } }
            }
        }
    }
}

fn facts(data: &Data) -> Markup {
    let (run, record) = (&data.run, &data.record);
    html! {
        div {
            h2 { "Facts" }
            dl.facts {
                dt { "stage" } dd { (run.stage) }
                dt { "project" } dd { a href=(format!("/runs?project={}", encode(&run.project))) { (run.project) } }
                dt { "output" } dd { @match &run.output {
                    Some(id) => (artifact_link(&id.to_string())),
                    None => span.muted { "none yet, would be " (run.name) },
                } }
                dt { "inputs" } dd {
                    @if record.inputs.is_empty() { span.muted { "none" } }
                    ul.bare { @for input in &record.inputs { li {
                        span.muted { (input.role) ": " } (artifact_link(&input.id)) " "
                        code title=(input.content_hash.as_str()) { (input.content_hash.short()) }
                    } } }
                }
                dt { "seed" } dd { (record.seed) }
                dt { "started" } dd { (time(run.started_at)) }
                dt { "ended" } dd { @match record.ended_at { Some(at) => (time(at)), None => (format::UNKNOWN) } }
                dt { "duration" } dd { (format::maybe_duration(run.seconds)) }
                dt { "attempts" } dd { ul.bare { @for attempt in &record.attempts { li {
                    (time(attempt.started_at)) " to "
                    @match attempt.ended_at { Some(at) => (time(at)), None => (format::UNKNOWN) }
                    span.muted { " process " (attempt.pid) }
                } } } }
                dt { "spend" } dd { (run.cost.text) }
                @if run.cost.requests > 0 {
                    dt { "API calls" } dd {
                        (format::count(run.cost.requests)) ", " (format::count(run.cost.prompt_tokens)) " tokens in, "
                        (format::count(run.cost.completion_tokens)) " out"
                    }
                }
                dt { "machine" } dd {
                    (record.host.name) ", " (record.host.cpu) ", " (record.host.threads) " threads, "
                    (format::size(record.host.memory_bytes)) ", " (record.host.platform)
                }
                dt { "device" } dd { (record.device) }
                dt { "nexa" } dd { (record.nexa_version) }
                dt { "git" } dd { @match &record.git {
                    Some(git) => { code { (git.commit) } @if git.dirty { " with changes" } },
                    None => span.muted { "the lab lies in no repository" },
                } }
                dt { "key" } dd { code title=(record.key.as_str()) { (record.key.short()) } }
            }
        }
    }
}
