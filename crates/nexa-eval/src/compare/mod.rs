//! Two evaluations on the same items: what differs, whether it could be chance, and on which items.

mod against;
mod tasks;

use nexa_core::artifact::{Artifact, ArtifactId};
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::facts::TestSet;
use crate::metric::Name;
use crate::predictions::Prediction;
use crate::statistics::{
    CONFIDENCE, Difference, Estimate, PairedOutcomes, minimum_detectable_effect, proportion_difference,
    ratio_difference,
};
use crate::task::{Perplexity, Task};
use crate::{Error, Evaluation, Result};

pub use against::{Against, AgainstBase, Contender};
pub use tasks::TaskComparison;

/// The seed of every resampling here, so that a comparison gives the same numbers each time.
const SEED: u64 = 0;

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
    /// What both were asked of a held-out split, where both were.
    pub test_set: Option<TestSet>,
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
    /// The metrics of the tasks that both asked alike.
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
    /// What the test says of the first.
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

impl Comparison {
    /// What was found of a metric, where both have it and were asked alike.
    pub fn of(&self, name: &Name) -> Option<&MetricComparison> {
        let own = match name.held_out_task() {
            Some(Task::ExactMatch) if *name == Name::EXACT_MATCH => self.exact_match.as_ref(),
            Some(Task::Perplexity) if *name == Name::BITS_PER_BYTE => self.bits_per_byte.as_ref(),
            _ => None,
        };
        own.or_else(|| self.tasks.iter().find(|task| task.name == *name).map(|task| &task.comparison))
    }
}

/// Compares two evaluations.
///
/// # Errors
/// Fails when they are not of the same items under the same conditions, or cannot be read.
pub fn compare(a: &Artifact, b: &Artifact, tables: &dyn Tables) -> Result<Comparison> {
    let (a, b) = (Evaluation::read(a, tables)?, Evaluation::read(b, tables)?);
    let tasks = tasks::tasks(&a, &b);
    let is_held_out = a.facts.test_set.is_some() && b.facts.test_set.is_some();
    if !is_held_out && tasks.is_empty() {
        let reason = "they have no task in common that both asked in the same way".to_owned();
        return Err(Error::Incomparable { a: a.id().to_string(), b: b.id().to_string(), reason });
    }
    let mut found = Comparison {
        a: Side::of(&a),
        b: Side::of(&b),
        test_set: None,
        exact_match: None,
        outcomes: None,
        bits_per_byte: None,
        only_a_right: Vec::new(),
        only_b_right: Vec::new(),
        tasks,
    };
    if is_held_out {
        let pairs = a.pairs(&b, Task::ExactMatch)?;
        let only = |right: (bool, bool)| {
            let differs = |(a, b): &&(&Prediction, &Prediction)| a.correct.zip(b.correct) == Some(right);
            pairs.iter().filter(differs).map(|(a, b)| ItemComparison::new(a, b)).collect()
        };
        found.test_set.clone_from(&a.facts.test_set);
        found.exact_match = compare_metric(&a, &b, &Name::EXACT_MATCH)?;
        found.outcomes = outcomes(&pairs);
        found.bits_per_byte = compare_metric(&a, &b, &Name::BITS_PER_BYTE)?;
        (found.only_a_right, found.only_b_right) = (only((true, false)), only((false, true)));
    }
    Ok(found)
}

/// Tests the difference of two evaluations in exact match or bits per byte; `None` where either lacks the metric.
///
/// # Errors
/// Fails when they are not of the same items under the same conditions.
pub fn difference(a: &Evaluation, b: &Evaluation, metric: &Name) -> Result<Option<Difference>> {
    let Some(task) = metric.held_out_task() else { return Ok(None) };
    let pairs = a.pairs(b, task)?;
    Ok(match task {
        Task::ExactMatch => outcomes(&pairs).as_ref().and_then(proportion_difference),
        Task::Perplexity => {
            let scores = pairs.iter().filter_map(|(a, b)| a.score.as_ref().zip(b.score.as_ref()));
            let (a, b): (Vec<_>, Vec<_>) =
                scores.map(|(a, b)| (Perplexity::bits_and_bytes(a), Perplexity::bits_and_bytes(b))).unzip();
            ratio_difference(&a, &b, SEED)
        }
    })
}

fn compare_metric(a: &Evaluation, b: &Evaluation, metric: &Name) -> Result<Option<MetricComparison>> {
    let estimates = a.estimate(metric).zip(b.estimate(metric));
    Ok(estimates.zip(difference(a, b, metric)?).map(|((a, b), difference)| MetricComparison {
        a,
        b,
        difference,
        verdict: Verdict::of(difference.value, difference.p_value, metric),
        minimum_detectable_effect: difference
            .standard_error
            .filter(|&error| error > 0.0)
            .map(minimum_detectable_effect),
    }))
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
