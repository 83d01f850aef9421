//! `nexa distill collect`: asks before it spends, names the teacher as an input where that is a checkpoint, and stops
//! batches.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use nexa_core::event::NoEvents;
use nexa_core::stage::{self as core_stage, Inputs, Request};
use nexa_core::{Error, ExitCode, config};
use nexa_distill::collect::Collect;
use serde_json::{Value, json};

use super::stage;
use crate::app::App;
use crate::args::{CollectArgs, Global, StageArgs};
use crate::models;
use crate::render::{self, error::reported};
use crate::stages;

/// The stage behind the command.
const STAGE: &str = "distill.collect";
/// What begins the name of a teacher that is a checkpoint.
const LOCAL: &str = "local:";
/// Above so many US dollars somebody is asked, where `nexa.yaml` says nothing.
const CONFIRM_ABOVE_USD: f64 = 1.0;

/// Runs the command.
pub(crate) fn run(global: &Global, args: CollectArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let mut stage_args = args.stage.clone();
    if let Some(inputs) = &args.inputs_from {
        stage_args.inputs.push(format!("inputs={inputs}"));
    }
    let (mut value, place) = stage::settings(&stage_args, &overrides(&args))?;
    name_local_teacher(&app, &mut value, &mut stage_args)?;
    if args.cancel_batches {
        return cancel(&app, value, &place, &stage_args);
    }
    let may_ask = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if may_ask && !confirm(&app, value.clone(), &place, &mut stage_args)? {
        return Ok(ExitCode::Interrupted);
    }
    let outcome = stage::execute(&app, kind, value, &place, &stage_args)?;
    stage::show(&app, global, &outcome)
}

/// The options of the command as settings of the stage.
fn overrides(args: &CollectArgs) -> Vec<String> {
    // Overrides are read as YAML; a text that holds colons or hashes must be quoted there.
    let teacher = args.teacher.as_ref().map(|teacher| format!("teacher={}", json!(teacher)));
    let limit = args.limit.map(|limit| format!("limit={limit}"));
    let cost = args.max_cost.map(|usd| format!("max_cost_usd={usd}"));
    let tokens = args.max_tokens.map(|tokens| format!("max_total_tokens={tokens}"));
    let batch = args.batch.then(|| "batch=true".to_owned());
    [teacher, limit, cost, tokens, batch].into_iter().flatten().collect()
}

/// Turns `local:CHECKPOINT` into an input with the role `teacher`: inputs are known by their content.
pub(super) fn name_local_teacher(app: &App, value: &mut Value, args: &mut StageArgs) -> Result<()> {
    let Some(named) = value.get("teacher").and_then(Value::as_str).and_then(|t| t.strip_prefix(LOCAL)) else {
        return Ok(());
    };
    let artifact = models::checkpoint(app, named)?;
    render::note(&format!("using {} as teacher", artifact.id()));
    args.inputs.push(format!("teacher={}", artifact.id()));
    value["teacher"] = json!("local");
    Ok(())
}

/// The stage with its inputs, which stand in the arguments by their ids from then on.
fn prepare(app: &App, value: Value, place: &str, args: &mut StageArgs) -> Result<(Collect, Inputs)> {
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let collect = Collect::new(config::from_value(value, place)?, &app.environment).map_err(reported)?;
    let inputs = stage::inputs(app, kind, &args.inputs, true)?;
    args.inputs = inputs.iter().map(|(role, artifact)| format!("{role}={}", artifact.id())).collect();
    Ok((collect, inputs))
}

/// Asks whether to go on where that may cost much, or nobody knows how much.
fn confirm(app: &App, value: Value, place: &str, args: &mut StageArgs) -> Result<bool> {
    let (collect, inputs) = prepare(app, value, place, args)?;
    if collect.is_free() {
        return Ok(true);
    }
    let forecast = collect.forecast(&app.lab, &app.tables, &inputs).map_err(reported)?;
    if !forecast.exceeds(app.lab.settings().budget.confirm_above_usd.unwrap_or(CONFIRM_ABOVE_USD)) {
        return Ok(true);
    }
    render::note(&format!("{forecast}; go on? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Stops the batches of the unfinished run.
fn cancel(app: &App, value: Value, place: &str, args: &StageArgs) -> Result<ExitCode> {
    let mut args = args.clone();
    let (collect, inputs) = prepare(app, value, place, &mut args)?;
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let name = args.output.clone().unwrap_or_else(|| kind.artifact_name(&inputs));
    let project = app.project()?;
    let request = Request { project: &project, name: &name, inputs: &inputs, force: false };
    let run = core_stage::unfinished_run(&collect, &app.services(&NoEvents), &request)?;
    let run = run.ok_or_else(|| Error::NotFound {
        what: "unfinished run",
        name: name.clone(),
        hint: Some(
            "batches are stopped by the command that handed them in, with `--cancel-batches`".to_owned(),
        ),
    })?;
    let cancelled = collect.cancel_batches(&app.environment, &run).map_err(reported)?;
    render::note(&format!("batches stopped: {}", cancelled.len()));
    cancelled.iter().for_each(|batch| render::out(batch));
    Ok(ExitCode::Success)
}
