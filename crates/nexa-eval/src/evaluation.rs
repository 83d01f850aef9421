//! An evaluation as others read it: what was evaluated on what, with metrics and predictions.

use nexa_core::artifact::{Artifact, ArtifactId, Parent};
use nexa_core::files;
use nexa_core::table::Tables;

use crate::facts::{self, Facts};
use crate::metric::{self, Metric, Name};
use crate::predictions::{self, Prediction};
use crate::statistics::Estimate;
use crate::{Error, Result};

/// An evaluation, read back.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The artifact.
    pub artifact: Artifact,
    /// The checkpoint that was evaluated, by name.
    pub checkpoint: Parent,
    /// The data set that it was asked from, by name.
    pub dataset: Parent,
    /// The model's name.
    pub model: String,
    /// What was evaluated on what.
    pub facts: Facts,
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
        let checkpoint = parent(artifact, "checkpoint")?;
        let metrics: Vec<Metric> = files::read_json(&artifact.file(metric::FILE)?)?;
        Ok(Self {
            facts: Facts::read(artifact, &checkpoint, &metrics)?,
            checkpoint,
            dataset: parent(artifact, "sft_dataset")?,
            model: facts::summary(artifact, "model")?,
            metrics,
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
        if let Some(reason) = self.facts.test_set.difference(&other.facts.test_set) {
            return Err(incomparable(reason));
        }
        let pairs: Vec<_> = self.predictions.iter().zip(&other.predictions).collect();
        match pairs.iter().find(|(a, b)| a.id != b.id) {
            Some((a, b)) => Err(incomparable(format!("item `{}` stands beside `{}`", a.id, b.id))),
            None => Ok(pairs),
        }
    }
}

fn parent(artifact: &Artifact, role: &str) -> Result<Parent> {
    let found = artifact.manifest.parents.iter().find(|parent| parent.role == role).cloned();
    Ok(found.ok_or_else(|| {
        let message = format!("no input of role `{role}`, so it is no evaluation of a model");
        nexa_core::Error::malformed(artifact.manifest_path(), message)
    })?)
}
