//! What a metric says of each document, and whether two evaluations differ in it.
//!
//! The tests here are those of comparisons and of leaderboards alike.

use std::collections::BTreeMap;

use crate::Evaluation;
use crate::metric::{Metric, Name, is_flexibly_right};
use crate::predictions::Prediction;
use crate::statistics::normal::two_sided;
use crate::statistics::{
    Difference, PairedOutcomes, Ratio, divide, independent, mcnemar, paired_difference, ratio_difference,
};
use crate::task::Perplexity;

/// The seed of every resampling here, so that a comparison gives the same numbers each time.
const SEED: u64 = 0;

/// From so many documents on the normal distribution stands for that of all swaps, where only ranks are asked for.
const NORMAL_FROM: usize = 100;

/// The bits per byte of a text, of which its perplexities by words and bytes are functions.
pub(super) const BITS_PER_BYTE: &str = "bits_per_byte";
/// These perplexities.
pub(super) const PERPLEXITIES: [&str; 2] = ["word_perplexity", "byte_perplexity"];

/// An evaluation with a metric of it.
pub(crate) type Measured<'a> = (&'a Evaluation, &'a Metric);

/// The documents of a metric with what each adds to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Documents {
    /// By task and document.
    values: BTreeMap<(String, String), Document>,
    /// What makes the metric of the ratio of their sums: 1, or another factor where a task counts other bytes than those that
    /// the model read. None where the metric is no multiple of the ratio, as a word perplexity; then it is one that orders
    /// models alike.
    unit: Option<f64>,
    /// Whether tasks count alike, whatever their sizes: then what a document adds depends on which others there are.
    weighs_tasks: bool,
}

/// What a document adds to a metric, and the source that it shares with others.
#[derive(Debug, Clone, PartialEq)]
struct Document {
    ratio: Ratio,
    source: Option<String>,
}

/// Tests a metric of one evaluation against that of another; none where documents have no values of their own. The
/// difference and its interval are over the documents that both have a value of; a metric that is no ratio of its documents
/// has the difference of the metrics, and no interval. A mean of tasks is tested where both have the same documents alone.
pub(crate) fn difference(a: Measured<'_>, b: Measured<'_>) -> Option<Difference> {
    let value = a.1.value - b.1.value;
    match Documents::of_all(&[a, b]).as_slice() {
        [Some(a), Some(b)] => a.difference(b, value),
        _ => None,
    }
}

impl Documents {
    /// The documents of a metric in several evaluations that asked the same; none where documents have no values of their
    /// own, and none for a group that is no mean of its documents or tasks.
    pub(crate) fn of_all(found: &[Measured<'_>]) -> Vec<Option<Self>> {
        let all = |weighs_tasks| -> Vec<Option<Self>> {
            found.iter().map(|(evaluation, metric)| Self::of(evaluation, metric, weighs_tasks)).collect()
        };
        let pooled = all(false);
        let is_sound = |documents: &[Option<Self>]| documents.iter().flatten().all(|one| one.unit.is_some());
        if is_sound(&pooled) || found.iter().all(|(_, metric)| metric.subtasks.is_empty()) {
            return pooled;
        }
        // A group may also be the mean of its tasks, whatever their sizes.
        let evened = all(true);
        if is_sound(&evened) { evened } else { vec![None; found.len()] }
    }

    /// The documents of one evaluation; `weighs_tasks` counts the tasks of a group alike rather than the documents.
    fn of(evaluation: &Evaluation, metric: &Metric, weighs_tasks: bool) -> Option<Self> {
        let own = std::slice::from_ref(&metric.task);
        let tasks = if metric.subtasks.is_empty() { own } else { &metric.subtasks };
        let value_of = value_of(&metric.name());
        let by_task: Vec<Vec<_>> = tasks.iter().map(|task| values(evaluation, task, &value_of)).collect();
        let even = by_task.iter().map(Vec::len).sum::<usize>() as f64 / tasks.len() as f64;
        let weighted = by_task.into_iter().flat_map(|values| {
            let weight = if weighs_tasks { even / values.len() as f64 } else { 1.0 };
            values.into_iter().map(move |(key, mut document)| {
                document.ratio.numerator *= weight;
                (key, document)
            })
        });
        let mut documents = Self { weighs_tasks, ..Self::new(weighted.collect(), metric.value)? };
        if documents.unit.is_none() && metric.metric == BITS_PER_BYTE && metric.subtasks.is_empty() {
            documents.unit = Some(metric.value / documents.ratio()).filter(|unit| unit.is_finite());
        }
        Some(documents)
    }

    fn new(values: BTreeMap<(String, String), Document>, value: f64) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut documents = Self { values, unit: None, weighs_tasks: false };
        let is_metric = (documents.ratio() - value).abs() <= 1e-9 * value.abs().max(1.0);
        documents.unit = is_metric.then_some(1.0);
        Some(documents)
    }

    /// The ratio of the sums of all documents.
    fn ratio(&self) -> f64 {
        divide(self.values.values().map(|document| document.ratio))
    }

    /// Both models' values of the documents that both have, in the order of these; those of one source are one. None where
    /// tasks are weighed and the documents are not the same: the weights would be those of other documents.
    fn paired(&self, other: &Self) -> Option<(Vec<Ratio>, Vec<Ratio>)> {
        let is_weighed = self.weighs_tasks || other.weighs_tasks;
        if is_weighed && !self.values.keys().eq(other.values.keys()) {
            return None;
        }
        Some(independent(
            self.values.iter().filter_map(|(key, own)| {
                Some((own.ratio, other.values.get(key)?.ratio, own.source.as_deref()))
            }),
        ))
    }

    /// What makes the metric of the ratio in both.
    fn common_unit(&self, other: &Self) -> Option<f64> {
        let (own, theirs) = self.unit.zip(other.unit)?;
        ((own - theirs).abs() <= 1e-9 * own.abs()).then_some(own)
    }

    /// Tests this one's value minus the other's, over the documents that both have; `difference` is the one of the metrics,
    /// which stands where theirs says nothing.
    pub(crate) fn difference(&self, other: &Self, difference: f64) -> Option<Difference> {
        let (a, b) = self.paired(other)?;
        let found = paired_difference(&a, &b, SEED)?;
        let Some(unit) = self.common_unit(other) else {
            return Some(Difference {
                value: difference,
                standard_error: None,
                ci_low: None,
                ci_high: None,
                ..found
            });
        };
        let scaled = |value: Option<f64>| value.map(|value| value * unit);
        Some(Difference {
            value: found.value * unit,
            standard_error: scaled(found.standard_error),
            ci_low: scaled(found.ci_low),
            ci_high: scaled(found.ci_high),
            ..found
        })
    }

    /// The p-value alone, fast enough for every pair of many models.
    pub(crate) fn p_value(&self, other: &Self) -> Option<f64> {
        let (a, b) = self.paired(other)?;
        if let Some(outcomes) = PairedOutcomes::of_ratios(&a, &b) {
            return (outcomes.n() > 0).then(|| mcnemar(outcomes.only_a, outcomes.only_b));
        }
        if a.len() < NORMAL_FROM {
            return ratio_difference(&a, &b, SEED).map(|difference| difference.p_value);
        }
        Some(normal_p_value(&a, &b))
    }
}

/// The p-value of the difference of two ratios, by its linear part in each document.
fn normal_p_value(a: &[Ratio], b: &[Ratio]) -> f64 {
    let sides = [a, b].map(|side| {
        let below: f64 = side.iter().map(|one| one.denominator).sum();
        (divide(side.iter().copied()), below)
    });
    let [(ratio_a, below_a), (ratio_b, below_b)] = sides;
    let difference = ratio_a - ratio_b;
    let part = |(a, b): (&Ratio, &Ratio)| {
        let of_a = (a.numerator - ratio_a * a.denominator) / below_a;
        (of_a - (b.numerator - ratio_b * b.denominator) / below_b).powi(2)
    };
    let n = a.len() as f64;
    let error = (a.iter().zip(b).map(part).sum::<f64>() * n / (n - 1.0)).sqrt();
    if difference == 0.0 { 1.0 } else { two_sided(difference / error) }
}

type ValueOf = Box<dyn Fn(&Prediction) -> Option<Ratio>>;

fn values(evaluation: &Evaluation, task: &str, value: &ValueOf) -> Vec<((String, String), Document)> {
    let one = |one: &Prediction| {
        let document = Document { ratio: value(one)?, source: one.group.clone() };
        Some(((one.task.clone(), one.id.clone()), document))
    };
    evaluation.of_task(task).filter_map(one).collect()
}

/// What a document adds to a metric.
fn value_of(name: &Name) -> ValueOf {
    let key = format!("{},{}", name.metric, name.filter);
    let is = |other: Name| *name == other;
    if is(Name::EXACT_MATCH) {
        Box::new(|one| one.correct.map(Ratio::outcome))
    } else if is(Name::EXACT_MATCH_FLEXIBLE) {
        Box::new(|one| is_flexibly_right(one).map(Ratio::outcome))
    } else if is(Name::LOSS) || is(Name::PERPLEXITY) {
        Box::new(|one| one.score.as_ref().map(Perplexity::nats_and_tokens))
    } else if name.metric == BITS_PER_BYTE || PERPLEXITIES.contains(&name.metric.as_ref()) {
        // Of one set of documents, all three order models as bits do.
        Box::new(|one| one.score.as_ref().map(Perplexity::bits_and_bytes))
    } else {
        Box::new(move |one| Some(Ratio { numerator: *one.metrics.get(&key)?, denominator: 1.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    fn documents(values: &[f64], value: f64) -> Documents {
        let one = |(at, numerator): (usize, &f64)| {
            let ratio = Ratio { numerator: *numerator, denominator: 1.0 };
            (("t".to_owned(), format!("{at:04}")), Document { ratio, source: None })
        };
        Documents::new(values.iter().enumerate().map(one).collect(), value).unwrap()
    }

    /// By hand: differences of 1 and 0 in turn over 100 documents have mean 0.5 and standard error 0.050252.
    #[test]
    fn many_documents_are_tested_by_the_normal_distribution() {
        let a: Vec<f64> = (0..100).map(|at| 2.5 + f64::from(at % 2)).collect();
        let b = vec![2.5 - 0.4; 100];
        let (a, b) = (documents(&a, 3.0), documents(&b, 2.1));
        let error = (0.25 * 100.0 / 99.0 / 100.0_f64).sqrt();
        assert_close(a.p_value(&b).unwrap(), two_sided(0.9 / error), 1e-12, "p");
        assert_eq!(a.p_value(&a), Some(1.0));
    }

    #[test]
    fn few_documents_and_outcomes_are_tested_exactly() {
        // Four differences of one sign: 2 of 16 swaps.
        let (a, b) = (documents(&[1.5, 2.5, 3.5, 4.5], 3.0), documents(&[1.0, 2.0, 3.0, 4.0], 2.5));
        assert_eq!(a.p_value(&b), Some(0.125));
        let (right, wrong) = (documents(&[1.0; 6], 1.0), documents(&[0.0; 6], 0.0));
        assert_eq!(right.p_value(&wrong), Some(2.0 * 0.5_f64.powi(6)));
    }

    #[test]
    fn documents_of_one_source_are_tested_as_one() {
        // Six questions of two texts: as six, 2 of 64 swaps reach the difference; as two, 2 of 4 do.
        let of_texts = |values: [f64; 6], value| {
            let mut documents = documents(&values, value);
            for (at, document) in documents.values.values_mut().enumerate() {
                document.source = Some(format!("text {}", at / 3));
            }
            documents
        };
        let (right, wrong) = (of_texts([1.0; 6], 1.0), of_texts([0.0; 6], 0.0));
        assert_eq!(right.p_value(&wrong), Some(0.5));
        let found = right.difference(&wrong, 1.0).unwrap();
        assert_eq!((found.value, found.p_value, found.n), (1.0, 0.5, 2));
    }

    /// By hand: the documents' bits are twice as many over the bytes that the task counts.
    #[test]
    fn a_difference_is_put_into_the_unit_of_the_metric() {
        let in_unit = |values: &[f64], value: f64| {
            let mut documents = documents(values, value);
            documents.unit = documents.unit.or(Some(value / documents.ratio()));
            documents
        };
        let (a, b) = ([1.5, 2.5, 3.5, 4.5], [1.0, 2.0, 3.0, 4.0]);
        let plain = in_unit(&a, 3.0).difference(&in_unit(&b, 2.5), 0.5).unwrap();
        let doubled = in_unit(&a, 6.0).difference(&in_unit(&b, 5.0), 1.0).unwrap();
        assert_eq!((plain.value, doubled.value, doubled.p_value), (0.5, 1.0, plain.p_value));
        assert_eq!(doubled.ci_low.unwrap(), 2.0 * plain.ci_low.unwrap());
        // Factors that differ make no unit.
        let found = in_unit(&a, 6.0).difference(&in_unit(&b, 2.5), 3.5).unwrap();
        assert_eq!((found.value, found.ci_low), (3.5, None));
    }

    #[test]
    fn weighed_tasks_are_tested_over_the_same_documents_alone() {
        let weighed = |values: &[f64], value| Documents { weighs_tasks: true, ..documents(values, value) };
        let (a, b) = (weighed(&[1.5, 2.5, 3.5], 2.5), weighed(&[1.0, 2.0, 3.0], 2.0));
        assert!(a.difference(&b, 0.5).is_some() && a.p_value(&b).is_some());
        let fewer = weighed(&[1.0, 2.0], 1.5);
        assert_eq!((a.difference(&fewer, 1.0), a.p_value(&fewer)), (None, None));
        // Documents that weigh the same are tested where both have them.
        let (a, fewer) = (documents(&[1.5, 2.5, 3.5], 2.5), documents(&[1.0, 2.0], 1.5));
        assert_eq!(a.difference(&fewer, 1.0).unwrap().value, 0.5);
    }

    #[test]
    fn a_difference_in_other_units_has_no_interval() {
        let (a, b) = (documents(&[1.5, 2.5, 3.5, 4.5], 3.0), documents(&[1.0, 2.0, 3.0, 4.0], 2.5));
        let found = a.difference(&b, 0.5).unwrap();
        assert_eq!((found.value, found.p_value, found.ci_low.is_some()), (0.5, 0.125, true));
        let monotone = documents(&[1.5, 2.5, 3.5, 4.5], 20.0);
        let found = monotone.difference(&b, 17.5).unwrap();
        assert_eq!((found.value, found.p_value, found.ci_low), (17.5, 0.125, None));
    }
}
