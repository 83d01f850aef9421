//! `nexa evaluate --fail-if-worse`: an evaluation held against a base, for scripts that must stop where a model got worse.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::Artifact;
use nexa_eval::Error;
use nexa_eval::compare::{Against, AgainstBase, Contender};
use serde_json::json;

use super::compare::held_out_is_left_out;
use super::evaluations;
use crate::app::App;
use crate::args::Global;
use crate::commands::leaderboard::{decimal, p_value};
use crate::render::{self, error::reported};

/// What an evaluation is held against.
pub(super) struct Base {
    /// The evaluation that was named, or those of the checkpoint that was, the newest first.
    candidates: Vec<Artifact>,
}

impl Base {
    /// Finds it by name.
    ///
    /// # Errors
    /// Fails where there is no evaluation and no evaluated checkpoint of that name.
    pub(super) fn find(app: &App, name: &str) -> Result<Self> {
        Ok(Self { candidates: evaluations(app, name)? })
    }

    /// Holds an evaluation against it; tells what was tested, and gives the exit code: [`ExitCode::Failure`] where a metric
    /// is worse.
    ///
    /// # Errors
    /// Fails where nothing can be compared: that is no pass.
    pub(super) fn hold(&self, app: &App, global: &Global, evaluation: &Artifact) -> Result<ExitCode> {
        let found = self.against(app, evaluation)?;
        let worse: Vec<String> = found.worse().map(|(_, metric)| in_words(metric)).collect();
        if global.json {
            render::json(&json!({"passed": worse.is_empty(), "worse": worse, "against": found}))?;
        } else {
            render::note(&table(&found));
            tell(&found, &worse);
        }
        Ok(if worse.is_empty() { ExitCode::Success } else { ExitCode::Failure })
    }

    /// The newest candidate that can be compared.
    fn against(&self, app: &App, evaluation: &Artifact) -> Result<Against> {
        let mut first_error = None;
        for base in &self.candidates {
            match Against::base(base, std::slice::from_ref(evaluation), &app.tables) {
                Ok(found) => return Ok(found),
                Err(error @ Error::Incomparable { .. }) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(reported(error)),
            }
        }
        let none = || anyhow::anyhow!("there is nothing to hold {} against", evaluation.id());
        Err(first_error.map_or_else(none, reported))
    }
}

/// What was found, a line for each metric of each evaluation.
pub(super) fn table(found: &Against) -> String {
    let rows: Vec<Vec<String>> = found
        .contenders
        .iter()
        .flat_map(|contender| contender.metrics.iter().map(|metric| row(contender, metric)))
        .collect();
    let head = [
        "checkpoint",
        "metric",
        "its value",
        found.base.checkpoint.as_str(),
        "difference",
        "95 % interval",
        "p, corrected",
        "could show",
        "it is",
    ];
    render::table::table(&head, &rows)
}

fn row(contender: &Contender, metric: &AgainstBase) -> Vec<String> {
    let comparison = &metric.task.comparison;
    let difference = &comparison.difference;
    let interval = match (difference.ci_low, difference.ci_high) {
        (Some(low), Some(high)) => format!("{} to {}", decimal(low), decimal(high)),
        _ => "unknown".to_owned(),
    };
    vec![
        contender.side.checkpoint.clone(),
        metric.task.name.to_string(),
        decimal(comparison.a.value),
        decimal(comparison.b.value),
        decimal(difference.value),
        interval,
        p_value(comparison.p_adjusted),
        could_show(metric),
        comparison.verdict.as_str().to_owned(),
    ]
}

/// The smallest difference that the documents could have shown.
fn could_show(metric: &AgainstBase) -> String {
    match metric.detectable {
        _ if metric.is_blind => "none".to_owned(),
        Some(detectable) => decimal(detectable),
        None => "unknown".to_owned(),
    }
}

fn tell(found: &Against, worse: &[String]) {
    let base = &found.base.evaluation;
    for contender in &found.contenders {
        if contender.side.evaluation == *base {
            render::note(&format!("{base} was held against itself"));
        }
        if !contender.not_compared.is_empty() {
            render::note(&format!("not compared: {}", contender.not_compared.join(", ")));
        }
        held_out_is_left_out(contender.held_out_not_compared.as_deref());
        for metric in contender.metrics.iter().filter(|metric| metric.is_blind) {
            render::note(&format!(
                "{}: {} independent documents are too few to show any difference",
                metric.task.name, metric.task.comparison.difference.n
            ));
        }
    }
    worse.iter().for_each(|one| render::note(&format!("failed: {one}")));
    if worse.is_empty() {
        let tests = if found.tests == 1 { "1 test".to_owned() } else { format!("{} tests", found.tests) };
        render::note(&format!("passed: {tests} show nothing worse than {base}"));
    }
}

fn in_words(metric: &AgainstBase) -> String {
    let comparison = &metric.task.comparison;
    format!(
        "{} is {} instead of {}, corrected p {}",
        metric.task.name,
        decimal(comparison.a.value),
        decimal(comparison.b.value),
        p_value(comparison.p_adjusted)
    )
}
