//! `nexa runs`: what was started, and how it ended.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::run::{self, Run};

use crate::app::App;
use crate::args::{Global, RunsCommand};
use crate::render::{self, table};

/// Lists runs, newest first, or shows one.
pub(crate) fn run(global: &Global, command: RunsCommand) -> Result<ExitCode> {
    let app = App::open(global)?;
    match command {
        RunsCommand::List => list(global, &app),
        RunsCommand::Show { run } => show(global, &app, &run),
        RunsCommand::Track { run, overrides } => super::track::run(global, &app, &run, &overrides),
        RunsCommand::Reproduce { run } => super::reproduce::run(&app, &run),
    }
}

fn list(global: &Global, app: &App) -> Result<ExitCode> {
    let mut runs = run::list(&app.lab)?.complete()?;
    runs.retain(|run| app.named_project().is_none_or(|project| project == run.record.project));
    if global.json {
        render::json(&runs)?;
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|Run { record, state }| {
            vec![
                record.id.to_string(),
                record.project.clone(),
                record.stage.clone(),
                state.as_str().to_owned(),
                table::duration(record.spend.machine_seconds),
                record.spend.to_string(),
                record.output.as_ref().map(ToString::to_string).unwrap_or_default(),
            ]
        })
        .collect();
    render::out(&table::table(&["run", "project", "stage", "status", "time", "spend", "artifact"], &rows));
    Ok(ExitCode::Success)
}

fn show(global: &Global, app: &App, id: &str) -> Result<ExitCode> {
    let run = Run::find(&app.lab, &id.parse()?)?;
    if global.json {
        render::json(&run)?;
        return Ok(ExitCode::Success);
    }
    let Run { record, state } = run;
    let git = record.git.as_ref().map_or_else(
        || "no repository".to_owned(),
        |git| format!("{}{}", git.commit, if git.dirty { " (dirty)" } else { "" }),
    );
    let facts = [
        ("run", record.id.to_string()),
        ("stage", record.stage.clone()),
        ("project", record.project.clone()),
        ("status", state.as_str().to_owned()),
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
        ("folder", app.show(&run::folder(&app.lab, &record.id))),
        ("report", app.show(&run::folder(&app.lab, &record.id).join(run::report::FILE))),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        render::out(&format!("{name:<12} {value}"));
    }
    for input in &record.inputs {
        render::out(&format!("input        {}: {} [{}]", input.role, input.id, input.content_hash.short()));
    }
    Ok(ExitCode::Success)
}
