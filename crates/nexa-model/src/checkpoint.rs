//! A folder that holds a model: the files of Hugging Face, so that other tools read it as it is.

use std::path::{Path, PathBuf};

use nexa_core::files::write_atomic;
use nexa_core::lm::Tokenizer as _;
use serde_json::{Map, Value, json};

use crate::config::token_ids;
use crate::files::{CONFIG, GENERATION_CONFIG, TOKENIZER};
use crate::weights::{self, SHARD_BYTES, Source};
use crate::{Base, ChatTokenizer, DecoderConfig, Error, Weights};

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Checkpoint {
    /// The numbers, with the shape that they belong to.
    pub weights: Weights,
    /// The tokenizer that the model was trained with.
    pub tokenizer: ChatTokenizer,
    /// What [`crate::weights_hash`] says of the folder.
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
        let Parts { config, tokenizer, source } = Parts::open(folder)?;
        let weights = weights::load(&source, &config)?;
        Ok(Self { weights, tokenizer, weights_hash: source.hash(), folder: folder.to_owned() })
    }

    /// Writes a model to a folder that exists: each file under a temporary name first, the weights last, in shards
    /// where they are larger than 5 GB.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(folder: &Path, weights: &Weights, tokenizer: &ChatTokenizer) -> Result<(), Error> {
        let settings = Map::from_iter([("do_sample".to_owned(), false.into())]);
        write(folder, weights, tokenizer, settings)
    }

    /// As [`Self::save`], for a model that was made of another one: how answers are sampled is taken over from it.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save_over(
        base: &Base,
        folder: &Path,
        weights: &Weights,
        tokenizer: &ChatTokenizer,
    ) -> Result<(), Error> {
        match base.generation() {
            Some(settings) => write(folder, weights, tokenizer, settings.clone()),
            None => Self::save(folder, weights, tokenizer),
        }
    }
}

/// Writes the files of a model; `settings` are those of `generation_config.json` besides the tokens.
fn write(
    folder: &Path,
    weights: &Weights,
    tokenizer: &ChatTokenizer,
    mut settings: Map<String, Value>,
) -> Result<(), Error> {
    tokenizer.save(folder)?;
    let config = weights.config();
    write_atomic(&folder.join(CONFIG), config.to_json().as_bytes())?;
    let mut eos = tokenizer.stop_tokens().to_vec();
    eos.extend(config.eos_token_ids.iter().filter(|id| !tokenizer.stop_tokens().contains(id)));
    for (key, value) in [
        ("bos_token_id", json!(tokenizer.bos_token())),
        ("eos_token_id", json!(eos)),
        ("pad_token_id", json!(tokenizer.pad_token())),
    ] {
        settings.insert(key.to_owned(), value);
    }
    let generation = format!("{:#}\n", Value::Object(settings));
    write_atomic(&folder.join(GENERATION_CONFIG), generation.as_bytes())?;
    weights::save(folder, weights, SHARD_BYTES)
}

/// A model's folder that fits together, before the numbers are read.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: DecoderConfig,
    pub(crate) tokenizer: ChatTokenizer,
    /// The weights: every tensor of the model, in a shape and a format that can be read.
    pub(crate) source: Source,
}

impl Parts {
    /// Reads the config and the tokenizer of a folder, and what the headers of the weight files say.
    ///
    /// # Errors
    /// Names the file, key or tensor that is missing or does not fit.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let config = load_config(folder)?;
        let tokenizer = ChatTokenizer::load(folder)?;
        if tokenizer.vocab_size() > config.vocab_size {
            let error = Error::Vocabulary { tokenizer: tokenizer.vocab_size(), model: config.vocab_size };
            return Err(error.within(&folder.join(TOKENIZER)));
        }
        let source = weights::open(folder, &config)?;
        Ok(Self { config, tokenizer, source })
    }
}

/// Reads the config of a folder, with the tokens that its `generation_config.json` adds to those that end an answer.
pub(crate) fn load_config(folder: &Path) -> Result<DecoderConfig, Error> {
    let mut config = DecoderConfig::load(&folder.join(CONFIG))?;
    let path = folder.join(GENERATION_CONFIG);
    if let Some(generation) = load_generation(folder)? {
        let ids = token_ids(generation.get("eos_token_id"))
            .map_err(|problem| nexa_core::Error::malformed(&path, format!("`eos_token_id` {problem}")))?;
        config.add_eos_tokens(ids);
        config.check().map_err(|error| error.within(&path))?;
    }
    Ok(config)
}

/// Reads the `generation_config.json` of a folder, where there is one.
pub(crate) fn load_generation(folder: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let path = folder.join(GENERATION_CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs_err::read_to_string(&path)?;
    serde_json::from_str(&text).map(Some).map_err(|source| Error::Json { path, source })
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
            Checkpoint::save(folder.path(), &weights, &tokenizer).expect("saves");
            weights::save(folder.path(), &weights, 10_000).expect("splits");
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
            let path = folder.path().join(GENERATION_CONFIG);
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
            std::fs::write(folder.path().join(CONFIG), small().to_json()).expect("writes");
            std::fs::write(folder.path().join(GENERATION_CONFIG), generation).expect("writes");
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

    #[test]
    fn how_answers_are_sampled_is_taken_over_from_the_base() {
        let tokenizer = sample();
        let weights = scattered(&DecoderConfig { vocab_size: tokenizer.vocab_size(), ..small() });
        let folder = tempfile::tempdir().expect("a folder");
        let [base, tuned] = ["base", "tuned"].map(|name| folder.path().join(name));
        let check = |generation: Option<&str>, expected: Value| {
            for folder in [&base, &tuned] {
                nexa_core::files::remove(folder).expect("removes");
                std::fs::create_dir(folder).expect("a folder");
            }
            Checkpoint::save(&base, &weights, &tokenizer).expect("saves");
            let path = base.join(GENERATION_CONFIG);
            match generation {
                Some(text) => std::fs::write(path, text).expect("writes"),
                None => std::fs::remove_file(path).expect("removes"),
            }
            let model = Base::of(&base).expect("is a model");
            Checkpoint::save_over(&model, &tuned, &weights, &tokenizer).expect("saves");
            let mut found = load_generation(&tuned).expect("is JSON").expect("is there");
            assert!(found.remove("eos_token_id").is_some_and(|ids| ids.is_array()));
            found.retain(|key, _| !key.ends_with("_token_id"));
            assert_eq!(Value::Object(found), expected);
        };
        let settings = json!({ "do_sample": true, "temperature": 0.6, "top_p": 0.9 });
        check(Some(&settings.to_string()), settings);
        check(Some("{\"eos_token_id\": 3}"), json!({}));
        check(None, json!({ "do_sample": false }));
    }
}
