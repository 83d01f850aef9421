//! What a metric says of each document, and whether two checkpoints differ in it.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use crate::Evaluation;
use crate::metric::{Metric, Name, is_flexibly_right};
use crate::predictions::Prediction;
use crate::statistics::normal::two_sided;
use crate::statistics::{
    Difference, PairedOutcomes, Ratio, divide, mcnemar, paired_difference, ratio_difference,
};

/// The seed of every resampling here, so that a board is the same each time.
const SEED: u64 = 0;

/// From so many documents on the normal distribution stands for that of all swaps, where only ranks are asked for.
const NORMAL_FROM: usize = 100;

/// The documents of a metric with what each adds to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Documents {
    /// By task and document.
    values: BTreeMap<(String, String), Ratio>,
    /// Whether the ratio of their sums is the metric. Where it is not, as with a word perplexity, it is one that orders
    /// models alike.
    is_metric: bool,
}

impl Documents {
    /// The documents of a metric in several evaluations that asked the same; none where documents have no values of their
    /// own.
    pub(super) fn of_all(found: &[(&Evaluation, &Metric)]) -> Vec<Option<Self>> {
        let all = |weighs_tasks| {
            found.iter().map(move |(evaluation, metric)| Self::of(evaluation, metric, weighs_tasks))
        };
        let pooled: Vec<Option<Self>> = all(false).collect();
        let is_sound = |documents: &[Option<Self>]| documents.iter().flatten().all(|one| one.is_metric);
        if is_sound(&pooled) || found.iter().all(|(_, metric)| metric.subtasks.is_empty()) {
            return pooled;
        }
        // A group may also be the mean of its tasks, whatever their sizes.
        let evened: Vec<Option<Self>> = all(true).collect();
        if is_sound(&evened) { evened } else { pooled }
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
            let scaled = move |ratio: Ratio| Ratio { numerator: ratio.numerator * weight, ..ratio };
            values.into_iter().map(move |(key, ratio)| (key, scaled(ratio)))
        });
        Self::new(weighted.collect(), metric.value)
    }

    fn new(values: BTreeMap<(String, String), Ratio>, value: f64) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let found = divide(values.values().copied());
        let is_metric = (found - value).abs() <= 1e-9 * value.abs().max(1.0);
        Some(Self { values, is_metric })
    }

    /// Both models' values of the documents that both have, in the order of these.
    fn paired(&self, other: &Self) -> (Vec<Ratio>, Vec<Ratio>) {
        let pairs = self.values.iter().filter_map(|(key, value)| Some((*value, *other.values.get(key)?)));
        pairs.unzip()
    }

    /// Tests this one's value minus the other's; `difference` is the one of the metrics.
    pub(super) fn difference(&self, other: &Self, difference: f64) -> Option<Difference> {
        let (a, b) = self.paired(other);
        let found = paired_difference(&a, &b, SEED)?;
        if self.is_metric && other.is_metric {
            return Some(found);
        }
        Some(Difference { value: difference, standard_error: None, ci_low: None, ci_high: None, ..found })
    }

    /// The p-value alone, fast enough for every pair of many models.
    pub(super) fn p_value(&self, other: &Self) -> Option<f64> {
        let (a, b) = self.paired(other);
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

fn values(evaluation: &Evaluation, task: &str, value: &ValueOf) -> Vec<((String, String), Ratio)> {
    let one = |one: &Prediction| Some(((one.task.clone(), one.id.clone()), value(one)?));
    evaluation.of_task(task).filter_map(one).collect()
}

/// What a document adds to a metric.
fn value_of(name: &Name) -> ValueOf {
    let outcome = |right: bool| Ratio { numerator: f64::from(u8::from(right)), denominator: 1.0 };
    let nats = |one: &Prediction, weight: fn(usize, usize) -> usize| {
        let score = one.score?;
        Some(Ratio { numerator: -score.logprob_nats, denominator: weight(score.tokens, score.bytes) as f64 })
    };
    let bits = move |one: &Prediction| {
        let ratio = nats(one, |_, bytes| bytes)?;
        Some(Ratio { numerator: ratio.numerator / LN_2, ..ratio })
    };
    let key = format!("{},{}", name.metric, name.filter);
    let is = |other: Name| *name == other;
    if is(Name::EXACT_MATCH) {
        Box::new(move |one| one.correct.map(outcome))
    } else if is(Name::EXACT_MATCH_FLEXIBLE) {
        Box::new(move |one| is_flexibly_right(one).map(outcome))
    } else if is(Name::LOSS) || is(Name::PERPLEXITY) {
        Box::new(move |one| nats(one, |tokens, _| tokens))
    } else if is(Name::BITS_PER_BYTE) {
        Box::new(bits)
    } else if ["bits_per_byte", "byte_perplexity", "word_perplexity"].contains(&name.metric.as_ref()) {
        // Of one set of documents, all three order models as bits do.
        Box::new(bits)
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
            (("t".to_owned(), format!("{at:04}")), ratio)
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
    fn a_difference_in_other_units_has_no_interval() {
        let (a, b) = (documents(&[1.5, 2.5, 3.5, 4.5], 3.0), documents(&[1.0, 2.0, 3.0, 4.0], 2.5));
        let found = a.difference(&b, 0.5).unwrap();
        assert_eq!((found.value, found.p_value, found.ci_low.is_some()), (0.5, 0.125, true));
        let monotone = documents(&[1.5, 2.5, 3.5, 4.5], 20.0);
        let found = monotone.difference(&b, 17.5).unwrap();
        assert_eq!((found.value, found.p_value, found.ci_low), (17.5, 0.125, None));
    }
}
