//! Commands that run one stage: `prepare-data`, `distill …`, `tokenizer train`, `train`, `evaluate`.

use anyhow::{Context, Result};
use nexa_core::stage::{self, Inputs, Outcome, Request};
use nexa_core::{Error, ExitCode, config};
use serde_json::Value;

use crate::app::App;
use crate::args::{Global, StageArgs};
use crate::render::{self, error::Reported};
use crate::stages::{self, StageKind};

/// Runs the stage of a name with what was typed, and `extra` overrides that stand for options of the command.
pub(crate) fn run(global: &Global, uses: &str, args: &StageArgs, extra: &[String]) -> Result<ExitCode> {
    run_in(&App::open(global)?, global, uses, (args, extra))
}

/// As [`run`], in a lab that is open.
pub(crate) fn run_in(
    app: &App,
    global: &Global,
    uses: &str,
    (args, extra): (&StageArgs, &[String]),
) -> Result<ExitCode> {
    let kind = stages::find(uses).context("the command names a stage that exists")?;
    let (value, place) = settings(args, extra)?;
    let outcome = execute(app, kind, value, &place, args)?;
    show(app, global, &outcome)
}

/// Resolves the inputs, says what it chose by itself, and runs the stage with a configuration; `place` is where that
/// was written.
pub(crate) fn execute(
    app: &App,
    kind: &'static StageKind,
    value: Value,
    place: &str,
    args: &StageArgs,
) -> Result<Outcome> {
    let project = app.project()?;
    let stage = (kind.build)(value, place, &app.lab).map_err(Reported)?;
    let takes_newest = args.takes_newest.unwrap_or_else(|| stage.outside_files().is_empty());
    let inputs = inputs(app, kind, &args.inputs, takes_newest)?;
    let name = args.output.clone().unwrap_or_else(|| kind.artifact_name(&inputs));
    let sink = app.screen.sink(&name);
    let services = app.services(&sink);
    let request = Request { project: &project, name: &name, inputs: &inputs, force: args.force };
    Ok(stage::execute(stage.as_ref(), &services, &request).map_err(Reported)?)
}

/// The configuration that was typed, and its place for errors.
pub(crate) fn settings(args: &StageArgs, extra: &[String]) -> Result<(Value, String)> {
    let (mut value, place) = match &args.config {
        Some(path) => (config::read_yaml(path)?, path.display().to_string()),
        None => (serde_json::json!({}), "command line".to_owned()),
    };
    config::apply_overrides(&mut value, &args.overrides)?;
    config::apply_overrides(&mut value, extra)?;
    Ok((value, place))
}

/// The inputs that were named, and for the other required roles the project's newest artifact of the kind.
pub(crate) fn inputs(
    app: &App,
    kind: &'static StageKind,
    named: &[String],
    takes_newest: bool,
) -> Result<Inputs> {
    let project = app.project()?;
    let mut inputs = Inputs::none();
    for text in named {
        let (role, reference) = text.split_once('=').ok_or_else(|| {
            Error::config("command line", format!("`--in {text}` is not of the form ROLE=ARTIFACT"))
        })?;
        let known = kind.role(role).ok_or_else(|| Error::UnknownKey {
            place: "command line".to_owned(),
            key: format!("--in {role}"),
            nearest: config::nearest(role, kind.roles.iter().map(|role| role.name))
                .map(|role| format!("--in {role}")),
        })?;
        let artifact = app.store().resolve(project.name(), reference)?;
        known.check(&artifact)?;
        if artifact.id().to_string() != reference {
            render::note(&format!("using {} as {role}", artifact.id()));
        }
        let role = if role == known.name { StageKind::next_role(known, &inputs) } else { role.to_owned() };
        inputs = inputs.with(&role, artifact);
    }
    // Whoever names what a stage can do without knows what it is to be given.
    let only_required = inputs.iter().all(|(role, _)| kind.role(role).is_some_and(|role| role.required));
    for role in kind.roles {
        let wanted = role.required || (role.by_default && takes_newest && only_required);
        if !wanted || inputs.get(role.name).is_some() {
            continue;
        }
        let artifact = app.store().latest(project.name(), role.kind)?;
        render::note(&format!("using {} as {}", artifact.id(), role.name));
        inputs = inputs.with(role.name, artifact);
    }
    Ok(inputs)
}

/// Tells what came out: the id on stdout, so that scripts can go on with it.
pub(crate) fn show(app: &App, global: &Global, outcome: &Outcome) -> Result<ExitCode> {
    let artifact = outcome.artifact();
    if global.json {
        render::json(&artifact.manifest)?;
    } else {
        let how = match outcome {
            Outcome::UpToDate(_) => "up to date",
            Outcome::Made(_) => "made",
        };
        render::note(&format!(
            "{how}: {} ({})",
            stages::facts(artifact),
            app.show(&artifact.manifest_path())
        ));
        render::out(&artifact.id().to_string());
    }
    Ok(ExitCode::Success)
}
