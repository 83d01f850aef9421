//! A GGUF file to a checkpoint folder.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::files::{create_folder, write_json};
use safetensors::tensor::Dtype;
use serde_json::{Value as Json, json};

use super::architecture::Architecture;
use super::blocks::encode;
use super::config::{self, Config};
use super::error::Error;
use super::names::{self, Pair, ROPE_FREQS};
use super::reader::{Gguf, TensorInfo};
use super::tensor_type::TensorType;
use super::tokenizer::Vocabulary;
use crate::files::{CONFIG, GENERATION_CONFIG, WEIGHTS};
use crate::weights::{Planned, Sink};

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The architecture, as GGUF names it.
    pub architecture: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// How many tensors each format of the file had.
    pub formats: BTreeMap<TensorType, usize>,
    /// Whether the file has a chat template.
    pub chat_template: bool,
}

/// Writes `config.json`, `generation_config.json`, `tokenizer.json`, `tokenizer_config.json` and `model.safetensors`
/// into a folder, the weights last.
///
/// Half-precision tensors stay what they are; quantised ones become single precision, which holds them exactly.
///
/// # Errors
/// Names the byte, key or tensor of the file that is missing, malformed or not supported.
pub fn import(path: &Path, folder: &Path) -> Result<Imported, Error> {
    let model = Model::open(path)?;
    model.write_files(folder)?;
    write_weights(&model.gguf, &model.pairs, &folder.join(WEIGHTS))?;

    Ok(Imported {
        architecture: model.architecture.name().to_owned(),
        parameters: model.pairs.iter().map(|(_, info)| info.count() as u64).sum(),
        formats: model.formats(),
        chat_template: model.vocabulary.chat_template.is_some(),
    })
}

/// A file of which everything but the numbers has been read and checked.
#[derive(Debug)]
pub(crate) struct Model {
    gguf: Gguf,
    architecture: Architecture,
    /// What `config.json` says.
    config: Json,
    vocabulary: Vocabulary,
    pairs: Vec<(Pair, TensorInfo)>,
}

impl Model {
    /// Opens a file.
    ///
    /// # Errors
    /// Names the byte, key or tensor of the file that is missing, malformed or not supported.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let gguf = Gguf::open(path)?;
        let architecture = config::architecture(&gguf)?;
        let mut config = config::from_gguf(&gguf, architecture)?;
        let pairs = pairs(&gguf, architecture, &config)?;
        let vocabulary = Vocabulary::from_metadata(gguf.metadata())?;
        let rows = config["vocab_size"].as_u64().unwrap_or(0);
        if vocabulary.tokens.len() as u64 > rows {
            let problem = format!("has {} entries, the embedding {rows} rows", vocabulary.tokens.len());
            return Err(gguf.metadata().fail("tokenizer.ggml.tokens", problem));
        }
        config["bos_token_id"] = vocabulary.bos.into();
        config["eos_token_id"] = vocabulary.eos.into();
        config["pad_token_id"] = vocabulary.pad.into();
        config["torch_dtype"] = torch_dtype(&pairs).into();
        Ok(Self { gguf, architecture, config, vocabulary, pairs })
    }

    /// Writes all files of a checkpoint folder but the weights.
    ///
    /// # Errors
    /// Names the token that stands twice, or the file that cannot be written.
    pub(crate) fn write_files(&self, folder: &Path) -> Result<(), Error> {
        create_folder(folder)?;
        let context_length = self.config["max_position_embeddings"].as_u64().unwrap_or(0);
        self.vocabulary.write_files(folder, context_length, self.gguf.path())?;
        write_json(&folder.join(CONFIG), &self.config)?;
        let generation = json!({
            "bos_token_id": self.vocabulary.bos,
            "eos_token_id": self.vocabulary.ends(),
            "pad_token_id": self.vocabulary.pad,
            "do_sample": false,
        });
        Ok(write_json(&folder.join(GENERATION_CONFIG), &generation)?)
    }

    /// How many tensors each format of the file has.
    pub(crate) fn formats(&self) -> BTreeMap<TensorType, usize> {
        let mut formats = BTreeMap::new();
        for info in self.gguf.tensors() {
            *formats.entry(info.format).or_insert(0) += 1;
        }
        formats
    }

    /// Reads a tensor under its name in checkpoint folders: its format and its bytes, rows in the order of those.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    ///
    /// # Panics
    /// Panics on a name that the model does not have.
    pub(crate) fn tensor(&self, name: &str) -> Result<(TensorType, Vec<u8>), Error> {
        let found = self.pairs.iter().find(|(pair, _)| pair.hugging_face == name);
        let (pair, info) = found.expect("every tensor of the config was found as the file was opened");
        Ok((info.format, pair.to_hugging_face(self.gguf.bytes(info)?)))
    }
}

/// Finds every tensor that the config asks for, with the right shape, and sees that there is no other.
fn pairs(gguf: &Gguf, architecture: Architecture, config: &Json) -> Result<Vec<(Pair, TensorInfo)>, Error> {
    let path = gguf.path();
    let json = config.as_object().expect("the config was made as an object");
    let shape = Config { path, json }.shape(architecture)?;
    let found: BTreeMap<&str, &TensorInfo> =
        gguf.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
    let pairs = names::pairs(architecture, &shape)
        .into_iter()
        .map(|pair| {
            let info = *found
                .get(pair.gguf.as_str())
                .ok_or_else(|| Error::tensor(path, &pair.gguf, "is missing"))?;
            if info.shape != pair.shape {
                let problem = format!("has shape {:?}, the metadata asks for {:?}", info.shape, pair.shape);
                return Err(Error::tensor(path, &pair.gguf, problem));
            }
            Ok((pair, info.clone()))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let known: std::collections::BTreeSet<&str> = pairs.iter().map(|(pair, _)| pair.gguf.as_str()).collect();
    match found.keys().find(|&&name| name != ROPE_FREQS && !known.contains(name)) {
        Some(name) => {
            let problem = format!("is not one that {} has", architecture.name());
            Err(Error::tensor(path, *name, problem))
        }
        None => Ok(pairs),
    }
}

/// The format in which a tensor is stored in the folder.
fn stored_as(format: TensorType) -> Dtype {
    match format {
        TensorType::F16 => Dtype::F16,
        TensorType::Bf16 => Dtype::BF16,
        _ => Dtype::F32,
    }
}

/// The format of the matrices, as `config.json` tells it.
fn torch_dtype(pairs: &[(Pair, TensorInfo)]) -> &'static str {
    let mut matrices = pairs.iter().filter(|(pair, _)| pair.shape.len() > 1).map(|(_, info)| info.format);
    match matrices.next() {
        Some(TensorType::F16) if matrices.all(|format| format == TensorType::F16) => "float16",
        Some(TensorType::Bf16) if matrices.all(|format| format == TensorType::Bf16) => "bfloat16",
        _ => "float32",
    }
}

fn write_weights(gguf: &Gguf, pairs: &[(Pair, TensorInfo)], path: &Path) -> Result<(), Error> {
    let by_name: BTreeMap<&str, &(Pair, TensorInfo)> =
        pairs.iter().map(|entry| (entry.0.hugging_face.as_str(), entry)).collect();
    let mut planned: Vec<Planned> = pairs
        .iter()
        .map(|(pair, info)| Planned {
            name: pair.hugging_face.clone(),
            dtype: stored_as(info.format),
            shape: pair.shape.clone(),
        })
        .collect();
    Planned::order(&mut planned);
    let mut sink = Sink::create(path, &planned)?;
    for tensor in &planned {
        let (pair, info) = by_name[tensor.name.as_str()];
        let bytes = if tensor.dtype == Dtype::F32 {
            encode::f32(&pair.to_hugging_face(gguf.values(info)?))
        } else {
            pair.to_hugging_face(gguf.bytes(info)?)
        };
        sink.write(&bytes)?;
    }
    Ok(sink.finish()?)
}
