//! `nexa run`: runs a pipeline and tells what became of each stage.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::lab::Lab;

use crate::app::App;
use crate::args::{Global, RunArgs};
use crate::pipeline::{self, Options, Pipeline, StageReport, StageState};
use crate::render::{self, error::Reported, table};
use crate::stages;

/// Runs a pipeline file. The lab is the one that the file lies in, unless another is named.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<ExitCode> {
    if global.project.is_some() {
        let message = "`--project` has no effect here: the pipeline names its project";
        return Err(nexa_core::Error::config("command line", message).into());
    }
    let pipeline = pipeline::load(&args.pipeline, &args.overrides)?;
    let app = match &global.lab {
        Some(_) => App::open(global)?,
        None => {
            let folder = args.pipeline.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            App::with_lab(Lab::discover(folder)?, None)?
        }
    };
    let options = Options { dry_run: args.dry_run, force: args.force.clone(), jobs: args.jobs };
    let reports = execute(&app, &pipeline, &options)?;
    Ok(pipeline::exit_code(&reports))
}

/// Runs a pipeline on the screen of the app.
pub(crate) fn execute(app: &App, pipeline: &Pipeline, options: &Options) -> Result<Vec<StageReport>> {
    let started = Instant::now();
    let silent = nexa_core::event::NoEvents;
    let services = app.services(&silent);
    let count = pipeline.nodes.len();
    app.screen.line(&format!("pipeline {} of project {}: {count} stages", pipeline.name, pipeline.project));
    let width = pipeline.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
    let reports = pipeline::execute(
        pipeline,
        &services,
        options,
        &|name| Box::new(app.screen.sink(name)),
        &mut |report| app.screen.line(&describe(app, report, width)),
    )
    .map_err(Reported)?;
    app.screen.line(&summary(&reports, options.dry_run, started.elapsed().as_secs_f64()));
    Ok(reports)
}

/// One stage's end, on lines whose names are padded to a common width.
fn describe(app: &App, report: &StageReport, width: usize) -> String {
    let name = &report.name;
    match &report.state {
        StageState::UpToDate(artifact) => format!("  {name:<width$} up to date  {}", stages::facts(artifact)),
        StageState::Made(artifact) => {
            let seconds = table::duration(artifact.manifest.spend.machine_seconds);
            format!("  {name:<width$} made        {} in {seconds}", stages::facts(artifact))
        }
        StageState::WouldRun => format!("  {name:<width$} would run"),
        StageState::Failed { error, log } => {
            let mut text =
                format!("  {name:<width$} failed      {}", render::error::one_line(&error.to_string()));
            if let Some(hint) = error.hint() {
                text.push_str(&format!("\n  {:<width$} hint        {hint}", ""));
            }
            if let Some(log) = log {
                text.push_str(&format!("\n  {:<width$} log         {}", "", app.show(log)));
            }
            text
        }
        StageState::Blocked { by } => format!("  {name:<width$} not run     waited for {}", by.join(", ")),
    }
}

fn summary(reports: &[StageReport], dry_run: bool, seconds: f64) -> String {
    let count =
        |wanted: fn(&StageState) -> bool| reports.iter().filter(|report| wanted(&report.state)).count();
    let up_to_date = count(|state| matches!(state, StageState::UpToDate(_)));
    if up_to_date == reports.len() {
        return format!("everything is up to date ({} stages, {})", reports.len(), table::duration(seconds));
    }
    if dry_run {
        let would = count(|state| matches!(state, StageState::WouldRun));
        return format!("{would} stages would run, {up_to_date} are up to date");
    }
    let parts = [
        (count(|state| matches!(state, StageState::Made(_))), "made"),
        (up_to_date, "up to date"),
        (count(|state| matches!(state, StageState::Failed { .. })), "failed"),
        (count(|state| matches!(state, StageState::Blocked { .. })), "not run"),
    ];
    let text: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("{} in {}", text.join(", "), table::duration(seconds))
}
