//! `nexa model info|import|merge|export`: what a model is, into the lab, with its adapters, and out of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use nexa_core::ExitCode;
use nexa_core::lm::LanguageModel;
use nexa_model::gguf::{self, FileType, Gguf, Value};
use nexa_model::{DecoderConfig, LocalModel, RopeScaling};
use serde_json::json;

use crate::app::App;
use crate::args::{ExportFormat, ExportType, Global, ModelCommand, StageArgs};
use crate::commands::inference::{checkpoint, is_gguf};
use crate::commands::stage;
use crate::models;
use crate::render::{self, error::reported, table};
use crate::stages;

/// Runs the subcommand.
pub(crate) fn run(global: &Global, command: ModelCommand) -> Result<ExitCode> {
    match command {
        ModelCommand::Info { checkpoint } if is_gguf(Path::new(&checkpoint)) => {
            gguf_info(global, Path::new(&checkpoint))
        }
        ModelCommand::Info { checkpoint } => info(global, &checkpoint),
        ModelCommand::Import { source, output, force } => import(global, &source, output, force),
        ModelCommand::Merge { base, adapter, any_base, output, force } => {
            let args = StageArgs { output, force, ..StageArgs::default() };
            merge(global, &base, (&adapter, any_base), args)
        }
        ModelCommand::Export { checkpoint, format, file_type, max_shard_size, output } => {
            let form = match format {
                ExportFormat::Gguf => Form::Gguf(file_type),
                ExportFormat::Safetensors => Form::Folder { shard_bytes: max_shard_size },
            };
            export(global, &checkpoint, &form, &output)
        }
    }
}

/// Prints architecture, size and hash of a checkpoint.
fn info(global: &Global, named: &str) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (folder, name) = checkpoint(&app, Some(named))?;
    let model = LocalModel::load(&folder).map_err(reported)?;
    let info = model.info();
    let shape = DecoderConfig::load(&folder.join("config.json")).map_err(reported)?;
    if global.json {
        let shape: serde_json::Value = serde_json::from_str(&shape.to_json())?;
        let mut facts = serde_json::to_value(info)?;
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("config".to_owned(), shape);
        }
        render::json(&facts)?;
        return Ok(ExitCode::Success);
    }
    let size = |number: usize| table::count(number as u64);
    facts(&[
        ("name", name),
        ("folder", app.show(&folder)),
        ("architecture", info.architecture.clone()),
        ("parameters", size(info.parameters)),
        ("vocabulary", size(model.tokenizer().vocab_size())),
        ("context", size(info.context_length)),
        (
            "layers",
            format!(
                "{} of {} wide, feed-forward {}",
                shape.num_hidden_layers,
                size(shape.hidden_size),
                size(shape.intermediate_size)
            ),
        ),
        ("attention", attention(&shape)),
        ("positions", positions(&shape)),
        ("biases", biases(&shape)),
        ("output layer", if shape.tie_word_embeddings { "the embedding" } else { "its own" }.to_owned()),
        ("weights", info.weights_hash.clone()),
    ]);
    Ok(ExitCode::Success)
}

/// The heads, and what the family adds to them.
fn attention(shape: &DecoderConfig) -> String {
    let mut text = format!(
        "{} heads of {}, {} for keys and values",
        shape.num_attention_heads, shape.head_dim, shape.num_key_value_heads
    );
    if shape.qk_norm {
        text.push_str(", queries and keys normalised");
    }
    if let Some(window) = &shape.sliding_window {
        let layers = window.layers.len();
        text.push_str(&format!(", {} tokens back in {layers} layers", table::count(window.tokens as u64)));
    }
    text
}

/// How positions are told apart.
fn positions(shape: &DecoderConfig) -> String {
    let scaling = match &shape.rope_scaling {
        None => String::new(),
        Some(RopeScaling::Linear { factor }) => format!(", linear scaling by {factor}"),
        Some(RopeScaling::Dynamic { factor }) => format!(", dynamic scaling by {factor}"),
        Some(RopeScaling::Llama3(llama)) => format!(", Llama 3 scaling by {}", llama.factor),
        Some(RopeScaling::Yarn(yarn)) => format!(", YaRN scaling by {}", yarn.factor),
    };
    let without = match shape.no_rope_layers.len() {
        0 => String::new(),
        layers => format!(", none in {layers} layers"),
    };
    format!("rotary, base {}{scaling}{without}", table::count(shape.rope_theta as u64))
}

/// Which projections have biases.
fn biases(shape: &DecoderConfig) -> String {
    let all = [
        (shape.qkv_bias, "queries, keys and values"),
        (shape.output_bias, "attention output"),
        (shape.mlp_bias, "feed-forward"),
    ];
    let named: Vec<&str> = all.into_iter().filter_map(|(is_there, what)| is_there.then_some(what)).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
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
    let outcome = models::import(&app, named, name, force)?;
    stage::show(&app, global, &outcome)
}

/// Runs the stage `model.merge`.
fn merge(
    global: &Global,
    base: &str,
    (adapter, any_base): (&str, bool),
    mut args: StageArgs,
) -> Result<ExitCode> {
    let app = App::open(global)?;
    let base = models::checkpoint(&app, base)?;
    let adapter = models::adapter(&app, adapter)?;
    let kind = stages::find("model.merge").context("the stage of the command exists")?;
    args.inputs = vec![format!("base={}", base.id())];
    let value = json!({ "adapter": adapter.display().to_string(), "any_base": any_base });
    let outcome = stage::execute(&app, kind, value, "command line", &args)?;
    stage::show(&app, global, &outcome)
}

/// What a checkpoint is written as.
enum Form {
    /// A file for llama.cpp.
    Gguf(ExportType),
    /// A folder for Hugging Face, its weights in files of at most so many bytes.
    Folder { shard_bytes: u64 },
}

/// Writes a checkpoint for other programs.
fn export(global: &Global, named: &str, form: &Form, output: &Path) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (folder, name) = checkpoint(&app, Some(named))?;
    match form {
        Form::Gguf(file_type) => {
            let file_type = match file_type {
                ExportType::F16 => FileType::F16,
                ExportType::Q8_0 => FileType::Q8_0,
            };
            gguf::export(&folder, &name, output, file_type).map_err(reported)?;
        }
        Form::Folder { shard_bytes } => {
            nexa_model::export(&folder, output, *shard_bytes).map_err(reported)?;
        }
    }
    render::note(&format!("wrote {name}"));
    render::out(&output.display().to_string());
    Ok(ExitCode::Success)
}
