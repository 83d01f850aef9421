//! The stage `feedback`: an evaluation in, its gaps out; and `feedback.inputs`, which aims new prompts at them.
//!
//! A slice is weak where its whole interval lies below the bar: a set target, else the value over all items. A cluster
//! of failures is a gap where its whole rate of failures lies above. A gate starves one where it rejected more of the rows
//! like it, in the lineage of the training data, than of all others. What is asked for is new problems of these kinds;
//! the failed items themselves are of the test set and must not be trained on, which [`inputs`] sees to.

mod cluster;
mod gates;
mod graded;
pub mod inputs;
mod report;
mod slice;

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::event::Event;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, Tables};
use nexa_core::{columns, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cluster::{Cluster, DomainFailures, Term};
use gates::Failing;
pub use gates::{GateShare, PartKind};
use report::Report;
pub use slice::{Causes, Example, Slice};

use crate::metric::NO_DOMAIN;
use crate::statistics::proportion;
use crate::{Error, Evaluation, Result};

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "feedback";

/// The file of the data set whose rows are counted by domain.
const TRAIN_FILE: &str = "train.jsonl";

/// The clusters of an artifact, one row each.
pub const CLUSTERS_FILE: &str = "clusters.parquet";

/// What gates rejected of the rows like what failed, one row for each gate and part; absent where nothing is known of it.
pub const GATES_FILE: &str = "gates.parquet";

/// What feedback is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The tasks whose failures are looked at. Default: the answers to the held-out split where they were graded, else every
    /// task whose documents are answered right or wrong.
    pub tasks: Vec<String>,
    /// The share of right answers that every domain should reach; absent means the share over all items.
    pub target: Option<f64>,
    /// Failed items that are shown of each weak slice and of each cluster.
    pub examples: usize,
    /// New prompts to recommend for each failed item of a weak slice.
    pub prompts_per_failure: usize,
    /// Groups that the failures are put into at most; fewer where fewer describe them better.
    pub max_clusters: usize,
    /// Seeds where grouping begins.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            target: None,
            examples: 5,
            prompts_per_failure: 10,
            max_clusters: 8,
            seed: 0,
        }
    }
}

/// The stage.
#[derive(Debug, Clone)]
pub struct Feedback {
    config: Config,
}

impl Feedback {
    /// Sets up feedback.
    ///
    /// # Errors
    /// Fails when the target is no share, or no cluster may be.
    pub fn new(config: Config) -> Result<Self> {
        let wrong = |message: String| Err(nexa_core::Error::config(NAME, message).into());
        match config.target {
            Some(target) if !(0.0..=1.0).contains(&target) => {
                wrong(format!("`target`: {target} is not between 0 and 1"))
            }
            _ if config.max_clusters == 0 => wrong("`max_clusters`: there must be at least one".to_owned()),
            _ => Ok(Self { config }),
        }
    }

    fn find(&self, context: &Context<'_>) -> Result<()> {
        let tables = context.services.tables;
        let mut evaluation = Evaluation::read(context.inputs.require("evaluation")?, tables)?;
        let tasks = graded::keep(&mut evaluation, &self.config.tasks)?;
        let right: Vec<bool> = evaluation.predictions.iter().map(|one| one.correct == Some(true)).collect();
        let nothing = || Error::NothingMeasured { task: tasks.join(", "), total: right.len() };
        let overall = proportion(&right).ok_or_else(nothing)?;
        let bar = self.config.target.unwrap_or(overall.value);
        // Domains of training data are those of what was held out of it.
        let dataset = context.inputs.get("sft_dataset").filter(|_| graded::is_held_out(&tasks));
        let training_rows = dataset.map(|dataset| training_rows(tables, dataset)).transpose()?;
        let slices = slice::slices(&evaluation, bar, training_rows.as_ref(), &self.config)?;
        let weak: Vec<&Slice> = slices.iter().filter(|slice| slice.is_weak).collect();

        let clusters = cluster::clusters(&evaluation.predictions, 1.0 - bar, &self.config);

        let rows = weak.iter().map(|slice| to_row(slice, context)).collect::<Result<Vec<_>>>()?;
        tables.write(&context.output.join("jsonl"), &rows)?;
        let rows = clusters.iter().map(|cluster| to_row(cluster, context)).collect::<Result<Vec<_>>>()?;
        tables.write(&context.output.join(CLUSTERS_FILE), &rows)?;
        let gates = gate_shares(context, &evaluation, (tasks.as_slice(), weak.as_slice()), &clusters)?;
        if !gates.is_empty() {
            let rows = gates.iter().map(|gate| to_row(gate, context)).collect::<Result<Vec<_>>>()?;
            tables.write(&context.output.join(GATES_FILE), &rows)?;
        }
        let report = Report {
            facts: &evaluation.facts,
            tasks: &tasks,
            overall,
            bar,
            slices: &slices,
            clusters: &clusters,
            gates: &gates,
        };
        files::write_atomic(&context.output.join("report.md"), report.to_string().as_bytes())?;
        let prompts: usize = weak.iter().map(|slice| slice.recommended_new_prompts).sum();
        let domains: Vec<&str> = weak.iter().map(|slice| slice.domain.as_str()).collect();
        context.set_rows(weak.len() as u64);
        context.state("model", &evaluation.model)?;
        context.state(graded::TASKS, &tasks)?;
        context.state("bar", bar)?;
        context.state("weak_domains", &domains)?;
        context.state("recommended_new_prompts", prompts)?;
        let gaps: Vec<&str> =
            clusters.iter().filter(|one| one.is_gap).map(|one| one.label.as_str()).collect();
        context.state("clusters", clusters.len())?;
        context.state("gaps", &gaps)?;
        let starving: Vec<&GateShare> = gates.iter().filter(|gate| gate.is_starving).collect();
        let names: BTreeSet<&str> = starving.iter().map(|one| one.gate.as_str()).collect();
        context.state("starving_gates", &names)?;
        for one in starving {
            context.emit(Event::info(format!(
                "gate `{}` rejected {:.1}% of the rows like `{}`, and {:.1}% of those that are like nothing that is weak",
                one.gate,
                100.0 * one.share,
                one.part,
                100.0 * one.elsewhere_share.unwrap_or(0.0)
            )));
        }
        context.emit(Event::info(match domains.as_slice() {
            [] => format!("none of {} domains is shown to lie below {bar:.4}", slices.len()),
            domains => format!("weak: {}; {prompts} new prompts recommended", domains.join(", ")),
        }));
        Ok(())
    }
}

impl Stage for Feedback {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Feedback
    }

    fn code_version(&self) -> u32 {
        5
    }

    fn config(&self) -> Value {
        serde_json::json!(self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.find(context)?)
    }
}

/// What gates rejected where the model fails. Domains of training data are those of what was held out of it.
fn gate_shares(
    context: &Context<'_>,
    evaluation: &Evaluation,
    (tasks, weak): (&[String], &[&Slice]),
    clusters: &[Cluster],
) -> Result<Vec<GateShare>> {
    let store = Store::new(context.services.lab);
    let checkpoint = match evaluation.checkpoint.id.parse::<ArtifactId>().map(|id| store.get(&id)) {
        Ok(Ok(found)) if found.manifest.content_hash == evaluation.checkpoint.content_hash => found,
        // One that was removed tells nothing of its lineage, and neither does a file.
        Ok(Ok(_)) | Ok(Err(nexa_core::Error::NotFound { .. })) | Err(_) => return Ok(Vec::new()),
        Ok(Err(error)) => return Err(error.into()),
    };
    let vocabulary = cluster::vocabulary(&evaluation.predictions);
    let regions = cluster::Regions::of(clusters, &evaluation.predictions, &vocabulary);
    let slices = if graded::is_held_out(tasks) { weak.to_vec() } else { Vec::new() };
    let failing = Failing { slices, clusters, regions: &regions, vocabulary: &vocabulary };
    gates::shares(&store, &checkpoint, context.services.tables, &failing)
}

/// Counts the rows that the model was trained on, by domain.
fn training_rows(tables: &dyn Tables, dataset: &Artifact) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for row in tables.read(&dataset.file(TRAIN_FILE)?)? {
        let domain = row.get(columns::DOMAIN).and_then(Value::as_str).unwrap_or(NO_DOMAIN);
        *counts.entry(domain.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}

fn to_row(value: &impl Serialize, context: &Context<'_>) -> Result<Row> {
    match serde_json::to_value(value) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err(nexa_core::Error::malformed(context.output, format!("{other} is no row")).into()),
        Err(e) => Err(nexa_core::Error::malformed(context.output, e.to_string()).into()),
    }
}
