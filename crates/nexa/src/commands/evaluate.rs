//! `nexa evaluate`: evaluates a checkpoint, holds evaluations against others, lists the tasks, or reports on an evaluation.

mod against;
mod compare;
mod reconcile;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::stage::Outcome;
use nexa_core::{Error, ExitCode};
use nexa_eval::evaluation::of_checkpoint;
use nexa_eval::task::Task;
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{EvaluateArgs, EvaluateCommand, Global};
use crate::commands::stage;
use crate::models;
use crate::render::{self, error::reported, table};
use crate::stages;

use against::Base;

/// The word of the stage.
const STAGE: &str = "evaluate";

/// Evaluates the checkpoint that was named or the newest one, by the tasks that were named or on the newest SFT data; or
/// compares what was evaluated.
pub(crate) fn run(global: &Global, args: EvaluateArgs) -> Result<ExitCode> {
    match &args.command {
        Some(EvaluateCommand::Reconcile(args)) => return reconcile::run(global, args),
        Some(EvaluateCommand::Report(args)) => return report::run(global, args),
        None => {}
    }
    if let Some(names) = args.compare.as_deref() {
        return compare::run(global, names);
    }
    if args.list_tasks {
        return list_tasks(global, &args.include_path);
    }
    let app = App::open(global)?;
    // That there is nothing to hold it against is told before anything is asked.
    let base = args.fail_if_worse.as_deref().map(|name| Base::find(&app, name)).transpose()?;
    if let Some(name) = &args.evaluation {
        let evaluation = evaluation(&app, name)?;
        return base.map_or(Ok(ExitCode::Success), |base| base.hold(&app, global, &evaluation));
    }
    let outcome = evaluate(&app, args)?;
    let Some(base) = base else { return stage::show(&app, global, &outcome) };
    if !global.json {
        stage::show(&app, global, &outcome)?;
    }
    base.hold(&app, global, outcome.artifact())
}

/// Runs the stage with what was typed.
fn evaluate(app: &App, args: EvaluateArgs) -> Result<Outcome> {
    let settings = settings(&args)?;
    let mut typed = args.stage;
    if let Some(checkpoint) = args.checkpoint {
        typed.inputs.push(format!("checkpoint={checkpoint}"));
    }
    if let Some(model) = &args.model {
        typed.inputs.push(format!("checkpoint={}", models::api(app, model)?.id()));
    }
    if let Some(name) = args.versus {
        typed.inputs.push(format!("versus={}", whole(app, &name)?.id()));
    }
    let kind = stages::find(STAGE).context("the command names a stage that exists")?;
    let (value, place) = stage::settings(&typed, &settings)?;
    typed.takes_newest = Some(is_over_held_out_split(&value));
    stage::execute(app, kind, value, &place, &typed)
}

/// Whether a configuration asks for a task over a held-out split, which needs a data set; it does where it names none.
fn is_over_held_out_split(value: &Value) -> bool {
    let Some(tasks) = value["tasks"].as_array() else { return true };
    tasks.iter().filter_map(Value::as_str).any(|name| Task::named(name).is_some())
}

/// The settings that options stand for.
fn settings(args: &EvaluateArgs) -> Result<Vec<String>> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: Value| settings.push(format!("{key}={value}"));
    if !args.tasks.is_empty() {
        set("tasks", json!(args.tasks));
    }
    if !args.include_path.is_empty() {
        set("include_path", json!(args.include_path));
    }
    if let Some(count) = args.num_fewshot {
        set("num_fewshot", json!(count));
    }
    if let Some(limit) = args.limit {
        set("limit", json!(limit));
    }
    if let Some(rate) = args.stop_when_decided {
        set("stop_when_decided", json!(rate));
    }
    if args.apply_chat_template {
        set("apply_chat_template", json!(true));
    }
    if let Some(multiturn) = args.fewshot_as_multiturn {
        set("fewshot_as_multiturn", json!(multiturn));
    }
    if let Some(instruction) = &args.system_instruction {
        set("system_instruction", json!(instruction));
    }
    for text in &args.data {
        let (task, path) = text.split_once('=').ok_or_else(|| {
            Error::config("command line", format!("`--data {text}` is not of the form TASK=PATH"))
        })?;
        set(&format!("data.{task}"), json!(path));
    }
    Ok(settings)
}

/// Lists what can be named as a task.
fn list_tasks(global: &Global, include_path: &[PathBuf]) -> Result<ExitCode> {
    // What is built in can be listed without a lab too.
    let root = match App::open(global) {
        Ok(app) => app.lab.root().to_owned(),
        Err(_) => std::env::current_dir()?,
    };
    let names = nexa_eval::harness::names(&root, include_path).map_err(reported)?;
    if global.json {
        let entry = |(name, kind): &(String, &str)| json!({"name": name, "kind": kind});
        render::json(&names.iter().map(entry).collect::<Vec<_>>())?;
    } else {
        let rows: Vec<Vec<String>> =
            names.into_iter().map(|(name, kind)| vec![name, kind.to_owned()]).collect();
        render::out(&table::table(&["name", "kind"], &rows));
    }
    Ok(ExitCode::Success)
}

/// The evaluation that was named, or the newest one of the model that was named.
fn evaluation(app: &App, name: &str) -> Result<Artifact> {
    Ok(evaluations(app, name)?.remove(0))
}

/// The evaluation that was named, or the newest one of the model that was named, of those that did not stop when something
/// was decided.
fn whole(app: &App, name: &str) -> Result<Artifact> {
    let is_whole = |one: &Artifact| !one.manifest.summary.contains_key("versus");
    evaluations(app, name)?.into_iter().find(is_whole).ok_or_else(|| {
        let hint = "those that there are stopped when it was decided, and so tell nothing to decide against; make one \
                    without `--stop-when-decided`";
        let name = format!("of {name} that asked all documents");
        Error::NotFound { what: "evaluation", name, hint: Some(hint.to_owned()) }.into()
    })
}

/// The evaluation that was named, or those of the model that was named, the newest first; there is one at least.
fn evaluations(app: &App, name: &str) -> Result<Vec<Artifact>> {
    let project = app.project()?;
    let artifact = app.store().resolve(project.name(), name)?;
    if !matches!(artifact.manifest.kind, Kind::Checkpoint | Kind::ApiModel) {
        artifact.expect_kind(Kind::Evaluation)?;
        return Ok(vec![artifact]);
    }
    let found = of_checkpoint(&app.store(), project.name(), &artifact).map_err(reported)?;
    if found.is_empty() {
        let id = artifact.id();
        let hint = Some(format!("`nexa evaluate --checkpoint {id}` makes one"));
        return Err(Error::NotFound { what: "evaluation", name: format!("of {id}"), hint }.into());
    }
    Ok(found)
}
