//! The training data in the lineage of a checkpoint.
//!
//! Weights come from text by the stage `train` alone: its data sets, and those of the model that it went on from. What a
//! tokenizer was made of, and a teacher whose probabilities were learnt from, is no text that the weights saw. What a model
//! from outside was trained on, nothing here can know.

use std::path::PathBuf;

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Parent, Store};
use nexa_core::hash::ContentHash;
use nexa_core::split::Split;
use serde_json::Value;

use crate::Result;

const TRAIN: &str = "train";
const INITIALISE: &str = "train.init";
const IMPORT: &str = "model.import";
const MERGE: &str = "model.merge";

/// The roles of what a stage trains on and goes on from.
const DATA_ROLE: &str = "sft_dataset";
const BASE_ROLE: &str = "base";

/// Everything that a checkpoint was trained on, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TrainingData {
    pub(crate) sources: Vec<Source>,
    pub(super) gaps: Vec<Gap>,
}

/// A table that was trained on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    /// The artifact, by name.
    pub(crate) name: String,
    pub(crate) hash: ContentHash,
    pub(super) path: PathBuf,
    /// Where sides stand in one table, the rows of which side; those of the whole table else.
    pub(super) split: Option<Split>,
}

/// Something that is not known of the training data: of which artifact, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) name: String,
    /// As it ends "training data unknown: ".
    pub(super) reason: String,
}

impl TrainingData {
    /// Follows the lineage of a checkpoint.
    ///
    /// # Errors
    /// Fails on a malformed manifest.
    pub(crate) fn of(store: &Store<'_>, checkpoint: &Artifact) -> Result<Self> {
        let mut found = Self::default();
        found.follow(store, checkpoint)?;
        Ok(found)
    }

    fn follow(&mut self, store: &Store<'_>, checkpoint: &Artifact) -> Result<()> {
        let producer = &checkpoint.manifest.producer;
        match producer.stage.as_str() {
            INITIALISE => Ok(()),
            IMPORT => {
                self.miss(checkpoint.id(), "the model was imported");
                Ok(())
            }
            TRAIN | MERGE => checkpoint
                .manifest
                .parents
                .iter()
                .try_for_each(|parent| self.parent(store, checkpoint, parent)),
            other => {
                self.miss(checkpoint.id(), &format!("the model was made by `{other}`"));
                Ok(())
            }
        }
    }

    fn parent(&mut self, store: &Store<'_>, checkpoint: &Artifact, parent: &Parent) -> Result<()> {
        if let Some(path) = parent.path(store.lab().root()) {
            return self.adapter(store, checkpoint, &path);
        }
        let is_data = parent.role.starts_with(DATA_ROLE);
        if !is_data && parent.role != BASE_ROLE {
            return Ok(());
        }
        let id: ArtifactId = parent.id.parse()?;
        let found = match store.get(&id) {
            Ok(found) => found,
            Err(nexa_core::Error::NotFound { .. }) => {
                let what = if is_data { "data that it was trained on" } else { "the model it went on from" };
                self.miss(&id, &format!("{what} is no longer in the lab"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if found.manifest.content_hash != parent.content_hash {
            self.miss(&id, "what it was made from has changed since");
            return Ok(());
        }
        if !is_data {
            return self.follow(store, &found);
        }
        if !found.is_present() {
            self.miss(&id, "files of data that it was trained on are missing");
            return Ok(());
        }
        let source = Source::of(&found, &checkpoint.manifest.producer.config)?;
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
        Ok(())
    }

    /// Follows a file that a model was merged from: one of a checkpoint of the lab, or of adapters from outside.
    fn adapter(&mut self, store: &Store<'_>, merged: &Artifact, path: &std::path::Path) -> Result<()> {
        let checkpoints = store.of_kind(&merged.id().project, Kind::Checkpoint)?;
        match checkpoints.iter().find(|one| path.starts_with(one.path())) {
            Some(trained) if trained.id() != merged.id() => self.follow(store, trained),
            _ => {
                self.miss(merged.id(), "adapters from outside were merged in");
                Ok(())
            }
        }
    }

    fn miss(&mut self, id: &ArtifactId, reason: &str) {
        let gap = Gap { name: id.to_string(), reason: reason.to_owned() };
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }
}

impl Source {
    /// The table of a data set that a training of a configuration read.
    fn of(dataset: &Artifact, config: &Value) -> nexa_core::Result<Self> {
        let split = trained_split(dataset.id(), config);
        let (file, split) = match dataset.manifest.kind {
            Kind::Dataset => ("parquet".to_owned(), Some(split)),
            _ => (format!("{}.jsonl", split.as_str()), None),
        };
        Ok(Self {
            name: dataset.id().to_string(),
            hash: dataset.manifest.content_hash.clone(),
            path: dataset.file(&file)?,
            split,
        })
    }
}

/// The side of a data set that a training took: the first entry of `datasets` that is about it says so.
fn trained_split(id: &ArtifactId, config: &Value) -> Split {
    let names = [id.to_string(), id.stem(), id.name.clone()];
    let is_about = |entry: &&Value| match entry["path"].as_str() {
        None => true,
        Some(path) => names.iter().any(|name| name == path),
    };
    let entry = config["datasets"].as_array().into_iter().flatten().find(is_about);
    entry.and_then(|entry| serde_json::from_value(entry["split"].clone()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_side_is_that_of_the_entry_about_the_data_set() {
        let id: ArtifactId = "tutor/sft_v2".parse().unwrap();
        let check = |config: Value, expected| assert_eq!(trained_split(&id, &config), expected, "{config}");
        check(json!({}), Split::Train);
        check(json!({"datasets": [{"path": "sft", "split": "validation"}]}), Split::Validation);
        check(json!({"datasets": [{"path": "sft_v1", "split": "test"}]}), Split::Train);
        check(json!({"datasets": [{"split": "test"}]}), Split::Test);
        check(json!({"datasets": [{"path": null, "split": null}]}), Split::Train);
    }
}
