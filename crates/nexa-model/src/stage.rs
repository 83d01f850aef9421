//! The stage `tokenizer.train`: conversations or texts become a tokenizer with its chat template.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Event;
use nexa_core::lm::Tokenizer as _;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, main_table};
use nexa_core::{Error as CoreError, columns};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ChatTokenizer;
use crate::texts::TextColumns;

/// The role of the data.
const SFT_ROLE: &str = "sft_dataset";
/// The split that a tokenizer may see.
const TRAIN_FILE: &str = "train.jsonl";

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Ids, the 256 bytes and the special tokens included. 4,096 suits small models on one domain: the embedding
    /// stays a small part of the weights.
    pub vocab_size: usize,
    /// How rows are read, as in training: the first entry that names the data set, or none. Where there is none, the
    /// columns tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<TextColumns>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 4096, datasets: Vec::new() }
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
        2
    }

    fn config(&self) -> Value {
        serde_json::to_value(&self.config).expect("the configuration holds only numbers and texts")
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let (artifact, tables) = (context.inputs.require(SFT_ROLE)?, context.services.tables);
        let path = artifact
            .file(main_table(artifact, tables).filter(|_| is_table(artifact)).unwrap_or(TRAIN_FILE))?;
        let rows = tables.read(&path)?;
        let entries = &self.config.datasets;
        let named = entries.iter().find(|entry| entry.path.is_some() && entry.is_about(artifact.id()));
        let columns = named.or_else(|| entries.iter().find(|entry| entry.path.is_none()));
        let columns = columns.cloned().unwrap_or_default();
        let mut texts = Vec::new();
        for (position, row) in rows.iter().enumerate().filter(|(_, row)| may_be_seen(row)) {
            texts.extend(columns.texts_of(row).map_err(|problem| {
                CoreError::malformed(&path, format!("line {}: {problem}", position + 1))
            })?);
        }
        let tokenizer = ChatTokenizer::train(&texts, self.config.vocab_size)?;
        tokenizer.save(context.output)?;

        let (asked, made) = (self.config.vocab_size, tokenizer.vocab_size());
        if made < asked {
            context.emit(Event::warning(format!(
                "`vocab_size` is {asked}, but {made} ids say everything: every word of the training split is one token"
            )));
        }
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
