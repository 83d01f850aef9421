//! Evaluations as the dashboards read them: their files, row by row, never a table whole.
//!
//! What is computed of answers is `nexa-eval`'s; here are only the files that it leaves behind, in any version of them.

mod pairs;
mod samples;
mod verdicts;

use std::collections::BTreeMap;

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::files;
use nexa_core::lab::Lab;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::leaderboard::Estimate;
use crate::pages::contamination::Contamination;

pub(crate) use pairs::{Pair, Pairs, Show};
pub(crate) use samples::{
    Counts, Judged, Sample, SampleFilter, find, find_document, graded, sample_at, samples_at,
};
pub(crate) use verdicts::{
    VerdictFilter, Verdicts, at as verdicts_at, criteria_of, of_evaluation, on_document,
};

/// The file of metrics in an evaluation.
const METRICS_FILE: &str = "metrics.json";
/// The file of what was asked.
const FACTS_FILE: &str = "facts.json";
/// The file of what was found in training data, where that was looked for.
const CONTAMINATION_FILE: &str = "contamination.json";

/// An evaluation with what it measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Evaluated {
    #[serde(skip)]
    pub(crate) artifact: Artifact,
    pub(crate) metrics: Vec<MetricRow>,
    /// What was asked, as the file tells it.
    pub(crate) facts: Value,
    /// How much of what was asked stands in training data, where that was looked for.
    pub(crate) contamination: Option<Contamination>,
}

/// A metric of a task or a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricRow {
    pub(crate) task: String,
    pub(crate) metric: String,
    #[serde(default)]
    pub(crate) filter: Option<String>,
    #[serde(flatten)]
    pub(crate) estimate: Estimate,
    #[serde(default)]
    pub(crate) standard_error: Option<f64>,
    #[serde(default)]
    pub(crate) n: u64,
    /// Documents that are longer than the model's context.
    #[serde(default)]
    pub(crate) too_long: u64,
    #[serde(default)]
    pub(crate) higher_is_better: Option<bool>,
    #[serde(default)]
    pub(crate) num_fewshot: Option<u64>,
    #[serde(default)]
    pub(crate) version: Option<Value>,
    /// The tasks of a group; of a task, none.
    #[serde(default)]
    pub(crate) subtasks: Vec<String>,
    #[serde(default)]
    pub(crate) by_domain: BTreeMap<String, Estimate>,
}

impl MetricRow {
    /// The metric with its filter, where it has one, as predictions name it and people read it.
    pub(crate) fn name(&self) -> String {
        match self.filter.as_deref() {
            None | Some("none") => self.metric.clone(),
            Some(filter) => format!("{},{filter}", self.metric),
        }
    }

    /// Whether its values are shares, which are shown in percent.
    pub(crate) fn is_share(&self) -> bool {
        let within = |value: f64| (0.0..=1.0).contains(&value);
        self.higher_is_better == Some(true) && within(self.estimate.value)
    }
}

impl Evaluated {
    /// Reads an evaluation.
    ///
    /// # Errors
    /// Fails when there is no such evaluation, or a file of it cannot be read.
    pub(crate) fn open(lab: &Lab, id: &ArtifactId) -> Result<Self> {
        let artifact = Store::new(lab).get(id)?;
        artifact.expect_kind(Kind::Evaluation)?;
        let metrics = read(&artifact, METRICS_FILE)?.unwrap_or_default();
        let facts = read(&artifact, FACTS_FILE)?.unwrap_or_default();
        let contamination = read(&artifact, CONTAMINATION_FILE)?;
        Ok(Self { artifact, metrics, facts, contamination })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &ArtifactId {
        self.artifact.id()
    }

    /// The checkpoint that was evaluated, by name.
    pub(crate) fn checkpoint(&self) -> Option<&str> {
        let parents = self.artifact.manifest.parents.iter();
        parents.filter(|parent| parent.role == "checkpoint").map(|parent| parent.id.as_str()).next()
    }

    /// The tasks that have samples, in the order of the file.
    pub(crate) fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for metric in self.metrics.iter().filter(|metric| metric.subtasks.is_empty()) {
            if !tasks.contains(&metric.task.as_str()) {
                tasks.push(&metric.task);
            }
        }
        tasks
    }

    /// The metrics of a task.
    pub(crate) fn of_task<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a MetricRow> {
        self.metrics.iter().filter(move |metric| metric.task == task)
    }

    /// Whether another evaluation asked the same of a task; unknown where neither tells.
    pub(crate) fn asked_the_same(&self, other: &Self, task: &str) -> Option<bool> {
        let asked = |facts: &Value| {
            let own = facts.get("questions").and_then(|questions| questions.get(task)).cloned();
            own.or_else(|| {
                // Two versions of a data set may hold out the same items.
                let mut set = facts.get("test_set").filter(|set| !set.is_null())?.clone();
                set.as_object_mut()?.remove("dataset_hash");
                Some(set)
            })
        };
        match (asked(&self.facts), asked(&other.facts)) {
            (None, None) => None,
            (one, other) => Some(one == other),
        }
    }
}

/// A file of an artifact as JSON, where it has that file.
fn read<T: DeserializeOwned>(artifact: &Artifact, name: &str) -> Result<Option<T>> {
    if artifact.manifest.files.iter().any(|file| file.name == name) {
        return Ok(Some(files::read_json(&artifact.file(name)?)?));
    }
    Ok(None)
}
