//! The data sets that a training configuration names.

use std::path::Path;

use anyhow::{Context, Result};
use nexa_core::Error;
use nexa_core::artifact::Artifact;
use nexa_core::stage::Outcome;
use serde_json::{Value, json};

use crate::app::App;
use crate::args::StageArgs;
use crate::commands::stage;
use crate::models::artifact_name;
use crate::render;
use crate::stages;

/// The role of data sets.
const ROLE: &str = "sft_dataset";
/// The keys of an entry that name a data set.
const NAMES: [&str; 2] = ["path", "name"];

/// Makes inputs of the data sets that `datasets` names: artifacts of the lab, else files, which are ingested by the stage
/// `data.ingest` and up to date the second time. What is typed with `--in` stands over the configuration.
pub(crate) fn with_named(app: &App, value: &mut Value, args: &mut StageArgs) -> Result<()> {
    let is_data = |input: &String| input.split_once('=').is_some_and(|(role, _)| role.starts_with(ROLE));
    if args.inputs.iter().any(is_data) {
        return Ok(());
    }
    for name in names(value) {
        let Some(artifact) = find(app, name)? else { continue };
        let id = artifact.id().to_string();
        render::note(&format!("using {id} as {ROLE}"));
        args.inputs.push(format!("{ROLE}={id}"));
        // A file is known by what became of it from here on.
        *name = id;
    }
    Ok(())
}

/// Finds a data set. What is neither an artifact nor a file is left to the stage, which knows what its data is called.
fn find(app: &App, named: &str) -> Result<Option<Artifact>> {
    let project = app.project()?;
    match app.store().resolve(project.name(), named) {
        Err(Error::NotFound { .. }) if Path::new(named).is_file() => Ok(Some(ingest(app, named)?)),
        Err(Error::NotFound { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

fn ingest(app: &App, file: &str) -> Result<Artifact> {
    let path = Path::new(file);
    let path = path.canonicalize().map_err(|error| Error::io("read", path, error))?;
    let kind = stages::find("data.ingest").context("the stage of the command exists")?;
    let args = StageArgs { output: Some(artifact_name(file)), ..StageArgs::default() };
    let value = json!({ "paths": [path.display().to_string()] });
    let outcome = stage::execute(app, kind, value, "command line", &args)?;
    if let Outcome::Made(artifact) = &outcome {
        render::note(&format!("ingested {file} as {}", artifact.id()));
    }
    Ok(outcome.artifact().clone())
}

/// The names in `datasets`, in their order.
fn names(value: &mut Value) -> impl Iterator<Item = &mut String> {
    let entries = value.get_mut("datasets").and_then(Value::as_array_mut).into_iter().flatten();
    entries.filter_map(|entry| {
        let (_, named) = entry.as_object_mut()?.iter_mut().find(|(key, _)| NAMES.contains(&key.as_str()))?;
        match named {
            Value::String(name) => Some(name),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_their_order_in_either_spelling() {
        let check = |mut value: Value, expected: &[&str]| {
            assert_eq!(names(&mut value).collect::<Vec<_>>(), expected);
        };
        check(json!({}), &[]);
        check(json!({"datasets": 3}), &[]);
        let entries = json!([{"name": "b", "weight": 1}, {"type": "text"}, {"path": "a_v1"}, {"path": 3}]);
        check(json!({ "datasets": entries }), &["b", "a_v1"]);
    }
}
