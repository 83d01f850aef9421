//! Two evaluations on the same items: what differs, whether it could be chance, and on which items.
//!
//! Everything that is compared at once is one family of tests: metrics over a held-out split, of tasks, and of groups of
//! tasks. A group's metric depends on those of its tasks, which Holm's correction allows for: it holds whatever tests have to
//! do with each other.

mod against;
pub(crate) mod documents;
mod tasks;

use nexa_core::artifact::{Artifact, ArtifactId};
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::facts::TestSet;
use crate::metric::Name;
use crate::predictions::Prediction;
use crate::statistics::{CONFIDENCE, Difference, Estimate, PairedOutcomes, holm};
use crate::task::Task;
use crate::{Evaluation, Result};

pub use against::{Against, AgainstBase, Contender};
pub use tasks::TaskComparison;
pub(crate) use tasks::Tested;
use tasks::Tests;

/// What a paired test says of one model against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is better, at 5% significance.
    #[serde(rename = "better")]
    Better,
    /// It is worse, at 5% significance.
    #[serde(rename = "worse")]
    Worse,
    /// The test shows no difference, which is not to say that there is none.
    #[serde(rename = "no difference shown")]
    NoDifferenceShown,
}

impl Verdict {
    /// Judges a difference in a metric over a held-out split by its p-value.
    pub fn of(difference: f64, p_value: f64, metric: &Name) -> Self {
        Self::judge(difference, p_value, metric.is_higher_better())
    }

    /// Judges a difference in any metric by its p-value.
    pub(crate) fn judge(difference: f64, p_value: f64, higher_is_better: bool) -> Self {
        if p_value >= 1.0 - CONFIDENCE {
            Self::NoDifferenceShown
        } else if (difference > 0.0) == higher_is_better {
            Self::Better
        } else {
            Self::Worse
        }
    }

    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifferenceShown => "no difference shown",
        }
    }
}

/// The comparison of evaluations `a` and `b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first evaluation.
    pub a: Side,
    /// The second evaluation.
    pub b: Side,
    /// What both were asked of a held-out split, where both were asked the same.
    pub test_set: Option<TestSet>,
    /// Why what was asked of a held-out split is not compared, where either was asked anything of one.
    pub held_out_not_compared: Option<String>,
    /// Exact match, where both have it.
    pub exact_match: Option<MetricComparison>,
    /// How right and wrong answers fall together, where both have exact match.
    pub outcomes: Option<PairedOutcomes>,
    /// Bits per byte, where both have it, over the items that both could read.
    pub bits_per_byte: Option<MetricComparison>,
    /// Items that the first alone got right.
    pub only_a_right: Vec<ItemComparison>,
    /// Items that the second alone got right.
    pub only_b_right: Vec<ItemComparison>,
    /// The metrics of the tasks, and groups of tasks, that both asked alike.
    pub tasks: Vec<TaskComparison>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The evaluation.
    pub evaluation: ArtifactId,
    /// The checkpoint.
    pub checkpoint: String,
    /// The model's name.
    pub model: String,
}

/// One metric of both evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// The first evaluation's value.
    pub a: Estimate,
    /// The second's.
    pub b: Estimate,
    /// The first minus the second, by a paired test.
    pub difference: Difference,
    /// The p-value corrected for everything that is compared at once, by Holm's method.
    pub p_adjusted: f64,
    /// What the test says of the first, by the corrected p-value.
    pub verdict: Verdict,
    /// The smallest true difference that such a comparison finds in four of five repetitions.
    pub minimum_detectable_effect: Option<f64>,
}

/// An item on which two models differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemComparison {
    /// The item.
    pub id: String,
    /// Its slice.
    pub domain: Option<String>,
    /// What was asked.
    pub prompt: String,
    /// The right final answer.
    pub reference: Option<String>,
    /// What the first answered.
    pub a_output: Option<String>,
    /// What the second answered.
    pub b_output: Option<String>,
}

/// Compares two evaluations in everything that both were asked alike.
///
/// # Errors
/// Fails when they are of the same items under the same conditions in nothing, or cannot be read.
pub fn compare(a: &Artifact, b: &Artifact, tables: &dyn Tables) -> Result<Comparison> {
    let (a, b) = (Evaluation::read(a, tables)?, Evaluation::read(b, tables)?);
    let Tests { found, held_out_not_compared } = Tests::of(&a, &b)?;
    let p_values: Vec<f64> = found.iter().map(|one| one.difference.p_value).collect();
    let corrected = found.into_iter().zip(holm(&p_values)).map(|(one, p_adjusted)| one.corrected(p_adjusted));
    let (held_out, tasks): (Vec<_>, Vec<_>) = corrected.partition(|one| one.name.held_out_task().is_some());
    let of = |name: &Name| held_out.iter().find(|one| one.name == *name).map(|one| one.comparison);
    let test_set = a.facts.test_set.clone().filter(|_| held_out_not_compared.is_none());
    let pairs = if test_set.is_some() { a.pairs(&b, Task::ExactMatch)? } else { Vec::new() };
    let only = |right: (bool, bool)| {
        let differs = |(a, b): &&(&Prediction, &Prediction)| a.correct.zip(b.correct) == Some(right);
        pairs.iter().filter(differs).map(|(a, b)| ItemComparison::new(a, b)).collect()
    };
    Ok(Comparison {
        a: Side::of(&a),
        b: Side::of(&b),
        test_set,
        held_out_not_compared,
        exact_match: of(&Name::EXACT_MATCH),
        outcomes: outcomes(&pairs),
        bits_per_byte: of(&Name::BITS_PER_BYTE),
        only_a_right: only((true, false)),
        only_b_right: only((false, true)),
        tasks,
    })
}

/// Tests the difference of two evaluations in a metric over a held-out split; `None` where either lacks it.
///
/// # Errors
/// Fails when they are not of the same items under the same conditions.
pub fn difference(a: &Evaluation, b: &Evaluation, metric: &Name) -> Result<Option<Difference>> {
    let Some(task) = metric.held_out_task() else { return Ok(None) };
    a.pairs(b, task)?;
    let both = a.metric(metric).zip(b.metric(metric));
    Ok(both.and_then(|(own, theirs)| documents::difference((a, own), (b, theirs))))
}

fn outcomes(pairs: &[(&Prediction, &Prediction)]) -> Option<PairedOutcomes> {
    let graded: Vec<_> = pairs.iter().filter_map(|(a, b)| a.correct.zip(b.correct)).collect();
    (!graded.is_empty()).then(|| PairedOutcomes::count(graded))
}

impl Side {
    fn of(evaluation: &Evaluation) -> Self {
        Self {
            evaluation: evaluation.id().clone(),
            checkpoint: evaluation.checkpoint.id.clone(),
            model: evaluation.model.clone(),
        }
    }
}

impl ItemComparison {
    fn new(a: &Prediction, b: &Prediction) -> Self {
        Self {
            id: a.id.clone(),
            domain: a.domain.clone(),
            prompt: a.prompt.clone(),
            reference: a.reference.clone(),
            a_output: a.output.clone(),
            b_output: b.output.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_knows_which_way_is_better() {
        let check = |difference: f64, p_value: f64, metric: &Name, expected: Verdict| {
            assert_eq!(Verdict::of(difference, p_value, metric), expected);
        };
        check(0.1, 0.01, &Name::EXACT_MATCH, Verdict::Better);
        check(-0.1, 0.01, &Name::EXACT_MATCH, Verdict::Worse);
        check(0.1, 0.01, &Name::BITS_PER_BYTE, Verdict::Worse);
        check(-0.1, 0.01, &Name::BITS_PER_BYTE, Verdict::Better);
        check(-0.1, 0.2, &Name::BITS_PER_BYTE, Verdict::NoDifferenceShown);
    }
}
