//! A folder that holds a model: the files of Hugging Face, so that other tools read it as it is.

use std::path::{Path, PathBuf};

use nexa_core::files::write_atomic;
use nexa_core::lm::Tokenizer as _;
use serde_json::Value;

use crate::config::token_ids;
use crate::{ChatTokenizer, DecoderConfig, Error, Weights, weights};

const CONFIG_FILE: &str = "config.json";
const GENERATION_FILE: &str = "generation_config.json";

/// Bytes of a weight file above which a model is split: what `transformers` does.
const SHARD_BYTES: u64 = 5_000_000_000;

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Checkpoint {
    /// The numbers, with the shape that they belong to.
    pub weights: Weights,
    /// The tokenizer that the model was trained with.
    pub tokenizer: ChatTokenizer,
    /// BLAKE3 of the weight file, or of the shards' hashes, as `blake3:<hex>`.
    pub weights_hash: String,
    /// Where it came from.
    pub folder: PathBuf,
}

impl Checkpoint {
    /// Reads `config.json`, `generation_config.json` where there is one, the weights, in one file or in shards, and
    /// the tokenizer of a folder.
    ///
    /// # Errors
    /// Names the file, key or tensor that is missing or does not fit.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let config = load_config(folder)?;
        let tokenizer = ChatTokenizer::load(folder)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::Vocabulary { tokenizer: tokenizer.vocab_size(), model: config.vocab_size });
        }
        let (weights, weights_hash) = weights::load(folder, &config)?;
        Ok(Self { weights, tokenizer, weights_hash, folder: folder.to_owned() })
    }

    /// Writes a model to a folder that exists: each file under a temporary name first, the weights last, in shards
    /// where they are larger than 5 GB.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(folder: &Path, weights: &Weights, tokenizer: &ChatTokenizer) -> Result<(), Error> {
        Self::save_in_shards(folder, weights, tokenizer, SHARD_BYTES)
    }

    /// As [`Self::save`], with another size above which the weights are split.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save_in_shards(
        folder: &Path,
        weights: &Weights,
        tokenizer: &ChatTokenizer,
        shard_bytes: u64,
    ) -> Result<(), Error> {
        tokenizer.save(folder)?;
        let config = weights.config();
        write_atomic(&folder.join(CONFIG_FILE), config.to_json().as_bytes())?;
        let mut eos = tokenizer.stop_tokens().to_vec();
        eos.extend(config.eos_token_ids.iter().filter(|id| !tokenizer.stop_tokens().contains(id)));
        let generation = serde_json::json!({
            "bos_token_id": tokenizer.bos_token(),
            "eos_token_id": eos,
            "pad_token_id": tokenizer.pad_token(),
            "do_sample": false,
        });
        write_atomic(&folder.join(GENERATION_FILE), format!("{generation:#}\n").as_bytes())?;
        weights::save(folder, weights, shard_bytes)
    }
}

/// Reads the config of a folder, with the tokens that its `generation_config.json` adds to those that end an answer.
fn load_config(folder: &Path) -> Result<DecoderConfig, Error> {
    let mut config = DecoderConfig::load(&folder.join(CONFIG_FILE))?;
    let path = folder.join(GENERATION_FILE);
    if path.exists() {
        let json: Value = serde_json::from_str(&fs_err::read_to_string(&path)?)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        let ids = token_ids(json.get("eos_token_id"))
            .map_err(|problem| nexa_core::Error::malformed(&path, format!("`eos_token_id` {problem}")))?;
        config.add_eos_tokens(ids);
        config.check()?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::tokenizer::tests::sample;
    use crate::weights::tests::scattered;

    #[test]
    fn what_is_saved_is_loaded() {
        let tokenizer = sample();
        for config in families() {
            let config = DecoderConfig { vocab_size: tokenizer.vocab_size(), ..config };
            let folder = tempfile::tempdir().expect("a folder");
            let weights = scattered(&config);
            Checkpoint::save_in_shards(folder.path(), &weights, &tokenizer, 10_000).expect("saves");
            let loaded = Checkpoint::load(folder.path()).expect("loads");
            assert_eq!(loaded.weights.values(), weights.values());
            let loaded = loaded.weights.config();
            assert_eq!((loaded.architecture, loaded.head_dim), (config.architecture, config.head_dim));
        }
    }

    #[test]
    fn the_tokens_that_end_an_answer_reach_the_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokenizer = sample();
        let config =
            DecoderConfig { vocab_size: tokenizer.vocab_size(), eos_token_ids: vec![2, 5], ..small() };
        Checkpoint::save(folder.path(), &scattered(&config), &tokenizer).expect("saves");
        let check = |generation: Option<&str>, expected: &[u32]| {
            let path = folder.path().join(GENERATION_FILE);
            match generation {
                Some(text) => std::fs::write(path, text).expect("writes"),
                None => std::fs::remove_file(path).expect("removes"),
            }
            let loaded = Checkpoint::load(folder.path()).expect("loads");
            let [model, tokenizer] =
                [&loaded.weights.config().eos_token_ids[..], loaded.tokenizer.stop_tokens()];
            for id in expected {
                assert!(model.contains(id) && tokenizer.contains(id), "{id}: {model:?} {tokenizer:?}");
            }
        };
        check(Some(r#"{"eos_token_id": [5, 7]}"#), &[2, 5, 7]);
        check(None, &[2, 5]);
    }

    #[test]
    fn the_generation_config_completes_the_tokens_that_end_an_answer() {
        let check = |generation: &str, expected: Result<&[u32], &str>| {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(CONFIG_FILE), small().to_json()).expect("writes");
            std::fs::write(folder.path().join(GENERATION_FILE), generation).expect("writes");
            match (load_config(folder.path()), expected) {
                (Ok(config), Ok(ids)) => assert_eq!(config.eos_token_ids, ids),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (found, _) => panic!("{generation}: {found:?}"),
            }
        };
        check("{}", Ok(&[1]));
        check(r#"{"eos_token_id": 4}"#, Ok(&[1, 4]));
        check(r#"{"eos_token_id": [1, 9, 4]}"#, Ok(&[1, 9, 4]));
        check(r#"{"eos_token_id": [1, 50]}"#, Err("`eos_token_id` is 50, outside"));
        check(r#"{"eos_token_id": "x"}"#, Err("`eos_token_id` is \"x\", neither"));
    }
}
