//! Two evaluations by the tasks that both asked, document by document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::{MetricComparison, SEED, Verdict};
use crate::metric::Name;
use crate::statistics::{
    Difference, PairedOutcomes, Ratio, holm, minimum_detectable_effect, proportion_difference,
    ratio_difference,
};
use crate::{Evaluation, Result};

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

/// Tests every metric of the tasks that two evaluations asked alike, where its documents have values of their own.
pub(super) fn tasks(a: &Evaluation, b: &Evaluation) -> Result<Vec<TaskComparison>> {
    let mut found = Vec::new();
    for metric in a.metrics.iter().filter(|metric| metric.subtasks.is_empty()) {
        let name = metric.name();
        let Some(higher_is_better) = metric.higher_is_better.filter(|_| is_same(a, b, &name)) else {
            continue;
        };
        let Some(other) = b.metric(&name) else { continue };
        if let Some(difference) = paired(a, b, &name)? {
            found.push((name, metric.estimate(), other.estimate(), difference, higher_is_better));
        }
    }
    let p_values: Vec<f64> = found.iter().map(|(_, _, _, difference, _)| difference.p_value).collect();
    let adjusted = holm(&p_values);
    let one = |((name, a, b, difference, better), p_adjusted): ((Name, _, _, Difference, bool), f64)| {
        TaskComparison {
            name,
            comparison: MetricComparison {
                a,
                b,
                difference,
                verdict: Verdict::judge(difference.value, p_adjusted, better),
                minimum_detectable_effect: difference
                    .standard_error
                    .filter(|&error| error > 0.0)
                    .map(minimum_detectable_effect),
            },
            p_adjusted,
        }
    };
    Ok(found.into_iter().zip(adjusted).map(one).collect())
}

/// Whether two evaluations asked a task of the same documents, in the same way.
fn is_same(a: &Evaluation, b: &Evaluation, name: &Name) -> bool {
    let questions = |evaluation: &Evaluation| evaluation.facts.questions.get(name.task.as_ref()).cloned();
    questions(a).is_some_and(|asked| questions(b) == Some(asked))
}

/// The paired difference of a metric; none where documents have no values of their own.
fn paired(a: &Evaluation, b: &Evaluation, name: &Name) -> Result<Option<Difference>> {
    let key = format!("{},{}", name.metric, name.filter);
    let values = |evaluation: &Evaluation| -> BTreeMap<String, f64> {
        let values =
            evaluation.of_task(&name.task).filter_map(|one| Some((one.id.clone(), *one.metrics.get(&key)?)));
        values.collect()
    };
    let (first, second) = (values(a), values(b));
    let pairs: Vec<(f64, f64)> =
        first.iter().filter_map(|(id, value)| Some((*value, *second.get(id)?))).collect();
    let is_share = pairs.iter().all(|(a, b)| [a, b].into_iter().all(|value| *value == 0.0 || *value == 1.0));
    if is_share {
        let outcomes = PairedOutcomes::count(pairs.iter().map(|(a, b)| (*a == 1.0, *b == 1.0)));
        return Ok(proportion_difference(&outcomes));
    }
    let ratio = |value: f64| Ratio { numerator: value, denominator: 1.0 };
    let (a, b): (Vec<Ratio>, Vec<Ratio>) = pairs.iter().map(|(a, b)| (ratio(*a), ratio(*b))).unzip();
    Ok(ratio_difference(&a, &b, SEED))
}
