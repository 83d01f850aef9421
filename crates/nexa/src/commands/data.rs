//! `nexa data`: what data sets there are, what they hold, and whether they are still what they were.

use anyhow::Result;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::{Diagnose, ExitCode};
use nexa_data::catalog::{self, Page};

use crate::app::App;
use crate::args::{DataCommand, Global, SiftArgs};
use crate::commands::{checkout, clean, convention, diff, facts, gc, inspect, query, stage, statistics, tag};
use crate::render::{self, error::reported, table};
use crate::stages::SIFTED;

/// The widest cell of `nexa data show`; JSON shows everything.
const CELL_CHARACTERS: usize = 60;

/// Runs one of the commands on data.
pub(crate) fn run(global: &Global, command: DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::Ingest(args) => convention::ingest(global, &args),
        DataCommand::Dedup(args) => sift(global, "data.dedup", args),
        DataCommand::Decontaminate(args) => sift(global, "data.decontaminate", args),
        DataCommand::Split(args) => sift(global, "data.split", args),
        DataCommand::Score(args) => clean::score(global, args),
        DataCommand::Clean(args) => clean::run(global, args),
        DataCommand::Thresholds(args) => clean::thresholds(global, &args),
        DataCommand::List => list(global),
        DataCommand::Show { artifact, facts: true, .. } => facts::run(global, &artifact),
        DataCommand::Show { artifact, file, offset, limit, contains, facts: false } => {
            let page = Page { file: file.as_deref(), offset, limit, contains: contains.as_deref() };
            show(global, &artifact, &page)
        }
        DataCommand::Diff(args) => diff::run(global, &args),
        DataCommand::Tag(args) => tag::run(global, &args),
        DataCommand::Checkout { artifact, folder } => checkout::run(global, &artifact, &folder),
        DataCommand::Gc(args) => gc::run(global, &args),
        DataCommand::Inspect(args) => inspect::run(global, args),
        DataCommand::Verify { artifacts } => verify(global, &artifacts),
        DataCommand::Stats(args) => statistics::run(global, &args),
        DataCommand::Query(args) => query::run(global, &args),
    }
}

/// Runs a stage over the rows of any artifact that has such; it plays the role that is named for its kind.
fn sift(global: &Global, uses: &str, args: SiftArgs) -> Result<ExitCode> {
    let SiftArgs { from, mut stage } = args;
    let app = App::open(global)?;
    let is_source = |input: &String| {
        input.split_once('=').is_some_and(|(role, _)| SIFTED.iter().any(|known| known.name == role))
    };
    let source = match from {
        Some(name) => Some(resolve(&app, &name)?),
        None if stage.inputs.iter().any(is_source) => None,
        None => match newest_not_by(&app, Kind::Dataset, uses)? {
            Some(newest) => Some(newest),
            None => Some(app.store().latest(app.project()?.name(), Kind::Dataset)?),
        },
    };
    if let Some(source) = source {
        render::note(&format!("using {}", source.id()));
        stage.inputs.push(format!("{}={}", source.manifest.kind, source.id()));
    }
    stage::run_in(&app, global, uses, (&stage, &[]))
}

/// The newest artifact of a kind that a stage has not made itself, so that who repeats the stage makes nothing new.
pub(super) fn newest_not_by(app: &App, kind: Kind, stage: &str) -> Result<Option<Artifact>> {
    let artifacts = app.store().of_kind(app.project()?.name(), kind)?.into_iter();
    let others = artifacts.filter(|artifact| artifact.manifest.producer.stage != stage);
    Ok(others.max_by_key(|artifact| artifact.manifest.created_at))
}

fn list(global: &Global) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.named_project().or(app.lab.settings().project.as_deref());
    if let Some(project) = project {
        app.lab.project(project)?;
    }
    let entries = catalog::list_available_datasets(&app.lab, project).map_err(reported)?;
    if global.json {
        render::json(&entries)?;
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.to_string(),
                entry.category.to_string(),
                entry.rows.map(table::count).unwrap_or_default(),
                table::size(entry.bytes),
                entry.format.to_string(),
                entry.tags.join(", "),
                entry.created_at.format("%Y-%m-%d %H:%M").to_string(),
            ]
        })
        .collect();
    render::out(&table::table(&["data set", "kind", "rows", "size", "format", "tags", "made"], &rows));
    Ok(ExitCode::Success)
}

fn show(global: &Global, name: &str, page: &Page<'_>) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = resolve(&app, name)?;
    let rows = catalog::preview(&artifact, page).map_err(reported)?;
    if global.json {
        render::json(&rows)?;
        return Ok(ExitCode::Success);
    }
    let Some(first) = rows.first() else {
        render::note("no rows");
        return Ok(ExitCode::Success);
    };
    let head: Vec<&str> = first.keys().map(String::as_str).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| head.iter().map(|column| row.get(*column).map_or_else(String::new, cell)).collect())
        .collect();
    render::out(&table::table(&head, &cells));
    Ok(ExitCode::Success)
}

/// A value on one line, cut to a readable width.
pub(super) fn cell(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.replace('\n', "⏎"),
        other => other.to_string(),
    };
    if text.chars().count() <= CELL_CHARACTERS {
        return text;
    }
    text.chars().take(CELL_CHARACTERS - 1).chain(['…']).collect()
}

fn verify(global: &Global, names: &[String]) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifacts = if names.is_empty() {
        app.store().of_project(app.project()?.name())?
    } else {
        names.iter().map(|name| resolve(&app, name)).collect::<Result<_>>()?
    };
    let mut code = ExitCode::Success;
    let mut verdicts = Vec::new();
    for artifact in &artifacts {
        let error = artifact.verify().err();
        if let Some(error) = &error {
            code = error.exit_code();
        }
        verdicts.push(Verdict { id: artifact.id().to_string(), error: error.map(|error| error.to_string()) });
    }
    if global.json {
        render::json(&verdicts)?;
        return Ok(code);
    }
    for Verdict { id, error } in &verdicts {
        match error {
            None => render::out(&format!("{id}  unchanged")),
            Some(error) => render::note(&format!("error: {id}: {error}")),
        }
    }
    Ok(code)
}

/// Whether the files of an artifact are those of its manifest.
#[derive(serde::Serialize)]
struct Verdict {
    id: String,
    /// What differs, if anything does.
    error: Option<String>,
}

pub(super) fn resolve(app: &App, name: &str) -> Result<Artifact> {
    Ok(app.store().resolve(app.project()?.name(), name)?)
}
