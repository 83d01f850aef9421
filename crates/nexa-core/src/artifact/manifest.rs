//! The manifest of an artifact, as it is stored, and its versions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::cost::Spend;
use crate::hash::ContentHash;
use crate::lab::check_name;
use crate::machine::{Git, Host};
use crate::run::RunId;
use crate::{Error, Result, files};

/// The manifest version that is written. Every older one can be read.
pub const MANIFEST_VERSION: u64 = 1;

/// What an artifact is, and so where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Files as they came, or as a generator made them.
    Raw,
    /// Ingested rows.
    Dataset,
    /// What gates measured of rows.
    Scores,
    /// Prompts for a teacher.
    TeacherInputs,
    /// A teacher's answers.
    TeacherOutputs,
    /// What judges say of a teacher's answers.
    Verdicts,
    /// Answers that passed the gates, and beside them those that did not.
    Filtered,
    /// Conversations to train on, split.
    SftDataset,
    /// A tokenizer with its chat template.
    Tokenizer,
    /// Weights with config and tokenizer.
    Checkpoint,
    /// A model behind an API: its name and where it is.
    ApiModel,
    /// Predictions and metrics of one model.
    Evaluation,
    /// What an evaluation says should be improved.
    Feedback,
}

impl Kind {
    /// Every kind, in the order of the data's way.
    pub const ALL: [Self; 13] = [
        Self::Raw,
        Self::Dataset,
        Self::Scores,
        Self::TeacherInputs,
        Self::TeacherOutputs,
        Self::Verdicts,
        Self::Filtered,
        Self::SftDataset,
        Self::Tokenizer,
        Self::Checkpoint,
        Self::ApiModel,
        Self::Evaluation,
        Self::Feedback,
    ];

    /// The word for it in commands and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Dataset => "dataset",
            Self::Scores => "scores",
            Self::TeacherInputs => "teacher_inputs",
            Self::TeacherOutputs => "teacher_outputs",
            Self::Verdicts => "verdicts",
            Self::Filtered => "filtered",
            Self::SftDataset => "sft_dataset",
            Self::Tokenizer => "tokenizer",
            Self::Checkpoint => "checkpoint",
            Self::ApiModel => "api_model",
            Self::Evaluation => "evaluation",
            Self::Feedback => "feedback",
        }
    }

    /// Where artifacts of this kind lie, below the lab's root.
    pub fn folder(self, project: &str) -> String {
        let place = match self {
            Self::Raw => return format!("data/raw/{project}"),
            Self::Dataset => "datasets",
            Self::Scores => "scores",
            Self::TeacherInputs => "distillation/teacher_inputs",
            Self::TeacherOutputs => "distillation/teacher_outputs",
            Self::Verdicts => "distillation/verdicts",
            Self::Filtered => "distillation/filtered",
            Self::SftDataset => "distillation/sft_datasets",
            Self::Tokenizer => "training/tokenizers",
            Self::Checkpoint => "training/checkpoints",
            Self::ApiModel => "evaluation/api_models",
            Self::Evaluation => "evaluation/reports",
            Self::Feedback => "evaluation/feedback",
        };
        format!("data/processed/{project}/{place}")
    }

    /// Whether the files of such an artifact keep their own names, inside a folder of its own.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Tokenizer | Self::Checkpoint | Self::ApiModel)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names an artifact: `<project>/<name>_v<version>`. Names are unique in a project, whatever the kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactId {
    /// The project.
    pub project: String,
    /// The name that all versions share.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
}

impl ArtifactId {
    /// `<name>_v<version>`: the stem of the files.
    pub fn stem(&self) -> String {
        format!("{}_v{}", self.name, self.version)
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}_v{}", self.project, self.name, self.version)
    }
}

impl FromStr for ArtifactId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadName {
            what: "artifact",
            name: text.to_owned(),
            message: "an artifact is named `<project>/<name>_v<version>`".to_owned(),
        };
        let (project, stem) = text.split_once('/').ok_or_else(bad)?;
        let (name, version) = stem.rsplit_once("_v").ok_or_else(bad)?;
        let version = version.parse().map_err(|_| bad())?;
        check_name("project", project)?;
        check_name("artifact", name)?;
        Ok(Self { project: project.to_owned(), name: name.to_owned(), version })
    }
}

impl TryFrom<String> for ArtifactId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> Self {
        id.to_string()
    }
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What follows the stem: `parquet`, `train.jsonl`; for folders the path inside, `model.safetensors`.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Content.
    pub hash: ContentHash,
}

/// How much an artifact holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows of the main table.
    pub rows: Option<u64>,
    /// Tokens, where something counted them.
    pub tokens: Option<u64>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds: `text`, `integer`, `number`, `boolean`, `list`, `object`, or the format's own word.
    #[serde(rename = "type")]
    pub holds: String,
}

/// Something that an artifact was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// What it served as: `dataset`, `tokenizer`, `file`, …
    pub role: String,
    /// An artifact's id, or `file:<path>` for a file; the path is relative to the lab where the file lies in it.
    pub id: String,
    /// Its content at that time.
    pub content_hash: ContentHash,
}

impl Parent {
    /// What stands before the path of a file.
    const FILE: &str = "file:";

    /// A file that was read, at the place where it lies. `lab` is the lab's folder, and both are resolved.
    pub(crate) fn file(lab: &Path, path: &Path, content_hash: ContentHash) -> Self {
        let shown = path.strip_prefix(lab).unwrap_or(path);
        let id = format!("{}{}", Self::FILE, shown.display());
        Self { role: "file".to_owned(), id, content_hash }
    }

    /// Whether it is a file and no artifact.
    pub fn is_file(&self) -> bool {
        self.id.starts_with(Self::FILE)
    }

    /// Where the file lies, if it is one, seen from the lab's folder.
    pub fn path(&self, lab: &Path) -> Option<PathBuf> {
        self.id.strip_prefix(Self::FILE).map(|path| lab.join(path))
    }
}

/// What made an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Producer {
    /// The stage, such as `distill.collect`.
    pub stage: String,
    /// The stage's code version; a change means that the same input may give another output.
    pub code_version: u32,
    /// Hash of stage, code version, config, seed and inputs: equal keys mean equal results.
    pub key: ContentHash,
    /// The run.
    pub run: RunId,
    /// Version of the binary.
    pub nexa_version: String,
    /// The lab's repository, where it lies in one.
    pub git: Option<Git>,
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// The machine.
    pub host: Host,
    /// `cpu`, `cuda:0`, …
    pub device: String,
}

/// The manifest of an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The artifact.
    pub id: ArtifactId,
    /// What it is.
    pub kind: Kind,
    /// Hash over the names and hashes of its files.
    pub content_hash: ContentHash,
    /// Its files, sorted by name.
    pub files: Vec<FileEntry>,
    /// How much it holds.
    pub counts: Counts,
    /// The columns of its main table, where the format of the file states them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<Column>,
    /// What it was made from.
    pub parents: Vec<Parent>,
    /// What made it.
    pub producer: Producer,
    /// What it cost to make.
    pub spend: Spend,
    /// Facts that the stage states about its result: a funnel, metrics, the teacher.
    #[serde(default)]
    pub summary: BTreeMap<String, serde_json::Value>,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
}

/// A manifest as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "manifest_version")]
enum Stored {
    #[serde(rename = "1")]
    V1(Manifest),
}

impl Manifest {
    /// Reads a manifest of any version.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is malformed, or is of a newer version.
    pub fn read(path: &Path) -> Result<Self> {
        let value: serde_json::Value = files::read_json(path)?;
        let version = value
            .get("manifest_version")
            .and_then(|version| version.as_str()?.parse::<u64>().ok())
            .ok_or_else(|| Error::malformed(path, "key `manifest_version` is missing"))?;
        if version > MANIFEST_VERSION {
            return Err(Error::TooNew { path: path.to_owned(), found: version, supported: MANIFEST_VERSION });
        }
        let stored = serde_path_to_error::deserialize(value)
            .map_err(|e| Error::malformed(path, format!("key `{}`: {}", e.path(), e.inner())))?;
        match stored {
            Stored::V1(manifest) => Ok(manifest),
        }
    }

    /// Writes the manifest in the newest version, atomically.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_json(path, &Stored::V1(self.clone()))
    }

    /// The content hash that belongs to a list of files.
    pub fn hash_files(files: &[FileEntry]) -> ContentHash {
        let list = files.iter().map(|file| serde_json::json!([file.name, file.hash])).collect();
        ContentHash::of_json(&serde_json::Value::Array(list))
    }
}
