//! `nexa lineage`: where an artifact or a row comes from, and what was made of it.

use std::path::Path;

use anyhow::Result;
use nexa_core::artifact::Artifact;
use nexa_core::{Error, ExitCode, lineage};
use nexa_data::receipt::{self, Asked, Reached, Source};

use crate::app::App;
use crate::args::{Global, LineageArgs};
use crate::commands::{data, receipt as receipts};
use crate::render::{self, error::reported, table};

/// Prints the tree of an artifact, the receipt of a row, or what either reached.
pub(crate) fn run(global: &Global, args: &LineageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.project()?;
    let within = args.within.as_deref().map(|name| data::resolve(&app, name)).transpose()?;
    let asked = Asked { project: project.name(), row: &args.name, within: within.as_ref() };
    // Whoever says where a row is asks for a row, even where an artifact has its name.
    let named = match &within {
        Some(_) => None,
        None => match app.store().resolve_id(project.name(), &args.name) {
            Ok(id) => Some(id),
            Err(error) if is_no_row(&app, args, &error) => return Err(error.into()),
            Err(_) => None,
        },
    };
    if args.reached {
        let artifact = named.map(|id| app.store().get(&id)).transpose()?;
        return reached(global, &app, &source(artifact.as_ref(), asked));
    }
    let Some(id) = named else { return receipts::run(global, &app, &asked) };
    let store = app.store();
    let tree =
        if args.children { lineage::descendants(&store, &id)? } else { lineage::ancestors(&store, &id)? };
    if global.json {
        render::json(&tree)?;
    } else {
        render::out(&tree.render());
    }
    Ok(ExitCode::Success)
}

/// Whether what was typed can only be an artifact, so that its absence is all there is to tell.
fn is_no_row(app: &App, args: &LineageArgs, error: &Error) -> bool {
    let Error::NotFound { what, name, .. } = error else { return true };
    // `name:tag` and `name@v9` lead to something else than was typed; an id of the project is one.
    let is_reference = *what == "tag" || *name != args.name;
    let is_id = app.project().is_ok_and(|project| args.name.starts_with(&format!("{}/", project.name())));
    args.children || is_reference || is_id
}

/// What is asked about: an artifact, a file, or else a row.
fn source<'a>(artifact: Option<&'a Artifact>, asked: Asked<'a>) -> Source<'a> {
    match artifact {
        Some(artifact) => Source::Artifact(artifact),
        None if asked.within.is_none() && Path::new(asked.row).is_file() => {
            Source::File(Path::new(asked.row))
        }
        None => Source::Row(asked),
    }
}

fn reached(global: &Global, app: &App, source: &Source<'_>) -> Result<ExitCode> {
    let Reached { source, artifacts } = receipt::reached(&app.store(), source).map_err(reported)?;
    if global.json {
        render::json(&Reached { source, artifacts })?;
        return Ok(ExitCode::Success);
    }
    render::note(&format!("{} reached {} artifacts", source, artifacts.len()));
    let count = |number: Option<u64>| number.map(table::count).unwrap_or_default();
    let rows: Vec<Vec<String>> = artifacts
        .iter()
        .map(|one| {
            let rejected = if one.rejected > 0 { table::count(one.rejected) } else { String::new() };
            vec![
                one.id.to_string(),
                one.kind.to_string(),
                one.stage.clone(),
                count(one.rows),
                count(one.of),
                rejected,
            ]
        })
        .collect();
    render::out(&table::table(&["artifact", "kind", "stage", "rows", "of", "rejected"], &rows));
    Ok(ExitCode::Success)
}
