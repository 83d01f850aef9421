//! `nexa evaluate`: evaluates a checkpoint, compares two, lists the tasks, or reports on an evaluation.

mod report;

use std::path::PathBuf;

use anyhow::Result;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::{Error, ExitCode};
use nexa_eval::compare::MetricComparison;
use nexa_eval::{Comparison, compare};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{EvaluateArgs, EvaluateCommand, Global};
use crate::commands::leaderboard::{decimal, p_value, percent};
use crate::commands::stage;
use crate::render::{self, error::reported, table};

/// How many items on which two models differ are shown; JSON shows all.
const SHOWN_ITEMS: usize = 3;

/// Evaluates the checkpoint that was named or the newest one, by the tasks that were named or on the newest SFT data; or
/// compares two.
pub(crate) fn run(global: &Global, args: EvaluateArgs) -> Result<ExitCode> {
    if let Some(EvaluateCommand::Report(args)) = &args.command {
        return report::run(global, args);
    }
    if let Some([a, b]) = args.compare.as_deref() {
        return compare_two(global, a, b);
    }
    if args.list_tasks {
        return list_tasks(global, &args.include_path);
    }
    let settings = settings(&args)?;
    let mut stage = args.stage;
    if let Some(checkpoint) = args.checkpoint {
        stage.inputs.push(format!("checkpoint={checkpoint}"));
    }
    stage::run(global, "evaluate", &stage, &settings)
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

fn compare_two(global: &Global, a: &str, b: &str) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (a, b) = (evaluation(&app, a)?, evaluation(&app, b)?);
    let comparison = compare(&a, &b, &app.tables).map_err(reported)?;
    if global.json {
        render::json(&comparison)?;
    } else {
        show(&comparison);
    }
    Ok(ExitCode::Success)
}

/// The evaluation that was named, or the newest one of the checkpoint that was named.
fn evaluation(app: &App, name: &str) -> Result<Artifact> {
    let project = app.project()?;
    let artifact = app.store().resolve(project.name(), name)?;
    if artifact.manifest.kind != Kind::Checkpoint {
        artifact.expect_kind(Kind::Evaluation)?;
        return Ok(artifact);
    }
    let id = artifact.id().to_string();
    let evaluations = app.store().of_kind(project.name(), Kind::Evaluation)?;
    let newest = evaluations
        .into_iter()
        .filter(|evaluation| evaluation.manifest.parents.iter().any(|parent| parent.id == id))
        .max_by_key(|evaluation| evaluation.manifest.created_at);
    newest.ok_or_else(|| {
        let hint = Some(format!("`nexa evaluate --checkpoint {id}` makes one"));
        Error::NotFound { what: "evaluation", name: format!("of {id}"), hint }.into()
    })
}

fn show(comparison: &Comparison) {
    let (a, b) = (&comparison.a.checkpoint, &comparison.b.checkpoint);
    let mut rows = Vec::new();
    if let Some(metric) = &comparison.exact_match {
        rows.push(row("exact match", metric, percent));
    }
    if let Some(metric) = &comparison.bits_per_byte {
        rows.push(row("bits per byte", metric, decimal));
    }
    for task in &comparison.tasks {
        let mut cells = row(&task.name.to_string(), &task.comparison, decimal);
        // Several metrics are tested at once, and the verdict goes by what that makes of the p-value.
        cells[5] = p_value(task.p_adjusted);
        rows.push(cells);
    }
    render::out(&table::table(
        &["metric", a, b, "difference", "95 % interval", "p", &format!("{a} is")],
        &rows,
    ));
    if let Some(outcomes) = &comparison.outcomes {
        render::out(&format!(
            "both right {}, only {a} {}, only {b} {}, neither {}",
            outcomes.both, outcomes.only_a, outcomes.only_b, outcomes.neither
        ));
    }
    for (name, items) in [(a, &comparison.only_a_right), (b, &comparison.only_b_right)] {
        for item in items.iter().take(SHOWN_ITEMS) {
            render::out(&format!("only {name}: {}  {}", item.id, render::error::one_line(&item.prompt)));
        }
    }
}

fn row(name: &str, metric: &MetricComparison, format: fn(f64) -> String) -> Vec<String> {
    let difference = &metric.difference;
    let interval = match (difference.ci_low, difference.ci_high) {
        (Some(low), Some(high)) => format!("{} to {}", format(low), format(high)),
        _ => "unknown".to_owned(),
    };
    vec![
        name.to_owned(),
        format(metric.a.value),
        format(metric.b.value),
        format(difference.value),
        interval,
        p_value(difference.p_value),
        metric.verdict.as_str().to_owned(),
    ]
}
