//! An evaluation as others read it: what was evaluated on what, with metrics and predictions.

use nexa_core::artifact::{Artifact, ArtifactId, Parent};
use nexa_core::files;
use nexa_core::hash::ContentHash;
use nexa_core::table::Tables;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::evaluate::Split;
use crate::metric::{self, Metric, Name};
use crate::predictions::{self, Prediction};
use crate::statistics::Estimate;
use crate::{Error, Result};

/// The questions that a model was asked, and how long it could answer.
///
/// The split's own hash decides what may be compared: two versions of a data set may differ in what they train on and
/// still hold out the same items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSet {
    /// The data set.
    pub dataset: ArtifactId,
    /// Its content.
    pub dataset_hash: ContentHash,
    /// The split.
    pub split: Split,
    /// The content of the split's file.
    pub split_hash: ContentHash,
    /// Items that were evaluated: the first ones of the split.
    pub items: usize,
    /// Tokens that an answer could have.
    pub max_tokens: usize,
}

impl TestSet {
    /// Says what keeps two evaluations from being compared, if anything does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.split != other.split || self.split_hash != other.split_hash {
            let place = |set: &Self| format!("split `{}` of {}", set.split.as_str(), set.dataset);
            Some(format!("{} and {} hold different items", place(self), place(other)))
        } else if self.items != other.items {
            Some(format!("{} and {} items were evaluated", self.items, other.items))
        } else if self.max_tokens != other.max_tokens {
            Some(format!("answers had up to {} and {} tokens", self.max_tokens, other.max_tokens))
        } else {
            None
        }
    }
}

/// An evaluation, read back.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The artifact.
    pub artifact: Artifact,
    /// The checkpoint that was evaluated.
    pub checkpoint: Parent,
    /// The model's name.
    pub model: String,
    /// What it was asked.
    pub test_set: TestSet,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// One row an item, in the order of the split.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// Reads the files of an evaluation.
    ///
    /// # Errors
    /// Fails with the path when the artifact is none of the stage `evaluate`, or a file cannot be read.
    pub fn read(artifact: &Artifact, tables: &dyn Tables) -> Result<Self> {
        let checkpoint = artifact.manifest.parents.iter().find(|parent| parent.role == "checkpoint").cloned();
        let checkpoint = checkpoint.ok_or_else(|| {
            let message = "no input of role `checkpoint`, so it is no evaluation of a model";
            nexa_core::Error::malformed(artifact.manifest_path(), message)
        })?;
        Ok(Self {
            checkpoint,
            model: fact(artifact, "model")?,
            test_set: fact(artifact, "test_set")?,
            metrics: files::read_json(&artifact.file(metric::FILE)?)?,
            predictions: predictions::read(tables, artifact)?,
            artifact: artifact.clone(),
        })
    }

    /// The artifact's id.
    pub fn id(&self) -> &ArtifactId {
        self.artifact.id()
    }

    /// A metric, if it was measured.
    pub fn metric(&self, name: Name) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.metric == name)
    }

    /// The value of a metric over all items, if it was measured.
    pub fn estimate(&self, name: Name) -> Option<Estimate> {
        self.metric(name).map(Metric::estimate)
    }

    /// The predictions of two evaluations, item by item.
    ///
    /// # Errors
    /// Fails when the evaluations are not of the same items under the same conditions.
    pub fn pairs<'a>(&'a self, other: &'a Self) -> Result<Vec<(&'a Prediction, &'a Prediction)>> {
        let incomparable =
            |reason| Error::Incomparable { a: self.id().to_string(), b: other.id().to_string(), reason };
        if let Some(reason) = self.test_set.difference(&other.test_set) {
            return Err(incomparable(reason));
        }
        let pairs: Vec<_> = self.predictions.iter().zip(&other.predictions).collect();
        match pairs.iter().find(|(a, b)| a.id != b.id) {
            Some((a, b)) => Err(incomparable(format!("item `{}` stands beside `{}`", a.id, b.id))),
            None => Ok(pairs),
        }
    }
}

fn fact<T: DeserializeOwned>(artifact: &Artifact, name: &str) -> Result<T> {
    let value = artifact.manifest.summary.get(name).cloned().unwrap_or(serde_json::Value::Null);
    Ok(serde_json::from_value(value).map_err(|e| {
        nexa_core::Error::malformed(artifact.manifest_path(), format!("summary `{name}`: {e}"))
    })?)
}
