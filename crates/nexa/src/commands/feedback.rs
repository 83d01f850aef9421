//! `nexa feedback`: what an evaluated checkpoint fails at, and new prompts for a teacher that are aimed at it.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::stage::Outcome;
use nexa_core::{Error, ExitCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{FeedbackArgs, Global, StageArgs};
use crate::commands::stage;
use crate::render::{self, error};
use crate::stages::{self, StageKind};

/// The key under which the settings of `feedback.inputs` stand.
const INPUTS: &str = "inputs";
/// The role of the prompts that new ones are drawn from.
const POOL: &str = "pool";
/// The role of the data set that an evaluation is of.
const DATASET: &str = "sft_dataset";

/// Makes the feedback, and of it new teacher inputs where there are prompts to draw from.
pub(crate) fn run(global: &Global, args: FeedbackArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let find = |uses| stages::find(uses).context("the command names stages that exist");
    let (report, aimed) = (find("feedback")?, find("feedback.inputs")?);
    let (mut value, place) = stage::settings(&args.stage, &[])?;
    let settings = value.as_object_mut().and_then(|map| map.remove(INPUTS));

    // What neither stage knows is refused by the first.
    let inputs = typed(&args.stage, |role| report.role(role).is_some() || aimed.role(role).is_none());
    let inputs = with_dataset(&app, inputs)?;
    let made = stage::execute(&app, report, value, &place, &StageArgs { inputs, ..args.stage.clone() })?;
    if !global.json {
        stage::show(&app, global, &made)?;
    }
    let feedback = made.artifact();
    let sources = match args.report_only {
        true => None,
        false => sources(&app, feedback, &args, aimed)?,
    };
    let settings = (settings.unwrap_or_else(|| json!({})), format!("{place}, `{INPUTS}`"));
    let inputs = sources.map(|sources| aim(&app, aimed, settings, &sources)).transpose()?.flatten();
    if global.json {
        let manifest = |artifact: &Artifact| json!(artifact.manifest);
        let inputs = inputs.as_ref().map_or(Value::Null, |made| manifest(made.artifact()));
        render::json(&json!({"feedback": manifest(feedback), "teacher_inputs": inputs}))?;
    } else if let Some(inputs) = &inputs {
        stage::show(&app, global, inputs)?;
        render::note("next: nexa distill collect");
    }
    Ok(ExitCode::Success)
}

/// Adds the data set that the evaluation is of, whose training rows the report counts, where none was typed.
fn with_dataset(app: &App, mut inputs: Vec<String>) -> Result<Vec<String>> {
    if is_typed(&inputs, DATASET) {
        return Ok(inputs);
    }
    let (store, project) = (app.store(), app.project()?);
    let evaluation = match inputs.iter().find_map(|input| input.strip_prefix("evaluation=")) {
        Some(named) => store.resolve(project.name(), named)?,
        None => store.latest(project.name(), Kind::Evaluation)?,
    };
    let dataset = parent(&store, &evaluation, DATASET)?;
    inputs.extend(dataset.map(|dataset| format!("{DATASET}={}", dataset.id())));
    Ok(inputs)
}

/// Whether an input was typed for a role.
fn is_typed(inputs: &[String], role: &str) -> bool {
    inputs.iter().any(|input| input.split_once('=').is_some_and(|(typed, _)| typed == role))
}

/// What new prompts are made with.
struct Sources {
    args: StageArgs,
    /// Whether the pool was chosen here and not typed.
    is_default: bool,
}

/// Makes the prompts. Where none are left in a pool that nobody asked for, that is told and is no error.
fn aim(
    app: &App,
    kind: &'static StageKind,
    (settings, place): (Value, String),
    sources: &Sources,
) -> Result<Option<Outcome>> {
    match stage::execute(app, kind, settings, &place, &sources.args) {
        Err(error) if sources.is_default && is_exhausted(&error) => {
            render::note(&format!("no new teacher inputs: {error}"));
            render::note(
                "hint: name other prompts to draw from, `--in pool=NAME`; `nexa distill inputs` makes some",
            );
            Ok(None)
        }
        made => Ok(Some(made?)),
    }
}

/// Whether an error says that a pool has no prompt left.
fn is_exhausted(error: &anyhow::Error) -> bool {
    matches!(error::cause(error), Some(nexa_eval::Error::NothingToAsk { .. }))
}

/// The inputs that were typed for roles.
fn typed(args: &StageArgs, is_role: impl Fn(&str) -> bool) -> Vec<String> {
    let is_typed = |input: &&String| is_role(input.split_once('=').map_or(input.as_str(), |(role, _)| role));
    args.inputs.iter().filter(is_typed).cloned().collect()
}

/// Fills the roles that were not typed: the data set that was evaluated on, the prompts that it came from, and all
/// answers of the project. `None` where the data came from no prompts, or no item failed.
fn sources(
    app: &App,
    feedback: &Artifact,
    args: &FeedbackArgs,
    kind: &'static StageKind,
) -> Result<Option<Sources>> {
    if feedback.manifest.summary.get("clusters") == Some(&json!(0)) {
        render::note("no item failed, so there is nothing to aim prompts at");
        return Ok(None);
    }
    let store = app.store();
    let evaluation = parent(&store, feedback, "evaluation")?.context("a feedback has an evaluation")?;
    let dataset = parent(&store, &evaluation, DATASET)?;
    let mut inputs = typed(&args.stage, |role| kind.role(role).is_some());
    inputs.retain(|input| !input.starts_with("evaluation="));
    inputs.push(format!("feedback={}", feedback.id()));
    inputs.push(format!("evaluation={}", evaluation.id()));
    let mut name = args.inputs_output.clone();
    let is_default = !is_typed(&inputs, POOL);
    if is_default {
        let source = dataset.as_ref().map(|dataset| origin(&store, dataset)).transpose()?.flatten();
        let Some(pool) = source else {
            render::note("the data came from no teacher inputs: name some to draw from, `--in pool=NAME`");
            return Ok(None);
        };
        render::note(&format!("using {} as {POOL}", pool.id()));
        inputs.push(format!("{POOL}={}", pool.id()));
        name.get_or_insert_with(|| pool.id().name.clone());
    }
    if let Some(dataset) = dataset.filter(|_| !is_typed(&inputs, DATASET)) {
        inputs.push(format!("{DATASET}={}", dataset.id()));
    }
    if !is_typed(&inputs, "teacher_outputs") {
        let outputs = store.of_kind(app.project()?.name(), Kind::TeacherOutputs)?;
        inputs.extend(outputs.iter().map(|outputs| format!("teacher_outputs={}", outputs.id())));
    }
    let force = args.stage.force;
    let args = StageArgs { inputs, output: name, force, ..StageArgs::default() };
    Ok(Some(Sources { args, is_default }))
}

/// The prompts that a data set came from, through any rounds of feedback back to the first ones.
fn origin(store: &Store<'_>, dataset: &Artifact) -> Result<Option<Artifact>> {
    let mut open = VecDeque::from([dataset.clone()]);
    let mut seen = BTreeSet::new();
    while let Some(artifact) = open.pop_front() {
        if artifact.manifest.kind == Kind::TeacherInputs {
            match parent(store, &artifact, POOL)? {
                Some(pool) => open = VecDeque::from([pool]),
                None => return Ok(Some(artifact)),
            }
            continue;
        }
        for above in &artifact.manifest.parents {
            if seen.insert(above.id.clone()) {
                open.extend(present(store, &above.id)?);
            }
        }
    }
    Ok(None)
}

/// The input of a role that an artifact was made from, where it is still there.
pub(super) fn parent(store: &Store<'_>, artifact: &Artifact, role: &str) -> Result<Option<Artifact>> {
    let found = artifact.manifest.parents.iter().find(|parent| parent.role == role);
    found.map_or(Ok(None), |parent| present(store, &parent.id))
}

/// An artifact by the id in a manifest; `None` where it is gone, or a file.
fn present(store: &Store<'_>, id: &str) -> Result<Option<Artifact>> {
    let Ok(id) = id.parse::<ArtifactId>() else { return Ok(None) };
    match store.get(&id) {
        Err(Error::NotFound { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}
