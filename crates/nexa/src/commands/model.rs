//! `nexa model info|import|export`: what a model is, into the lab, and out of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nexa_core::ExitCode;
use nexa_core::files;
use nexa_core::lm::LanguageModel;
use nexa_model::LocalModel;
use nexa_model::gguf::{self, FileType, Gguf, Value};
use serde_json::json;

use crate::app::App;
use crate::args::{ExportFormat, ExportType, Global, ModelCommand, StageArgs};
use crate::commands::inference::checkpoint;
use crate::commands::stage;
use crate::render::{self, error::reported, table};
use crate::stages;

/// Runs the subcommand.
pub(crate) fn run(global: &Global, command: ModelCommand) -> Result<ExitCode> {
    match command {
        ModelCommand::Info { checkpoint } if is_gguf(Path::new(&checkpoint)) => {
            gguf_info(global, Path::new(&checkpoint))
        }
        ModelCommand::Info { checkpoint } => info(global, &checkpoint),
        ModelCommand::Import { source, name, force } => import(global, &source, name, force),
        ModelCommand::Export { checkpoint, format, file_type, output } => {
            export(global, &checkpoint, format, file_type, &output)
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && path.is_file()
}

/// Prints architecture, size and hash of a checkpoint.
fn info(global: &Global, named: &str) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (folder, name) = checkpoint(&app, Some(named))?;
    let model = LocalModel::load(&folder).map_err(reported)?;
    let info = model.info();
    if global.json {
        render::json(info)?;
        return Ok(ExitCode::Success);
    }
    facts(&[
        ("name", name),
        ("folder", app.show(&folder)),
        ("architecture", info.architecture.clone()),
        ("parameters", table::count(info.parameters as u64)),
        ("vocabulary", table::count(model.tokenizer().vocab_size() as u64)),
        ("context", table::count(info.context_length as u64)),
        ("weights", info.weights_hash.clone()),
    ]);
    Ok(ExitCode::Success)
}

/// Prints what the header of a GGUF file says; no lab is needed, and no weights are read.
fn gguf_info(global: &Global, path: &Path) -> Result<ExitCode> {
    let file = Gguf::open(path).map_err(reported)?;
    let text = |key: &str| match file.metadata().get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let size = |key: &str| match file.metadata().get(key) {
        Some(&Value::U32(size)) => Some(u64::from(size)),
        Some(&Value::U64(size)) => Some(size),
        Some(Value::Array(values)) => Some(values.len() as u64),
        _ => None,
    };
    let architecture = text("general.architecture").unwrap_or_default();
    let parameters: u64 = file.tensors().iter().map(|info| info.count() as u64).sum();
    let context = size(&format!("{architecture}.context_length"));
    let vocabulary = size("tokenizer.ggml.tokens");
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    for info in file.tensors() {
        *formats.entry(info.format.name()).or_default() += 1;
    }
    if global.json {
        render::json(&json!({
            "name": text("general.name"),
            "version": file.version(),
            "architecture": architecture,
            "parameters": parameters,
            "vocabulary": vocabulary,
            "context_length": context,
            "tensors": formats,
            "tokenizer": text("tokenizer.ggml.model"),
            "pre_tokenizer": text("tokenizer.ggml.pre"),
            "chat_template": text("tokenizer.chat_template").is_some(),
        }))?;
        return Ok(ExitCode::Success);
    }
    let or_unknown = |fact: Option<String>| fact.unwrap_or_else(|| "not stated".to_owned());
    let formats: Vec<String> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    facts(&[
        ("name", or_unknown(text("general.name"))),
        ("format", format!("GGUF version {}", file.version())),
        ("architecture", architecture),
        ("parameters", table::count(parameters)),
        ("vocabulary", or_unknown(vocabulary.map(table::count))),
        ("context", or_unknown(context.map(table::count))),
        ("tensors", formats.join(", ")),
    ]);
    Ok(ExitCode::Success)
}

fn facts(facts: &[(&str, String)]) {
    for (fact, value) in facts {
        render::out(&format!("{fact:<13} {value}"));
    }
}

/// Runs the stage `model.import` on what was named.
fn import(global: &Global, named: &str, name: Option<String>, force: bool) -> Result<ExitCode> {
    let app = App::open(global)?;
    let source = source(named)?;
    let name = name.unwrap_or_else(|| artifact_name(&source));
    let kind = stages::find("model.import").context("the stage of the command exists")?;
    let source = json!(source.display().to_string()).to_string();
    let args = StageArgs {
        config: None,
        inputs: Vec::new(),
        output: Some(name),
        force,
        overrides: vec![format!("source={source}")],
    };
    let outcome = stage::execute(&app, kind, &args, &[])?;
    stage::show(&app, global, &outcome)
}

/// The file or folder that a person means by a source: the one place that knows every way to name a model.
fn source(named: &str) -> Result<PathBuf> {
    let path = Path::new(named);
    Ok(path.canonicalize().map_err(|e| nexa_core::Error::io("read", path, e))?)
}

/// The name of a file or folder, in the letters that artifacts may have.
fn artifact_name(source: &Path) -> String {
    let stem = if source.is_dir() { source.file_name() } else { source.file_stem() };
    let name: String = stem
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' })
        .collect();
    name.trim_matches('_').to_owned()
}

/// Writes a checkpoint for other programs.
fn export(
    global: &Global,
    named: &str,
    format: ExportFormat,
    file_type: ExportType,
    output: &Path,
) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (folder, name) = checkpoint(&app, Some(named))?;
    match format {
        ExportFormat::Gguf => {
            let file_type = match file_type {
                ExportType::F16 => FileType::F16,
                ExportType::Q8_0 => FileType::Q8_0,
            };
            gguf::export(&folder, &name, output, file_type).map_err(reported)?;
        }
        ExportFormat::Safetensors => copy_folder(&folder, output)?,
    }
    render::note(&format!("wrote {name}"));
    render::out(&output.display().to_string());
    Ok(ExitCode::Success)
}

/// Copies the files of a checkpoint, which are those of Hugging Face, to a folder that is new or empty.
fn copy_folder(folder: &Path, output: &Path) -> Result<()> {
    files::create_folder(output)?;
    if !files::walk(output)?.is_empty() {
        bail!("write to `{}`: the folder is not empty", output.display());
    }
    for name in files::walk(folder)? {
        let target = output.join(&name);
        files::create_folder(target.parent().unwrap_or(output))?;
        let from = folder.join(&name);
        std::fs::copy(&from, &target).map_err(|e| nexa_core::Error::io("copy", &from, e))?;
    }
    files::sync_folder(output)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_named_for_their_file() {
        let check = |source: &str, expected: &str| {
            assert_eq!(artifact_name(Path::new(source)), expected);
        };
        check("raw/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2_135m_instruct_q4_1");
        check("_model.gguf", "model");
    }
}
