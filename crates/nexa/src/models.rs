//! The models that people name, wherever they lie: the one place that knows every way to name one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::stage::Outcome;
use nexa_core::{Error, config};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::StageArgs;
use crate::commands::stage;
use crate::render;
use crate::stages;

/// Begins the name of a repository of the Hugging Face hub.
const HUB: &str = "hf:";
/// The file by which a folder of adapters is known.
const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The keys that name the model to go on from, as several trainers spell them.
const BASE_KEYS: [&str; 2] = ["base_model", "model_name_or_path"];
/// The role of that model.
const BASE_ROLE: &str = "base";

/// Finds a model: an artifact of the lab, else a folder, a `.gguf` file or `hf:organisation/name`, which is imported by
/// the stage `model.import` and up to date the second time.
pub(crate) fn checkpoint(app: &App, named: &str) -> Result<Artifact> {
    if !named.starts_with(HUB) {
        match app.store().resolve(app.project()?.name(), named) {
            Err(Error::NotFound { .. }) if Path::new(named).exists() => {}
            found => {
                let artifact = found?;
                artifact.expect_kind(Kind::Checkpoint)?;
                return Ok(artifact);
            }
        }
    }
    let outcome = import(app, named, None, false)?;
    if let Outcome::Made(artifact) = &outcome {
        render::note(&format!("imported {named} as {}", artifact.id()));
    }
    Ok(outcome.artifact().clone())
}

/// Finds the folder of adapters: that of an artifact of the lab which was trained with some, else any folder.
pub(crate) fn adapter(app: &App, named: &str) -> Result<PathBuf> {
    let path = Path::new(named);
    match app.store().resolve(app.project()?.name(), named) {
        Err(Error::NotFound { .. }) if path.exists() => {}
        // The path of a file or folder inside an artifact names that one alone.
        Ok(_) if path.join(ADAPTER_CONFIG).is_file() => {}
        found => {
            let artifact = found?;
            artifact.expect_kind(Kind::Checkpoint)?;
            artifact.verify()?;
            return Ok(artifact.path().join(nexa_model::ADAPTER_FOLDER));
        }
    }
    Ok(path.canonicalize().map_err(|e| Error::io("read", path, e))?)
}

/// Runs the stage `model.import` on a folder, a file or a repository of the hub.
pub(crate) fn import(app: &App, named: &str, name: Option<String>, force: bool) -> Result<Outcome> {
    let source = if named.starts_with(HUB) {
        named.to_owned()
    } else {
        let path = Path::new(named);
        path.canonicalize().map_err(|e| Error::io("read", path, e))?.display().to_string()
    };
    let name = name.unwrap_or_else(|| artifact_name(&source));
    let kind = stages::find("model.import").context("the stage of the command exists")?;
    let args = StageArgs { output: Some(name), force, ..StageArgs::default() };
    stage::execute(app, kind, json!({ "source": source }), "command line", &args)
}

/// Finds a model behind an API, which the stage `model.api` names; it is up to date the second time.
pub(crate) fn api(app: &App, named: &str) -> Result<Artifact> {
    let kind = stages::find("model.api").context("the stage of the command exists")?;
    // Of a URL the model's name is enough; a provider may have models of the same name as another, and the lab a checkpoint.
    let name = named.split_once('#').map_or(named, |(_, model)| model);
    let args = StageArgs { output: Some(format!("api_{}", letters(name))), ..StageArgs::default() };
    let outcome = stage::execute(app, kind, json!({ "model": named }), "command line", &args)?;
    Ok(outcome.artifact().clone())
}

/// The name of a file, a folder or a repository, in the letters that artifacts may have.
pub(crate) fn artifact_name(source: &str) -> String {
    let path = Path::new(source);
    let name = match source.strip_prefix(HUB) {
        Some(repository) => repository.split('@').next().and_then(|id| id.rsplit('/').next()).map(Into::into),
        None if path.is_dir() => path.file_name().map(ToOwned::to_owned),
        None => path.file_stem().map(ToOwned::to_owned),
    };
    letters(&name.unwrap_or_default().to_string_lossy())
}

fn letters(name: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    name.chars().map(letter).collect::<String>().trim_matches('_').to_owned()
}

/// Takes `base_model` out of a training configuration: it names an input, and inputs are known by their content.
pub(crate) fn take_base_model(value: &mut Value, place: &str) -> Result<Option<String>, Error> {
    let Some(map) = value.as_object_mut() else { return Ok(None) };
    let given: Vec<(&str, Value)> =
        BASE_KEYS.into_iter().filter_map(|key| Some((key, map.remove(key)?))).collect();
    match given.as_slice() {
        [] | [(_, Value::Null)] => Ok(None),
        [(_, Value::String(named))] => Ok(Some(named.clone())),
        [(key, _)] => Err(Error::config(place, format!("`{key}` is not the name of a model"))),
        _ => Err(Error::config(place, format!("`{}` say the same thing twice", BASE_KEYS.join("` and `")))),
    }
}

/// Turns the model to go on from, given as `base_model` or as `--in base=…`, into an artifact with the role `base`.
/// What is typed for the role stands over the configuration.
pub(crate) fn with_base(app: &App, value: &mut Value, place: &str, args: &mut StageArgs) -> Result<()> {
    let configured = take_base_model(value, place)?;
    let is_base = |input: &String| input.split_once('=').is_some_and(|(role, _)| role == BASE_ROLE);
    let base = match args.inputs.iter().position(is_base) {
        Some(position) => args.inputs.remove(position).split_once('=').map(|(_, named)| named.to_owned()),
        None => configured,
    };
    if let Some(named) = base {
        let artifact = checkpoint(app, &named)?;
        render::note(&format!("using {} as {BASE_ROLE}", artifact.id()));
        args.inputs.push(format!("{BASE_ROLE}={}", artifact.id()));
    }
    Ok(())
}

/// Refuses `base_model` in a pipeline, whose inputs are its graph.
pub(crate) fn refuse_base_model(with: &Value, stage: &str, place: &str) -> Result<(), Error> {
    let Some(key) = BASE_KEYS.into_iter().find(|key| with.get(key).is_some()) else { return Ok(()) };
    let message = format!(
        "stage `{stage}`: `{key}` has no place in a pipeline: say `in: {{{BASE_ROLE}: …}}`, with a checkpoint or with a \
         stage `uses: model.import, with: {{source: …}}` that imports the model"
    );
    Err(Error::config(place, message))
}

/// Reads a training configuration that may name a model to go on from, which is returned apart.
pub(crate) fn training_config(mut value: Value, place: &str) -> Result<(nexa_train::Config, Option<String>)> {
    let base = take_base_model(&mut value, place)?;
    Ok((config::from_value(value, place)?, base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_named_for_what_they_come_from() {
        let check = |source: &str, expected: &str| assert_eq!(artifact_name(source), expected);
        check("raw/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2_135m_instruct_q4_1");
        check("_model.gguf", "model");
        check("hf:org/Tiny-1.5B", "tiny_1_5b");
        check("hf:org/Tiny@v1.0", "tiny");
    }

    #[test]
    fn a_base_model_is_taken_out_of_the_configuration() {
        let check = |mut value: Value, expected: Result<Option<&str>, &str>| {
            let taken = take_base_model(&mut value, "c.yaml").map_err(|error| error.to_string());
            match (taken, expected) {
                (Ok(taken), Ok(expected)) => assert_eq!(taken.as_deref(), expected),
                (Err(error), Err(text)) => assert!(error.contains(text), "{error}"),
                (found, _) => panic!("{found:?}"),
            }
            assert!(value.get("base_model").is_none());
        };
        check(json!({ "seed": 1 }), Ok(None));
        check(json!({ "base_model": null }), Ok(None));
        check(json!({ "base_model": "hf:a/b" }), Ok(Some("hf:a/b")));
        check(json!({ "model_name_or_path": "m" }), Ok(Some("m")));
        check(json!({ "base_model": 3 }), Err("`base_model` is not the name of a model"));
        check(json!({ "base_model": "a", "model_name_or_path": "b" }), Err("twice"));
    }
}
