//! The stage `tokenizer.train`: conversations or texts become a tokenizer with its chat template.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Event;
use nexa_core::lm::{ChatMessage, Tokenizer as _};
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, main_table};
use nexa_core::{Diagnose, Error as CoreError, ExitCode, columns};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ChatTokenizer, Error};

/// The role of the data.
const SFT_ROLE: &str = "sft_dataset";
/// The split that a tokenizer may see.
const TRAIN_FILE: &str = "train.jsonl";
/// The column of plain text.
const TEXT: &str = "text";

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Ids, the 256 bytes and the special tokens included. 4,096 suits small models on one domain: the embedding
    /// stays a small part of the weights.
    pub vocab_size: usize,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 4096 }
    }
}

/// Trains a byte-level BPE on the training split, so that held-out text stays unseen.
#[derive(Debug, Clone)]
pub struct TrainTokenizer {
    config: TokenizerConfig,
}

impl TrainTokenizer {
    /// Takes a configuration.
    pub fn new(config: TokenizerConfig) -> Self {
        Self { config }
    }
}

impl Stage for TrainTokenizer {
    fn name(&self) -> &'static str {
        "tokenizer.train"
    }

    fn kind(&self) -> Kind {
        Kind::Tokenizer
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        serde_json::to_value(&self.config).expect("the configuration is a number")
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let (artifact, tables) = (context.inputs.require(SFT_ROLE)?, context.services.tables);
        let path = artifact
            .file(main_table(artifact, tables).filter(|_| is_table(artifact)).unwrap_or(TRAIN_FILE))?;
        let rows = tables.read(&path)?;
        let mut texts = Vec::new();
        for (position, row) in rows.iter().enumerate().filter(|(_, row)| may_be_seen(row)) {
            texts.extend(texts_of(row).map_err(|problem| {
                CoreError::malformed(&path, format!("line {}: {problem}", position + 1))
            })?);
        }
        let tokenizer = ChatTokenizer::train(&texts, self.config.vocab_size)?;
        tokenizer.save(context.output)?;

        let bytes: usize = texts.iter().map(String::len).sum();
        let mut tokens = 0;
        for text in &texts {
            tokens += tokenizer.encode(text)?.len();
        }
        context.state("vocab_size", tokenizer.vocab_size())?;
        context.state("bytes_per_token", bytes as f64 / tokens.max(1) as f64)?;
        context.emit(Event::info(format!(
            "{} ids, {:.2} bytes a token on the training split",
            tokenizer.vocab_size(),
            bytes as f64 / tokens.max(1) as f64
        )));
        Ok(())
    }
}

/// Whether all splits lie in one table.
fn is_table(artifact: &Artifact) -> bool {
    artifact.manifest.kind == Kind::Dataset
}

/// Whether a row belongs to the training split; one that does not say so is there to be trained on.
fn may_be_seen(row: &Row) -> bool {
    row.get(columns::SPLIT).is_none_or(|split| split.is_null() || split == "train")
}

/// The texts of a row: what each message of a conversation says, or a plain text.
fn texts_of(row: &Row) -> Result<Vec<String>, String> {
    if let Some(Value::String(text)) = row.get(TEXT).filter(|_| !row.contains_key(columns::MESSAGES)) {
        return Ok(vec![text.clone()]);
    }
    let value = row
        .get(columns::MESSAGES)
        .ok_or_else(|| format!("columns `{}` and `{TEXT}` are missing", columns::MESSAGES))?;
    let messages = Vec::<ChatMessage>::deserialize(value);
    let messages = messages.map_err(|error| format!("column `{}`: {error}", columns::MESSAGES))?;
    Ok(messages.into_iter().map(|message| message.content).collect())
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Some(
                "a checkpoint is a folder with config.json, model.safetensors, tokenizer.json and tokenizer_config.json"
                    .to_owned(),
            ),
            Self::NoModel(_) => {
                Some("a model is a folder, or `hf:organisation/name` on the Hugging Face hub".to_owned())
            }
            Self::HubRefused { .. } => Some(
                "the name is wrong, or the model is private or gated: set HF_TOKEN to a token that may read it"
                    .to_owned(),
            ),
            Self::HubUnreachable { .. } => {
                Some("check the connection and HF_ENDPOINT; a model that was fetched before is used without".to_owned())
            }
            _ => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => ExitCode::Storage,
            Self::Config { .. } => ExitCode::Config,
            Self::HubRefused { .. } => ExitCode::Credentials,
            Self::HubUnreachable { .. } => ExitCode::Unavailable,
            Self::Merge { .. } => ExitCode::Integrity,
            _ => ExitCode::Input,
        }
    }
}
