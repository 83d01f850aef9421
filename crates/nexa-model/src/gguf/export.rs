//! A checkpoint folder to a GGUF file.

use std::path::Path;

use nexa_core::files;
use serde_json::{Map, Value as Json};

use super::config::Config;
use super::error::Error;
use super::metadata::{Metadata, Value};
use super::names::{self, Pair, ROPE_FREQS};
use super::tensor_type::TensorType;
use super::tokenizer::Vocabulary;
use super::writer::{FileType, Planned, Writer};
use crate::files::{CONFIG, GENERATION_CONFIG};
use crate::weights::Source;

/// The version of the block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Writes a checkpoint folder, named `name`, as one GGUF file that llama.cpp loads. Matrices get the format of the
/// file type, norms and biases stay in single precision.
///
/// # Errors
/// Names the key, token or tensor that is missing or that llama.cpp could not honour; nothing is written then.
pub fn export(checkpoint: &Path, name: &str, path: &Path, file_type: FileType) -> Result<(), Error> {
    let config_path = checkpoint.join(CONFIG);
    let json: Map<String, Json> = files::read_json(&config_path)?;
    let config = Config { path: &config_path, json: &json };
    let architecture = config.architecture()?;
    let shape = config.shape(architecture)?;
    let mut metadata = Metadata::new(path);
    metadata.put("general.architecture", Value::String(architecture.name().to_owned()));
    metadata.put("general.type", Value::String("model".to_owned()));
    metadata.put("general.name", Value::String(name.to_owned()));
    metadata.put("general.file_type", Value::U32(file_type.id()));
    metadata.put("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    let factors = config.put(&mut metadata, architecture, &shape)?;
    let mut vocabulary = Vocabulary::read_files(checkpoint, shape.vocab)?;
    vocabulary.eot = end_of_turn(checkpoint, vocabulary.eos)?;
    vocabulary.put(&mut metadata);

    let source = Source::open(checkpoint)?;
    let pairs = names::pairs(architecture, &shape);
    check_tensors(checkpoint, &source, &pairs)?;
    let mut planned: Vec<Planned> = pairs
        .iter()
        .map(|pair| Planned {
            name: pair.gguf.clone(),
            shape: pair.shape.clone(),
            format: file_type.of_tensor(&pair.shape),
        })
        .collect();
    if let Some(factors) = &factors {
        let (name, shape) = (ROPE_FREQS.to_owned(), vec![factors.len()]);
        planned.insert(0, Planned { name, shape, format: TensorType::F32 });
    }
    let mut writer = Writer::create(path, &metadata, planned)?;
    if let Some(factors) = &factors {
        writer.write(factors)?;
    }
    for pair in &pairs {
        writer.write(&pair.to_gguf(source.values(&pair.hugging_face)?))?;
    }
    writer.finish()
}

/// The other token that ends an answer, where `generation_config.json` has one.
fn end_of_turn(checkpoint: &Path, eos: Option<u32>) -> Result<Option<u32>, Error> {
    let path = checkpoint.join(GENERATION_CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let generation: Json = files::read_json(&path)?;
    let ends = generation.get("eos_token_id").and_then(Json::as_array).into_iter().flatten();
    let ids = ends.filter_map(|id| u32::try_from(id.as_u64()?).ok());
    Ok(ids.into_iter().find(|&id| Some(id) != eos))
}

/// Sees that the weights are those that the config asks for: a tensor without a place would be lost.
fn check_tensors(checkpoint: &Path, source: &Source, pairs: &[Pair]) -> Result<(), Error> {
    for pair in pairs {
        let name = &pair.hugging_face;
        let info = source.info(name).ok_or_else(|| Error::tensor(checkpoint, name, "is missing"))?;
        if info.shape != pair.shape {
            let problem = format!("has shape {:?}, the config asks for {:?}", info.shape, pair.shape);
            return Err(Error::tensor(checkpoint, name, problem));
        }
    }
    let known: std::collections::BTreeSet<&str> =
        pairs.iter().map(|pair| pair.hugging_face.as_str()).collect();
    // Some tools write the output layer although it is the embedding, and tables that the config implies.
    let redundant = |name: &str| name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
    match source.tensors().map(|(name, _)| name).find(|name| !known.contains(name) && !redundant(name)) {
        Some(name) => {
            Err(Error::tensor(checkpoint, name, "has no place in a GGUF file of this architecture"))
        }
        None => Ok(()),
    }
}
