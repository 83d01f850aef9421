//! What two evaluations can be tested in: the metrics of everything that both were asked alike, document by document.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::compare::documents::{self, BITS_PER_BYTE, PERPLEXITIES};
use crate::compare::{MetricComparison, Verdict};
use crate::metric::{Metric, Name};
use crate::statistics::{Difference, Estimate, minimum_detectable_effect};
use crate::task::Task;
use crate::{Error, Evaluation, Result};

/// Metrics over a held-out split that are tested: the others say the same in other units, or nearly the same.
pub(super) const HELD_OUT: [Name; 2] = [Name::EXACT_MATCH, Name::BITS_PER_BYTE];

/// A metric of a task or a group that both evaluations asked in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// The metric.
    pub name: Name,
    /// Both values and their difference.
    pub comparison: MetricComparison,
}

/// A metric of both evaluations, tested alone.
#[derive(Debug, Clone)]
pub(crate) struct Tested {
    pub(crate) name: Name,
    pub(crate) a: Estimate,
    pub(crate) b: Estimate,
    pub(crate) difference: Difference,
    pub(crate) higher_is_better: bool,
}

/// Everything that two evaluations have in common, each metric tested alone.
#[derive(Debug)]
pub(super) struct Tests {
    /// Those over a held-out split, then those of tasks and groups. A group is tested beside its tasks, as one more metric.
    pub(super) found: Vec<Tested>,
    /// Why what was asked of a held-out split is left out, where it is.
    pub(super) held_out_not_compared: Option<String>,
}

impl Tests {
    /// Tests every metric that has values of single documents.
    ///
    /// # Errors
    /// Fails where there is none.
    pub(super) fn of(a: &Evaluation, b: &Evaluation) -> Result<Self> {
        let held_out_not_compared = held_out_apart(a, b);
        let has_bits = |task: &str| {
            let has = |one: &Evaluation| {
                one.metrics.iter().any(|metric| metric.task == task && metric.metric == BITS_PER_BYTE)
            };
            has(a) && has(b)
        };
        let of_tasks = a.metrics.iter().map(Metric::name).filter(|name| {
            let is_told = PERPLEXITIES.contains(&name.metric.as_ref()) && has_bits(name.task.as_ref());
            name.held_out_task().is_none() && !is_told
        });
        let names = HELD_OUT.into_iter().chain(of_tasks);
        let found: Vec<Tested> = names.filter_map(|name| Tested::of(a, b, &name).ok()).collect();
        if found.is_empty() {
            let both = a.facts.test_set.is_some() && b.facts.test_set.is_some();
            let reason = held_out_not_compared
                .filter(|_| both)
                .unwrap_or_else(|| "they have no task in common that both asked in the same way".to_owned());
            return Err(Error::Incomparable { a: a.id().to_string(), b: b.id().to_string(), reason });
        }
        Ok(Self { found, held_out_not_compared })
    }
}

impl Tested {
    /// Tests one metric of two evaluations, or says why that cannot be.
    pub(crate) fn of(a: &Evaluation, b: &Evaluation, name: &Name) -> Result<Self, String> {
        let (own, theirs) = (measured(a, name)?, measured(b, name)?);
        if let Some(reason) = asked_apart((a, own), (b, theirs)) {
            return Err(reason);
        }
        let of_held_out = || name.held_out_task().map(|_| name.is_higher_better());
        let higher_is_better =
            own.higher_is_better.or_else(of_held_out).ok_or("no value of it is better than another")?;
        let difference = documents::difference((a, own), (b, theirs))
            .ok_or("it has no values of single documents, by which it could be tested")?;
        Ok(Self { name: name.clone(), a: own.estimate(), b: theirs.estimate(), difference, higher_is_better })
    }

    /// With the verdict that follows from a corrected p-value.
    pub(crate) fn corrected(self, p_adjusted: f64) -> TaskComparison {
        let error = self.difference.standard_error.filter(|&error| error > 0.0);
        let comparison = MetricComparison {
            a: self.a,
            b: self.b,
            difference: self.difference,
            p_adjusted,
            verdict: Verdict::judge(self.difference.value, p_adjusted, self.higher_is_better),
            minimum_detectable_effect: error.map(minimum_detectable_effect),
        };
        TaskComparison { name: self.name, comparison }
    }
}

/// Whether a metric is a function of one that was tested.
pub(super) fn is_told_by_bits(name: &Name, found: &[Tested]) -> bool {
    PERPLEXITIES.contains(&name.metric.as_ref())
        && found.iter().any(|one| one.name.task == name.task && one.name.metric == BITS_PER_BYTE)
}

fn measured<'e>(evaluation: &'e Evaluation, name: &Name) -> Result<&'e Metric, String> {
    evaluation.metric(name).ok_or_else(|| format!("{} has no {name}", evaluation.id()))
}

/// What the evaluations of a metric were asked differently, if anything.
fn asked_apart((a, own): documents::Measured<'_>, (b, theirs): documents::Measured<'_>) -> Option<String> {
    if own.name().held_out_task().is_some() {
        return held_out_apart(a, b);
    }
    let tasks = tasks_of(own);
    if tasks != tasks_of(theirs) {
        return Some(format!("`{}` is of other tasks in {} than in {}", own.task, a.id(), b.id()));
    }
    tasks.into_iter().find_map(|task| match (a.facts.questions.get(task), b.facts.questions.get(task)) {
        (Some(of_a), Some(of_b)) if of_a == of_b => None,
        (Some(of_a), Some(of_b)) if of_a.documents != of_b.documents => {
            Some(format!("`{task}` was asked of {} and of {} documents", of_a.documents, of_b.documents))
        }
        _ => Some(format!("`{task}` was not asked of the same documents in the same way")),
    })
}

/// The tasks that a metric is over: those of its group, or its own.
fn tasks_of(metric: &Metric) -> BTreeSet<&str> {
    if metric.subtasks.is_empty() {
        return BTreeSet::from([metric.task.as_str()]);
    }
    metric.subtasks.iter().map(String::as_str).collect()
}

/// Why what two evaluations asked of a held-out split cannot be compared, where either asked anything of one.
fn held_out_apart(a: &Evaluation, b: &Evaluation) -> Option<String> {
    if a.facts.test_set.is_none() && b.facts.test_set.is_none() {
        return None;
    }
    let error = Task::ALL.into_iter().find_map(|task| a.pairs(b, task).err())?;
    Some(match error {
        Error::Incomparable { reason, .. } => reason,
        other => other.to_string(),
    })
}
