//! What an evaluation was of, as it stands in `facts.json`: content, never names.
//!
//! The file is part of the artifact's content, so whatever is made of an evaluation may build on it: the same content
//! under other names gives the same bytes. By what names checkpoint and data set went stands in the manifest.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{Artifact, Parent};
use nexa_core::files;
use nexa_core::hash::ContentHash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::evaluate::Split;
use crate::metric::Metric;

/// The name of the file in an evaluation.
pub const FILE: &str = "facts.json";

/// What was evaluated on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The content of the checkpoint.
    pub checkpoint_hash: ContentHash,
    /// The weights in it, as the model tells them.
    pub weights_hash: String,
    /// What was measured.
    pub tasks: BTreeSet<String>,
    /// What was asked of a held-out split, where that was.
    pub test_set: Option<TestSet>,
    /// What each other task asked.
    #[serde(default)]
    pub questions: BTreeMap<String, Questions>,
}

/// What a task asked, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// Documents that were evaluated: the first ones.
    pub documents: usize,
    /// Examples before each.
    pub num_fewshot: usize,
    /// What decides every request but for the model's template: the task, the documents, the examples, and how they are
    /// written.
    pub hash: ContentHash,
}

/// The questions that a model was asked, and how long it could answer.
///
/// The split's own hash decides what may be compared: two versions of a data set may differ in what they train on and
/// still hold out the same items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSet {
    /// The content of the data set.
    pub dataset_hash: ContentHash,
    /// The split.
    pub split: Split,
    /// The content of the split's file.
    pub split_hash: ContentHash,
    /// Items that were evaluated: the first ones of the split.
    pub items: usize,
    /// Tokens that an answer could have.
    pub max_tokens: usize,
    /// The seed by which the items were drawn, where an evaluation stopped when something was decided: then they are not the
    /// first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<u64>,
}

impl TestSet {
    /// Says what keeps two evaluations from being compared, if anything does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.split != other.split || self.split_hash != other.split_hash {
            let place = |set: &Self| format!("split `{}` ({})", set.split.as_str(), set.split_hash.short());
            Some(format!("{} and {} hold different items", place(self), place(other)))
        } else if self.drawn != other.drawn || self.drawn.is_some() {
            Some("one was asked no more items than it took to decide".to_owned())
        } else if self.items != other.items {
            Some(format!("{} and {} items were evaluated", self.items, other.items))
        } else if self.max_tokens != other.max_tokens {
            Some(format!("answers had up to {} and {} tokens", self.max_tokens, other.max_tokens))
        } else {
            None
        }
    }
}

impl Facts {
    /// Reads the facts of an evaluation. Evaluations of code version 1 have no file of them; there they are taken from the
    /// manifest.
    pub(crate) fn read(artifact: &Artifact, checkpoint: &Parent, metrics: &[Metric]) -> Result<Self> {
        if artifact.manifest.producer.code_version > 1 {
            return Ok(files::read_json(&artifact.file(FILE)?)?);
        }
        Ok(Self {
            checkpoint_hash: checkpoint.content_hash.clone(),
            weights_hash: summary(artifact, "weights_hash")?,
            tasks: metrics.iter().map(|metric| metric.task.clone()).collect(),
            test_set: Some(summary(artifact, "test_set")?),
            questions: BTreeMap::new(),
        })
    }
}

/// A fact that the manifest states.
pub(crate) fn summary<T: DeserializeOwned>(artifact: &Artifact, name: &str) -> Result<T> {
    let value = artifact.manifest.summary.get(name).cloned().unwrap_or(serde_json::Value::Null);
    Ok(serde_json::from_value(value).map_err(|e| {
        nexa_core::Error::malformed(artifact.manifest_path(), format!("summary `{name}`: {e}"))
    })?)
}
