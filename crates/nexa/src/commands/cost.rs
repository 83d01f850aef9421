//! `nexa cost`: what the runs of the lab, or of one project, cost; and what an accepted row of a teacher does.

use std::collections::BTreeMap;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, Kind, Manifest};
use nexa_core::cost::{Entry, Ledger, Spend};
use nexa_core::run::{self, Run};
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::args::Global;
use crate::render::{self, table};

#[derive(Serialize)]
struct Line {
    project: String,
    stage: String,
    runs: usize,
    spend: Spend,
}

/// Prints the sum by project and stage.
pub(crate) fn run(global: &Global) -> Result<ExitCode> {
    let app = App::open(global)?;
    let lines = sum(&app)?;
    if global.json {
        render::json(&lines)?;
        return Ok(ExitCode::Success);
    }
    let mut total = Spend::default();
    let mut rows = Vec::new();
    for line in &lines {
        total.merge(&line.spend);
        rows.push(row(&line.project, &line.stage, line.runs, &line.spend));
    }
    rows.push(row("total", "", lines.iter().map(|line| line.runs).sum(), &total));
    render::out(&table::table(&["project", "stage", "runs", "time", "requests", "tokens", "spend"], &rows));
    Ok(ExitCode::Success)
}

/// What the answers of a teacher, or the verdicts of judges, cost, and how many answers were accepted.
#[derive(Serialize)]
struct Yield {
    outputs: String,
    teacher: String,
    spend: Spend,
    rows: u64,
    /// Rows that the gates let through, of the newest filtering of these answers or by these verdicts; and after it
    /// reviewers, where there were any.
    accepted: Option<u64>,
    /// US dollars for an accepted row, where both are known.
    usd_per_accepted_row: Option<f64>,
}

/// Prints what each collection cost, by teacher and by accepted row: ledgers joined with lineage.
pub(crate) fn teachers(global: &Global) -> Result<ExitCode> {
    let app = App::open(global)?;
    let yields = yields(&app)?;
    if global.json {
        render::json(&yields)?;
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = yields.iter().map(Yield::cells).collect();
    let heads = ["answers", "teacher", "requests", "tokens", "spend", "rows", "accepted", "per accepted row"];
    render::out(&table::table(&heads, &rows));
    Ok(ExitCode::Success)
}

impl Yield {
    fn cells(&self) -> Vec<String> {
        let unknown = || "-".to_owned();
        vec![
            self.outputs.clone(),
            self.teacher.clone(),
            table::count(self.spend.requests),
            table::count(self.spend.prompt_tokens + self.spend.completion_tokens),
            self.spend.to_string(),
            table::count(self.rows),
            self.accepted.map_or_else(unknown, table::count),
            self.usd_per_accepted_row.map_or_else(unknown, |usd| format!("${usd:.6}")),
        ]
    }
}

/// Every collection with the newest filtering of its answers.
fn yields(app: &App) -> Result<Vec<Yield>> {
    let artifacts: Vec<_> = app
        .store()
        .all()?
        .into_iter()
        .filter(|artifact| app.named_project().is_none_or(|project| project == artifact.id().project))
        .collect();
    let of_kind = |kind| artifacts.iter().filter(move |artifact| artifact.manifest.kind == kind);
    let mut yields = Vec::new();
    let newest_child = |parent: &Artifact| {
        let id = parent.id().to_string();
        of_kind(Kind::Filtered)
            .filter(|child| child.manifest.parents.iter().any(|parent| parent.id == id))
            .max_by_key(|artifact| artifact.manifest.created_at)
    };
    for outputs in of_kind(Kind::TeacherOutputs).chain(of_kind(Kind::Verdicts)) {
        let filtered = std::iter::successors(newest_child(outputs), |child| newest_child(child)).last();
        let accepted = filtered.and_then(|artifact| artifact.manifest.counts.rows);
        let manifest = &outputs.manifest;
        // The machine's time is no part of what a teacher costs.
        let spend = api_spend(app, manifest)?;
        let usd = spend.unknown.is_empty().then_some(spend.usd);
        yields.push(Yield {
            teacher: asked(manifest),
            rows: manifest.counts.rows.unwrap_or(0),
            accepted,
            usd_per_accepted_row: usd
                .zip(accepted.filter(|rows| *rows > 0))
                .map(|(usd, rows)| usd / rows as f64),
            outputs: outputs.id().to_string(),
            spend,
        });
    }
    Ok(yields)
}

/// Who was asked: a teacher, or judges.
fn asked(manifest: &Manifest) -> String {
    let said = |name: &str| manifest.summary.get(name);
    let judges = || said("judges")?.as_array();
    match said("teacher").and_then(Value::as_str) {
        Some(teacher) => teacher.to_owned(),
        None => judges().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// What the calls of the run that made an artifact cost.
fn api_spend(app: &App, manifest: &Manifest) -> Result<Spend> {
    let mut spend = Spend::default();
    for charge in Ledger::charges(&run::folder(&app.lab, &manifest.producer.run))? {
        if matches!(charge.entry, Entry::Tokens { .. }) {
            spend.add(&charge.entry);
        }
    }
    Ok(spend)
}

fn row(project: &str, stage: &str, runs: usize, spend: &Spend) -> Vec<String> {
    vec![
        project.to_owned(),
        stage.to_owned(),
        runs.to_string(),
        table::duration(spend.machine_seconds),
        table::count(spend.requests),
        table::count(spend.prompt_tokens + spend.completion_tokens),
        spend.to_string(),
    ]
}

fn sum(app: &App) -> Result<Vec<Line>> {
    let mut sums: BTreeMap<(String, String), (usize, Spend)> = BTreeMap::new();
    for Run { record, .. } in run::list(&app.lab)?.complete()? {
        if app.named_project().is_none_or(|project| project == record.project) {
            let sum = sums.entry((record.project, record.stage)).or_default();
            sum.0 += 1;
            sum.1.merge(&record.spend);
        }
    }
    Ok(sums
        .into_iter()
        .map(|((project, stage), (runs, spend))| Line { project, stage, runs, spend })
        .collect())
}
