//! `nexa train`: trains a model, or proves that a training that is killed can be resumed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nexa_core::event::{Cancel, NoEvents};
use nexa_core::{ExitCode, config, files, run};
use nexa_data::tables::FileTables;
use nexa_train::verify::{self, Job, Trial};
use nexa_train::{Error, Inputs};

use super::stage;
use crate::app::App;
use crate::args::{Global, StageArgs, TrainArgs};
use crate::datasets;
use crate::models;
use crate::render::{self, error::reported};
use crate::stages;

/// The stage behind the command.
const STAGE: &str = "train";

/// Runs the command.
pub(crate) fn run(global: &Global, args: TrainArgs) -> Result<ExitCode> {
    match &args.job {
        Some(path) => do_job(path),
        None if args.verify_resume => verify_resume(global, args),
        None => train(global, args.stage),
    }
}

/// Runs the stage, from the model on that the configuration names.
fn train(global: &Global, mut args: StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let (mut value, place) = stage::settings(&args, &[])?;
    models::with_base(&app, &mut value, &place, &mut args)?;
    datasets::with_named(&app, &mut value, &mut args)?;
    let outcome = stage::execute(&app, kind, value, &place, &args)?;
    stage::show(&app, global, &outcome)
}

/// Kills and resumes a short run of the configuration that was typed, and compares it with an undisturbed one.
fn verify_resume(global: &Global, mut args: TrainArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let (mut value, place) = stage::settings(&args.stage, &[])?;
    models::with_base(&app, &mut value, &place, &mut args.stage)?;
    datasets::with_named(&app, &mut value, &mut args.stage)?;
    let config: nexa_train::Config = config::from_value(value, &place)?;
    let inputs = stage::inputs(&app, kind, &args.stage.inputs, true)?;
    for (_, artifact) in inputs.iter() {
        artifact.verify()?;
    }
    let inputs = Inputs::of(&config, &inputs, &app.lab)?;

    const NAME: &str = "verify-resume";
    let _lock = run::lock(&app.lab, NAME, "the verification of resuming", false)?;
    let folder = app.lab.state_folder().join(NAME);
    let program = std::env::current_exe()?;
    let launch = |job: &Path| {
        let mut command = Command::new(&program);
        command.arg(STAGE).arg("--job").arg(job);
        command
    };
    let trial = Trial {
        config: &config,
        inputs: &inputs,
        tables: &app.tables,
        folder: &folder,
        steps: args.verify_steps,
        breaks_restore: args.break_restore,
    };
    let sink = app.screen.sink(NAME);
    let report = verify::resume(&trial, &launch, &sink, &app.cancel).map_err(reported)?;
    let facts = format!("{} steps, killed after micro-batch {}", report.steps, report.killed_after);
    if !report.comparison.is_identical() {
        let text = format!("the resumed run is not the undisturbed one ({facts}): {}", report.comparison);
        return Err(reported(Error::NotIdentical(text)));
    }
    files::remove(&folder)?;
    render::note(&format!("weights, optimizer, progress and metrics of {facts}"));
    render::out("identical");
    Ok(ExitCode::Success)
}

/// What the process does that is killed, and the one that goes on after it.
fn do_job(path: &Path) -> Result<ExitCode> {
    let job = Job::read(path).map_err(reported)?;
    let announce = || render::out(verify::PAUSED);
    job.run(&announce, &FileTables, &NoEvents, &Cancel::default()).map_err(reported)?;
    Ok(ExitCode::Success)
}
