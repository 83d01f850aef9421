//! `nexa judge`: has judges look at what models answered, holds the scores against a bound, and reports on verdicts.

mod report;
mod show;

use std::path::absolute;

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::stage::Outcome;
use nexa_core::{Error, ExitCode};
use nexa_eval::judge::Report;
use serde_json::{Value, json};

use super::stage;
use crate::app::App;
use crate::args::{Global, JudgeArgs, JudgeAskArgs, JudgeCommand, StageArgs};
use crate::render::{self, error::Reported};
use crate::{models, stages};

/// The stage behind the command.
const STAGE: &str = "distill.judge";
/// What begins the name of a judge that is a checkpoint.
const LOCAL: &str = "local:";

/// Runs the command.
pub(crate) fn run(global: &Global, args: &JudgeArgs) -> Result<ExitCode> {
    match &args.command {
        Some(JudgeCommand::Report(args)) => report::run(global, args),
        None => ask(global, &args.ask),
    }
}

/// `nexa distill judge`: the stage by its settings alone, on the newest answers of a teacher where nothing was named.
pub(crate) fn of_outputs(global: &Global, args: &StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let settings = stage::settings(args, &[])?;
    let outcome = execute(&app, args.clone(), settings, ("outputs", Kind::TeacherOutputs))?;
    stage::show(&app, global, &outcome)
}

fn ask(global: &Global, args: &JudgeAskArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let mut stage_args = args.stage.clone();
    for (role, named) in
        [("evaluation", &args.evaluation), ("versus", &args.versus), ("outputs", &args.outputs)]
    {
        stage_args.inputs.extend(named.iter().map(|named| format!("{role}={named}")));
    }
    let settings = stage::settings(&stage_args, &overrides(args)?)?;
    let outcome = execute(&app, stage_args, settings, ("evaluation", Kind::Evaluation))?;
    let found = report::of(&app, &[outcome.artifact().clone()], None, 0)?;
    if global.json {
        render::json(&json!({"verdicts": outcome.artifact().manifest, "report": found}))?;
    } else {
        stage::show(&app, global, &outcome)?;
        show::headlines(&found);
        render::note(&format!("next: nexa judge report {}", outcome.artifact().id()));
    }
    hold(&found, args.fail_below)
}

/// Runs the stage; where nothing that can be judged was named, on the newest artifact of a role.
fn execute(
    app: &App,
    mut args: StageArgs,
    (mut value, place): (Value, String),
    (role, kind): (&str, Kind),
) -> Result<Outcome> {
    name_local_judge(app, &mut value, &mut args)?;
    let stage = stages::find(STAGE).context("the command names a stage that exists")?;
    if !is_named(&args, "outputs") && !is_named(&args, "evaluation") {
        // What the settings lack is told before anything is looked for.
        (stage.build)(value.clone(), &place, &app.lab).map_err(Reported)?;
        let newest = app.store().latest(app.project()?.name(), kind)?;
        args.inputs.push(format!("{role}={}", newest.id()));
        render::note(&format!("using {} as {role}", newest.id()));
    }
    stage::execute(app, stage, value, &place, &args)
}

/// The options of the command as settings of the stage.
fn overrides(args: &JudgeAskArgs) -> Result<Vec<String>> {
    // Overrides are read as YAML; a text that holds colons or hashes must be quoted there.
    let judges = (!args.judges.is_empty()).then(|| format!("judges={}", json!(args.judges)));
    let rubric = match &args.rubric {
        // What is typed begins where it is typed, not in the lab.
        Some(file) => {
            Some(format!("rubric={}", json!(absolute(file).map_err(|e| Error::io("find", file, e))?)))
        }
        None => None,
    };
    let protocol = args.mt_bench.then(|| "protocol=mt_bench".to_owned());
    let samples = args.samples.map(|samples| format!("samples={samples}"));
    let limit = args.limit.map(|limit| format!("limit={limit}"));
    let cost = args.max_cost.map(|usd| format!("max_cost_usd={usd}"));
    Ok([judges, rubric, protocol, samples, limit, cost].into_iter().flatten().collect())
}

/// Whether an input was named for a role.
fn is_named(args: &StageArgs, role: &str) -> bool {
    args.inputs.iter().any(|input| input.split_once('=').is_some_and(|(named, _)| named == role))
}

/// Turns `local:CHECKPOINT` into an input with the role `teacher`: inputs are known by their content.
fn name_local_judge(app: &App, value: &mut Value, args: &mut StageArgs) -> Result<()> {
    let judges = value.get_mut("judges").and_then(Value::as_array_mut);
    for judge in judges.into_iter().flatten() {
        let Some(named) = judge.as_str().and_then(|judge| judge.strip_prefix(LOCAL)) else { continue };
        let artifact: Artifact = models::checkpoint(app, named)?;
        render::note(&format!("using {} as a judge", artifact.id()));
        args.inputs.push(format!("teacher={}", artifact.id()));
        *judge = json!("local");
    }
    Ok(())
}

/// Holds scores against a bound, says which do not, and gives the exit code for it.
///
/// # Errors
/// Fails where there is nothing to hold against it.
fn hold(report: &Report, fail_below: Option<f64>) -> Result<ExitCode> {
    let Some(bound) = fail_below else { return Ok(ExitCode::Success) };
    if report.means.is_empty() && report.win_rates.is_empty() {
        let message = "`--fail-below` has nothing to be held against: no verdict could be read";
        return Err(Error::config("command line", message).into());
    }
    let mut below: Vec<String> = report.below(bound).into_iter().map(show::mean_in_words).collect();
    if report.means.is_empty() {
        let rates = report.win_rates.iter().filter(|rate| rate.win_rate.value < bound);
        below.extend(rates.map(show::win_rate_in_words));
    }
    below.iter().for_each(|found| render::note(&format!("failed: {found}, which is below {bound}")));
    if below.is_empty() {
        render::note(&format!("passed: nothing is below {bound}"));
        return Ok(ExitCode::Success);
    }
    Ok(ExitCode::Failure)
}
