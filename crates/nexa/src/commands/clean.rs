//! `nexa data score`, `clean` and `thresholds`: measure once, judge as often as wanted.

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::{Error, ExitCode, config};
use nexa_data::clean::{self, Config, DATASET_ROLE, Flips, SCORES_ROLE, Thresholds};

use crate::app::App;
use crate::args::{Global, StageArgs, ThresholdsArgs};
use crate::commands::data::newest_not_by;
use crate::commands::stage;
use crate::render::{self, error::reported, table};
use crate::stages;

/// The stage whose results are not cleaned once more unless that was asked for.
const CLEAN: &str = "data.clean";

/// Measures a data set; by default the newest that is not itself the result of cleaning.
pub(crate) fn score(global: &Global, mut args: StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    if !names(&args, DATASET_ROLE)
        && let Some(newest) = newest_not_by(&app, Kind::Dataset, CLEAN)?
    {
        render::note(&format!("using {} as {DATASET_ROLE}", newest.id()));
        args.inputs.push(format!("{DATASET_ROLE}={}", newest.id()));
    }
    make(&app, global, "data.score", &args)
}

/// Cleans the data set that the scores belong to, unless another is named.
pub(crate) fn run(global: &Global, mut args: StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    if !names(&args, DATASET_ROLE) {
        let project = app.project()?;
        let named = args.inputs.iter().find_map(|input| input.strip_prefix("scores="));
        let scores = match named {
            Some(name) => app.store().resolve(project.name(), name)?,
            None => app.store().latest(project.name(), Kind::Scores)?,
        };
        if named.is_none() {
            render::note(&format!("using {} as {SCORES_ROLE}", scores.id()));
            args.inputs.push(format!("{SCORES_ROLE}={}", scores.id()));
        }
        let dataset = parent(&scores, DATASET_ROLE)?;
        render::note(&format!("using {dataset} as {DATASET_ROLE}"));
        args.inputs.push(format!("{DATASET_ROLE}={dataset}"));
    }
    make(&app, global, CLEAN, &args)
}

/// Runs the stage of a name, whose inputs are all named by now.
fn make(app: &App, global: &Global, uses: &str, args: &StageArgs) -> Result<ExitCode> {
    let kind = stages::find(uses).context("the command names a stage that exists")?;
    let (value, place) = stage::settings(args, &[])?;
    let outcome = stage::execute(app, kind, value, &place, args)?;
    stage::show(app, global, &outcome)
}

fn names(args: &StageArgs, role: &str) -> bool {
    args.inputs.iter().any(|input| input.split_once('=').is_some_and(|(named, _)| named == role))
}

fn parent<'a>(artifact: &'a Artifact, role: &str) -> Result<&'a str> {
    let found = artifact.manifest.parents.iter().find(|parent| parent.role == role);
    Ok(found.map(|parent| parent.id.as_str()).ok_or_else(|| Error::NotFound {
        what: "parent",
        name: format!("{role} of {}", artifact.id()),
        hint: None,
    })?)
}

/// Compares the thresholds in use with those that were given.
pub(crate) fn thresholds(global: &Global, args: &ThresholdsArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.project()?;
    let artifact = match &args.artifact {
        Some(name) => app.store().resolve(project.name(), name)?,
        None => app.store().latest(project.name(), Kind::Scores)?,
    };
    let (scores, before) = if artifact.manifest.producer.stage == CLEAN {
        let scores = app.store().resolve(project.name(), parent(&artifact, SCORES_ROLE)?)?;
        let place = artifact.manifest_path().display().to_string();
        let own: Config = config::from_value(artifact.manifest.producer.config.clone(), &place)?;
        (scores, own.thresholds())
    } else {
        artifact.expect_kind(Kind::Scores)?;
        (artifact, Thresholds::default())
    };
    let before = before.resolve("thresholds").map_err(reported)?;
    let mut value = serde_json::to_value(&before)?;
    config::apply_overrides(&mut value, &args.set)?;
    let after: Thresholds = config::from_value(value, "--set")?;
    let after = after.resolve("--set").map_err(reported)?;
    let flips = clean::flips(&scores, &before, &after, args.limit).map_err(reported)?;
    if global.json {
        render::json(&flips)?;
    } else {
        show(&flips);
    }
    Ok(ExitCode::Success)
}

fn show(flips: &Flips) {
    render::note(&format!(
        "of {} rows {} are kept, {} would be; {} change sides",
        table::count(flips.rows),
        table::count(flips.kept_before),
        table::count(flips.kept_after),
        table::count(flips.flipped),
    ));
    let rows: Vec<Vec<String>> = flips
        .first
        .iter()
        .map(|flip| {
            let now = if flip.kept { "kept" } else { "rejected" };
            vec![flip.id.clone(), now.to_owned(), flip.gate.to_owned(), flip.reason.clone()]
        })
        .collect();
    if !rows.is_empty() {
        render::out(&table::table(&["id", "would be", "gate", "reason"], &rows));
    }
}
