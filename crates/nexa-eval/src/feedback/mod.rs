//! The stage `feedback`: an evaluation in, wishes for new training data out.
//!
//! A slice is weak where its whole interval lies below the bar: a set target, else the value over all items. What is
//! asked for is new problems of that domain; the failed items themselves are of the test set and must not be trained on.

mod report;
mod slice;

use std::collections::BTreeMap;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Event;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, Tables};
use nexa_core::{columns, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use report::Report;
pub use slice::{Causes, Slice};

use crate::metric::{NO_DOMAIN, Name};
use crate::task::Task;
use crate::{Error, Evaluation, Result};

/// The file of the data set whose rows are counted by domain.
const TRAIN_FILE: &str = "train.jsonl";

/// What feedback is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The share of right answers that every domain should reach; absent means the share over all items.
    pub target: Option<f64>,
    /// Failed items that are shown of each weak slice.
    pub examples: usize,
    /// New prompts to recommend for each failed item of a weak slice.
    pub prompts_per_failure: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { target: None, examples: 5, prompts_per_failure: 10 }
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
    /// Fails when the target is no share.
    pub fn new(config: Config) -> Result<Self> {
        match config.target {
            Some(target) if !(0.0..=1.0).contains(&target) => {
                let message = format!("`target`: {target} is not between 0 and 1");
                Err(nexa_core::Error::config("feedback", message).into())
            }
            _ => Ok(Self { config }),
        }
    }

    fn find(&self, context: &Context<'_>) -> Result<()> {
        let tables = context.services.tables;
        let evaluation = Evaluation::read(context.inputs.require("evaluation")?, tables)?;
        let overall = evaluation
            .estimate(Name::ExactMatch)
            .ok_or(Error::NothingMeasured { task: Task::ExactMatch, total: evaluation.predictions.len() })?;
        let bar = self.config.target.unwrap_or(overall.value);
        let training_rows =
            context.inputs.get("sft_dataset").map(|dataset| training_rows(tables, dataset)).transpose()?;
        let slices = slice::slices(&evaluation, bar, training_rows.as_ref(), &self.config)?;
        let weak: Vec<&Slice> = slices.iter().filter(|slice| slice.is_weak).collect();

        let rows = weak.iter().map(|slice| to_row(slice, context)).collect::<Result<Vec<_>>>()?;
        tables.write(&context.output.join("jsonl"), &rows)?;
        let report = Report { facts: &evaluation.facts, overall, bar, slices: &slices };
        files::write_atomic(&context.output.join("report.md"), report.to_string().as_bytes())?;
        let prompts: usize = weak.iter().map(|slice| slice.recommended_new_prompts).sum();
        let domains: Vec<&str> = weak.iter().map(|slice| slice.domain.as_str()).collect();
        context.set_rows(weak.len() as u64);
        context.state("model", &evaluation.model)?;
        context.state("bar", bar)?;
        context.state("weak_domains", &domains)?;
        context.state("recommended_new_prompts", prompts)?;
        context.emit(Event::info(match domains.as_slice() {
            [] => format!("none of {} domains is shown to lie below {bar:.4}", slices.len()),
            domains => format!("weak: {}; {prompts} new prompts recommended", domains.join(", ")),
        }));
        Ok(())
    }
}

impl Stage for Feedback {
    fn name(&self) -> &'static str {
        "feedback"
    }

    fn kind(&self) -> Kind {
        Kind::Feedback
    }

    fn code_version(&self) -> u32 {
        2
    }

    fn config(&self) -> Value {
        let Config { target, examples, prompts_per_failure } = &self.config;
        serde_json::json!({"target": target, "examples": examples, "prompts_per_failure": prompts_per_failure})
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.find(context)?)
    }
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

fn to_row(slice: &Slice, context: &Context<'_>) -> Result<Row> {
    match serde_json::to_value(slice) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err(nexa_core::Error::malformed(context.output, format!("{other} is no row")).into()),
        Err(e) => Err(nexa_core::Error::malformed(context.output, e.to_string()).into()),
    }
}
