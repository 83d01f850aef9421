//! `nexa cost`: what the runs of the lab, or of one project, cost.

use std::collections::BTreeMap;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::cost::Spend;
use nexa_core::run::{self, Run};
use serde::Serialize;

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
