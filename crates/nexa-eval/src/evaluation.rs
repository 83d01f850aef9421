//! An evaluation as others read it: what was evaluated on what, with metrics and predictions.

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Parent, Store};
use nexa_core::files;
use nexa_core::table::Tables;

use crate::evaluate;
use crate::facts::{self, Facts, TestSet};
use crate::metric::{self, Metric, Name};
use crate::predictions::{self, Prediction};
use crate::statistics::Estimate;
use crate::task::Task;
use crate::{Error, Result};

/// The role of what was evaluated.
const CHECKPOINT: &str = "checkpoint";

/// An evaluation, read back.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The artifact.
    pub artifact: Artifact,
    /// The checkpoint that was evaluated, by name.
    pub checkpoint: Parent,
    /// The data set whose held-out split it was asked, by name.
    pub dataset: Option<Parent>,
    /// The model's name.
    pub model: String,
    /// What was evaluated on what.
    pub facts: Facts,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// One row for each document of each task.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// Reads the files of an evaluation.
    ///
    /// # Errors
    /// Fails with the path when the artifact is none of the stage `evaluate`, or a file cannot be read.
    pub fn read(artifact: &Artifact, tables: &dyn Tables) -> Result<Self> {
        let checkpoint = required_parent(artifact, CHECKPOINT)?;
        let found = artifact.manifest.producer.code_version;
        if artifact.manifest.producer.stage == evaluate::STAGE && found > evaluate::CODE_VERSION {
            let evaluation = artifact.id().to_string();
            return Err(Error::TooNew { evaluation, found, supported: evaluate::CODE_VERSION });
        }
        let metrics: Vec<Metric> = files::read_json(&artifact.file(metric::FILE)?)?;
        Ok(Self {
            facts: Facts::read(artifact, &checkpoint, &metrics)?,
            checkpoint,
            dataset: parent(artifact, "sft_dataset"),
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
    pub fn metric(&self, name: &Name) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name() == *name)
    }

    /// The value of a metric over all items, if it was measured.
    pub fn estimate(&self, name: &Name) -> Option<Estimate> {
        self.metric(name).map(Metric::estimate)
    }

    /// The predictions of one task.
    pub fn of_task<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a Prediction> {
        self.predictions.iter().filter(move |one| one.task == task)
    }

    /// What was asked of a held-out split.
    ///
    /// # Errors
    /// Fails when nothing was.
    pub fn test_set(&self) -> Result<&TestSet> {
        self.facts.test_set.as_ref().ok_or_else(|| Error::NoHeldOut { evaluation: self.id().to_string() })
    }

    /// The predictions of two evaluations for a task over a held-out split, item by item.
    ///
    /// # Errors
    /// Fails when the evaluations are not of the same items under the same conditions.
    pub fn pairs<'a>(&'a self, other: &'a Self, task: Task) -> Result<Vec<(&'a Prediction, &'a Prediction)>> {
        let incomparable =
            |reason| Error::Incomparable { a: self.id().to_string(), b: other.id().to_string(), reason };
        if let Some(reason) = self.test_set()?.difference(other.test_set()?) {
            return Err(incomparable(reason));
        }
        let pairs: Vec<_> = self.of_task(task.as_str()).zip(other.of_task(task.as_str())).collect();
        match pairs.iter().find(|(a, b)| a.id != b.id) {
            Some((a, b)) => Err(incomparable(format!("item `{}` stands beside `{}`", a.id, b.id))),
            None => Ok(pairs),
        }
    }
}

/// The evaluations that a project has of a checkpoint, the newest first.
///
/// # Errors
/// Fails on a malformed manifest.
pub fn of_checkpoint(store: &Store<'_>, project: &str, checkpoint: &Artifact) -> Result<Vec<Artifact>> {
    let id = checkpoint.id().to_string();
    let mut found = newest_first(store.of_kind(project, Kind::Evaluation)?);
    found.retain(|artifact| parent(artifact, CHECKPOINT).is_some_and(|parent| parent.id == id));
    Ok(found)
}

/// Orders artifacts by when they were made, the newest first; of those made at once the later name.
pub(crate) fn newest_first(mut artifacts: Vec<Artifact>) -> Vec<Artifact> {
    artifacts.sort_by(|a, b| (b.manifest.created_at, b.id()).cmp(&(a.manifest.created_at, a.id())));
    artifacts
}

fn parent(artifact: &Artifact, role: &str) -> Option<Parent> {
    artifact.manifest.parents.iter().find(|parent| parent.role == role).cloned()
}

fn required_parent(artifact: &Artifact, role: &str) -> Result<Parent> {
    Ok(parent(artifact, role).ok_or_else(|| {
        let message = format!("no input of role `{role}`, so it is no evaluation of a model");
        nexa_core::Error::malformed(artifact.manifest_path(), message)
    })?)
}
