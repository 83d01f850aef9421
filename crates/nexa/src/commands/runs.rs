//! `nexa runs`: what was started, and how it ended.

use anyhow::Result;
use nexa_core::run::{self, RunId, RunRecord, Status};
use nexa_core::{Error, ExitCode};

use crate::app::App;
use crate::args::{Global, RunsCommand};
use crate::render::{self, table};

/// Lists runs, or shows one.
pub(crate) fn run(global: &Global, command: RunsCommand) -> Result<ExitCode> {
    let app = App::open(global)?;
    match command {
        RunsCommand::List => list(global, &app),
        RunsCommand::Show { run } => show(global, &app, &run),
        RunsCommand::Reproduce { run } => super::reproduce::run(&app, &run),
    }
}

fn list(global: &Global, app: &App) -> Result<ExitCode> {
    let mut runs = run::all(&app.lab)?;
    runs.retain(|run| app.named_project().is_none_or(|project| project == run.project));
    if global.json {
        render::json(&runs)?;
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                run.id.to_string(),
                run.project.clone(),
                run.stage.clone(),
                status(app, run).to_owned(),
                table::duration(run.spend.machine_seconds),
                run.spend.to_string(),
                run.output.as_ref().map(ToString::to_string).unwrap_or_default(),
            ]
        })
        .collect();
    render::out(&table::table(&["run", "project", "stage", "status", "time", "spend", "artifact"], &rows));
    Ok(ExitCode::Success)
}

fn show(global: &Global, app: &App, id: &str) -> Result<ExitCode> {
    let id: RunId = id.parse()?;
    let folder = run::folder(&app.lab, &id);
    if !folder.join("run.json").is_file() {
        let hint = Some("`nexa runs list` shows what there is".to_owned());
        return Err(Error::NotFound { what: "run", name: id.to_string(), hint }.into());
    }
    let record = RunRecord::read(&folder)?;
    if global.json {
        render::json(&record)?;
        return Ok(ExitCode::Success);
    }
    let git = record.git.as_ref().map_or_else(
        || "no repository".to_owned(),
        |git| format!("{}{}", git.commit, if git.dirty { " (dirty)" } else { "" }),
    );
    let facts = [
        ("run", record.id.to_string()),
        ("stage", record.stage.clone()),
        ("project", record.project.clone()),
        ("status", status(app, &record).to_owned()),
        ("exit reason", record.exit_reason.clone().unwrap_or_default()),
        ("started", record.started_at.to_rfc3339()),
        ("ended", record.ended_at.map(|at| at.to_rfc3339()).unwrap_or_default()),
        ("attempts", record.attempts.len().to_string()),
        ("artifact", record.output.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("seed", record.seed.to_string()),
        ("host", format!("{} ({}, {} threads)", record.host.name, record.host.cpu, record.host.threads)),
        ("device", record.device.clone()),
        ("git", git),
        ("nexa", record.nexa_version.clone()),
        ("spend", record.spend.to_string()),
        ("folder", app.show(&folder)),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        render::out(&format!("{name:<12} {value}"));
    }
    for input in &record.inputs {
        render::out(&format!("input        {}: {} [{}]", input.role, input.id, input.content_hash.short()));
    }
    Ok(ExitCode::Success)
}

/// A run whose process is gone without a word was killed.
fn status(app: &App, run: &RunRecord) -> &'static str {
    if run.status == Status::Running && !run.is_alive(&app.lab) { "killed" } else { run.status.as_str() }
}
