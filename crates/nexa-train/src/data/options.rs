//! What the configuration says about data, apart from the data itself.

use std::path::{Path, PathBuf};

use nexa_model::{ChatTokenizer, LossMask};
use serde::{Deserialize, Serialize};

use super::format::SampleType;
use crate::{Config, Error};

/// A data set and how its rows are to be read, in the words of Axolotl.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetConfig {
    /// The file that this is about; every file where absent.
    pub path: Option<PathBuf>,
    /// What a row is. Told by the columns of the first row where absent.
    #[serde(rename = "type")]
    pub sample_type: Option<SampleType>,
    /// The column of the conversation; `messages`, or `conversations` for ShareGPT, where absent.
    pub field_messages: Option<String>,
    /// The keys of a message.
    pub message_property_mappings: MessageProperties,
    /// The column of the instructions that stand before a conversation; `system` where absent.
    pub field_system: Option<String>,
    /// The column of what is asked; `instruction`, `prompt` or `input`, as the type has it, where absent.
    pub field_instruction: Option<String>,
    /// The column of what the question is about; `input` where absent.
    pub field_input: Option<String>,
    /// The column of the answer; `output` or `completion`, as the type has it, where absent.
    pub field_output: Option<String>,
    /// The column of plain text; `text` where absent.
    pub field: Option<String>,
}

/// The keys of a message, where they are not those of its format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageProperties {
    /// Who speaks; `role`, or `from` for ShareGPT, where absent.
    pub role: Option<String>,
    /// What is said; `content`, or `value` for ShareGPT, where absent.
    pub content: Option<String>,
}

/// What becomes of samples that are longer than `sequence_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExcessLength {
    /// They are left out, and counted.
    Drop,
    /// Their end is cut off, and counted.
    Truncate,
    /// They stop the run.
    Raise,
}

/// Everything that decides how a row becomes tokens, besides the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataOptions {
    /// How rows are read.
    pub dataset: DatasetConfig,
    /// Longest sample in tokens.
    pub sequence_len: usize,
    /// What becomes of longer ones.
    pub excess_length: ExcessLength,
    /// Which tokens carry loss.
    pub mask: LossMask,
}

impl Config {
    /// The options for a file: the entry of `datasets` that names it, else the one that names none.
    pub fn data_options(&self, path: &Path) -> DataOptions {
        let named = self.datasets.iter().find(|dataset| {
            dataset
                .path
                .as_deref()
                .is_some_and(|named| named == path || named.file_name() == path.file_name())
        });
        let dataset = named.or_else(|| self.datasets.iter().find(|dataset| dataset.path.is_none()));
        DataOptions {
            dataset: dataset.cloned().unwrap_or_default(),
            sequence_len: self.sequence_len,
            excess_length: self.excess_length_strategy,
            mask: LossMask {
                roles_to_train: self.roles_to_train.clone(),
                train_on_eos: self.train_on_eos,
                train_on_inputs: self.train_on_inputs,
            },
        }
    }
}

/// Reads the tokenizer that a model is trained, evaluated and served with: that of a folder, with the chat template
/// and its variables as the configuration says. Saving it keeps them.
///
/// # Errors
/// Names the file that is missing, or says why the template cannot be used.
pub fn load_tokenizer(config: &Config, folder: &Path) -> Result<ChatTokenizer, Error> {
    let mut tokenizer = ChatTokenizer::load(folder)?;
    match config.chat_template.as_deref() {
        None | Some("tokenizer_default") => {}
        Some("chatml") => tokenizer = tokenizer.with_template(ChatTokenizer::CHATML)?,
        // What holds Jinja is a template; everything else is the path of one.
        Some(source) if source.contains("{{") || source.contains("{%") => {
            tokenizer = tokenizer.with_template(source)?;
        }
        Some(path) => tokenizer = tokenizer.with_template(&fs_err::read_to_string(path)?)?,
    }
    if !config.chat_template_kwargs.is_empty() {
        tokenizer = tokenizer.with_template_kwargs(config.chat_template_kwargs.clone())?;
    }
    if let Some(date) = config.chat_template_date {
        tokenizer = tokenizer.with_template_date(date)?;
    }
    Ok(tokenizer)
}
