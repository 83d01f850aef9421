//! Two evaluations by the tasks that both asked, document by document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Evaluation;
use crate::compare::{MetricComparison, SEED, Verdict};
use crate::metric::{Metric, Name};
use crate::statistics::{
    Difference, Estimate, Ratio, holm, minimum_detectable_effect, paired_difference, ratio_difference,
};
use crate::task::Perplexity;

/// The metric of a text in which several tell the same: others are functions of it.
const BITS_PER_BYTE: &str = "bits_per_byte";
const PERPLEXITIES: [&str; 2] = ["word_perplexity", "byte_perplexity"];

/// A metric of a task that both evaluations asked in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// The metric.
    pub name: Name,
    /// Both values and their difference. The verdict goes by the corrected p-value.
    pub comparison: MetricComparison,
    /// The p-value corrected for all metrics that are compared, by Holm's method.
    pub p_adjusted: f64,
}

/// A metric of both evaluations, tested alone.
#[derive(Debug, Clone)]
pub(super) struct Tested {
    pub(super) name: Name,
    pub(super) a: Estimate,
    pub(super) b: Estimate,
    pub(super) difference: Difference,
    pub(super) higher_is_better: bool,
}

/// Tests every metric of the tasks that two evaluations asked alike, and corrects for their number.
pub(super) fn tasks(a: &Evaluation, b: &Evaluation) -> Vec<TaskComparison> {
    let found = tested(a, b);
    let p_values: Vec<f64> = found.iter().map(|one| one.difference.p_value).collect();
    let one = |(one, p_adjusted): (Tested, f64)| one.corrected(p_adjusted);
    found.into_iter().zip(holm(&p_values)).map(one).collect()
}

impl Tested {
    /// With the verdict that follows from a corrected p-value.
    pub(super) fn corrected(self, p_adjusted: f64) -> TaskComparison {
        let error = self.difference.standard_error.filter(|&error| error > 0.0);
        let comparison = MetricComparison {
            a: self.a,
            b: self.b,
            difference: self.difference,
            verdict: Verdict::judge(self.difference.value, p_adjusted, self.higher_is_better),
            minimum_detectable_effect: error.map(minimum_detectable_effect),
        };
        TaskComparison { name: self.name, comparison, p_adjusted }
    }
}

/// Tests every metric of the tasks that two evaluations asked alike, where its documents have values of their own.
pub(super) fn tested(a: &Evaluation, b: &Evaluation) -> Vec<Tested> {
    let one = |metric: &Metric| {
        let name = metric.name();
        let higher_is_better = metric.higher_is_better.filter(|_| is_same(a, b, &name))?;
        let other = b.metric(&name)?;
        let difference = match metric.metric.as_str() {
            BITS_PER_BYTE => bits(a, b, metric),
            _ => paired(a, b, &name),
        }?;
        Some(Tested { name, a: metric.estimate(), b: other.estimate(), difference, higher_is_better })
    };
    a.metrics.iter().filter(|metric| metric.subtasks.is_empty()).filter_map(one).collect()
}

/// Whether a metric is a function of one that was tested.
pub(super) fn is_told_by_bits(name: &Name, found: &[Tested]) -> bool {
    PERPLEXITIES.contains(&name.metric.as_ref())
        && found.iter().any(|one| one.name.task == name.task && one.name.metric == BITS_PER_BYTE)
}

/// Whether two evaluations asked a task of the same documents, in the same way.
fn is_same(a: &Evaluation, b: &Evaluation, name: &Name) -> bool {
    let questions = |evaluation: &Evaluation| evaluation.facts.questions.get(name.task.as_ref()).cloned();
    questions(a).is_some_and(|asked| questions(b) == Some(asked))
}

/// The paired difference of a metric; none where documents have no values of their own.
fn paired(a: &Evaluation, b: &Evaluation, name: &Name) -> Option<Difference> {
    let ratio = |value: f64| Ratio { numerator: value, denominator: 1.0 };
    let pairs = values(a, b, name).into_iter().map(|(a, b)| (ratio(a), ratio(b)));
    let (a, b): (Vec<Ratio>, Vec<Ratio>) = pairs.unzip();
    paired_difference(&a, &b, SEED)
}

/// The values of a metric of the documents that both have.
fn values(a: &Evaluation, b: &Evaluation, name: &Name) -> Vec<(f64, f64)> {
    let key = format!("{},{}", name.metric, name.filter);
    let values = |evaluation: &Evaluation| -> BTreeMap<String, f64> {
        let values =
            evaluation.of_task(&name.task).filter_map(|one| Some((one.id.clone(), *one.metrics.get(&key)?)));
        values.collect()
    };
    let (first, second) = (values(a), values(b));
    first.iter().filter_map(|(id, value)| Some((*value, *second.get(id)?))).collect()
}

/// The paired difference in bits per byte of the documents that were scored. A task may count other bytes than those that
/// the model read, so the difference is put into the unit of the metric; the test does not depend on it.
fn bits(a: &Evaluation, b: &Evaluation, metric: &Metric) -> Option<Difference> {
    let scores = |evaluation: &Evaluation| -> BTreeMap<String, Ratio> {
        let scores = evaluation
            .of_task(&metric.task)
            .filter_map(|one| Some((one.id.clone(), Perplexity::bits_and_bytes(one.score.as_ref()?))));
        scores.collect()
    };
    let (first, second) = (scores(a), scores(b));
    let pairs = first.iter().filter_map(|(id, score)| Some((*score, *second.get(id)?)));
    let (own, other): (Vec<Ratio>, Vec<Ratio>) = pairs.unzip();
    let found = ratio_difference(&own, &other, SEED)?;
    let (bits, bytes) =
        own.iter().fold((0.0, 0.0), |(bits, bytes), one| (bits + one.numerator, bytes + one.denominator));
    let unit = if bits > 0.0 { metric.value / (bits / bytes) } else { 1.0 };
    let scaled = |value: Option<f64>| value.map(|value| value * unit);
    Some(Difference {
        value: found.value * unit,
        standard_error: scaled(found.standard_error),
        ci_low: scaled(found.ci_low),
        ci_high: scaled(found.ci_high),
        ..found
    })
}
