//! A folder that holds a model: the files of Hugging Face, so that other tools read it as it is.

use std::path::{Path, PathBuf};

use nexa_core::files::write_atomic;
use nexa_core::lm::Tokenizer as _;

use crate::{ChatTokenizer, DecoderConfig, Error, Weights};

const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const GENERATION_FILE: &str = "generation_config.json";

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Checkpoint {
    /// The numbers, with the shape that they belong to.
    pub weights: Weights,
    /// The tokenizer that the model was trained with.
    pub tokenizer: ChatTokenizer,
    /// BLAKE3 of the weight file, as `blake3:<hex>`.
    pub weights_hash: String,
    /// Where it came from.
    pub folder: PathBuf,
}

impl Checkpoint {
    /// Reads `config.json`, `model.safetensors` and the tokenizer of a folder.
    ///
    /// # Errors
    /// Names the file, key or tensor that is missing or does not fit.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let config = DecoderConfig::load(&folder.join(CONFIG_FILE))?;
        let path = folder.join(WEIGHTS_FILE);
        let bytes = fs_err::read(&path)?;
        let weights = Weights::from_safetensors(&config, &bytes, &path)?;
        let tokenizer = ChatTokenizer::load(folder)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::Vocabulary { tokenizer: tokenizer.vocab_size(), model: config.vocab_size });
        }
        let weights_hash = format!("blake3:{}", blake3::hash(&bytes).to_hex());
        Ok(Self { weights, tokenizer, weights_hash, folder: folder.to_owned() })
    }

    /// Writes a model to a folder that exists: each file under a temporary name first, the weights last.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(folder: &Path, weights: &Weights, tokenizer: &ChatTokenizer) -> Result<(), Error> {
        tokenizer.save(folder)?;
        write_atomic(&folder.join(CONFIG_FILE), weights.config().to_json().as_bytes())?;
        let generation = serde_json::json!({
            "bos_token_id": tokenizer.bos_token(),
            "eos_token_id": tokenizer.stop_tokens(),
            "pad_token_id": tokenizer.pad_token(),
            "do_sample": false,
        });
        write_atomic(&folder.join(GENERATION_FILE), format!("{generation:#}\n").as_bytes())?;
        let path = folder.join(WEIGHTS_FILE);
        write_atomic(&path, &weights.to_safetensors(&path)?)?;
        Ok(())
    }
}
