//! What the configuration says about data, apart from the data itself.

use std::path::{Path, PathBuf};

use nexa_core::split::Split;
use nexa_model::{ChatTokenizer, LossMask};
use serde::{Deserialize, Serialize};

use super::format::SampleType;
use crate::config::Objective;
use crate::{Config, Error};

/// A data set and how its rows are to be read, in the words of Axolotl.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetConfig {
    /// The data set that this is about, by its name in the lab, or a file; every one where absent.
    #[serde(alias = "name")]
    pub path: Option<PathBuf>,
    /// Its share of the samples of an epoch, in relation to the weights of the others. Absent: every sample is seen once
    /// an epoch.
    pub weight: Option<f64>,
    /// Which side of it is trained on: a file, or the rows whose column `split` says so.
    pub split: Split,
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
    /// The column of the log-probabilities that a teacher gave the tokens of the answer; `logprobs` where absent.
    pub logprobs_field: Option<String>,
}

/// A file of rows and the data set that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The id of the data set, `project/name_v1`, or what else a person calls the file.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The side whose rows are meant, where those of all sides lie in it.
    pub split: Option<Split>,
}

impl From<PathBuf> for DataFile {
    /// A file of no data set is called by its own name.
    fn from(path: PathBuf) -> Self {
        Self { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path, split: None }
    }
}

impl DataFile {
    /// Whether a `path` of the configuration means this file: the id of its data set, with or without project and
    /// version, or the name of the file.
    pub fn is_meant_by(&self, path: &Path) -> bool {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        let stem = name.rsplit_once("_v").filter(|(_, version)| version.parse::<u32>().is_ok());
        let names = [Some(self.name.as_str()), Some(name), stem.map(|(stem, _)| stem)];
        path == self.path
            || path.file_name() == self.path.file_name()
            || names.iter().flatten().any(|name| path == Path::new(name))
    }
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
#[derive(Debug, Clone, PartialEq)]
pub struct DataOptions {
    /// How rows are read.
    pub dataset: DatasetConfig,
    /// Which rows are read; all where absent.
    pub split: Option<Split>,
    /// Longest sample in tokens.
    pub sequence_len: usize,
    /// What becomes of longer ones.
    pub excess_length: ExcessLength,
    /// Whether rows are plain texts, of which long ones are divided into pieces.
    pub divides_texts: bool,
    /// Whether rows may hold what a teacher thought of them, and that is read.
    pub reads_teacher: bool,
    /// Which tokens carry loss.
    pub mask: LossMask,
}

impl Config {
    /// The options for a file: the entry of `datasets` that names it, else the one that names none.
    pub fn data_options(&self, file: &DataFile) -> DataOptions {
        let is_named =
            |dataset: &&DatasetConfig| dataset.path.as_deref().is_some_and(|path| file.is_meant_by(path));
        let named = self.datasets.iter().find(is_named);
        let dataset = named.or_else(|| self.datasets.iter().find(|dataset| dataset.path.is_none()));
        DataOptions {
            dataset: dataset.cloned().unwrap_or_default(),
            split: file.split,
            sequence_len: self.sequence_len,
            excess_length: self.excess_length_strategy,
            divides_texts: self.objective == Objective::Pretrain,
            reads_teacher: self.objective == Objective::Distill,
            mask: LossMask {
                roles_to_train: self.roles_to_train.clone(),
                train_on_eos: self.train_on_eos,
                train_on_inputs: self.train_on_inputs,
            },
        }
    }
}

impl Config {
    /// Which file of a data set is trained on.
    pub(crate) fn split_of(&self, name: &str) -> Split {
        let file = DataFile { name: name.to_owned(), path: PathBuf::new(), split: None };
        self.data_options(&file).dataset.split
    }

    /// Refuses an entry of `datasets` that names none of the files.
    pub(crate) fn check_datasets(&self, files: &[DataFile]) -> Result<(), Error> {
        let is_there = |path: &Path| files.iter().any(|file| file.is_meant_by(path));
        let Some(path) =
            self.datasets.iter().filter_map(|dataset| dataset.path.as_deref()).find(|p| !is_there(p))
        else {
            return Ok(());
        };
        let names = files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
        let problem = format!("names `{}`, which is none of the data (there is: {names})", path.display());
        Err(Error::Config { key: "datasets", problem })
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
