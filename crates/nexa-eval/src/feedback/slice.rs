//! The slices of an evaluation: how each domain did, and what went wrong in it.

use std::collections::BTreeMap;

use nexa_core::lm::FinishReason;
use serde::{Deserialize, Serialize};

use crate::feedback::Config;
use crate::metric::NO_DOMAIN;
use crate::predictions::{Prediction, TOO_LONG};
use crate::statistics::proportion;
use crate::task::Task;
use crate::{Error, Evaluation, Result};

/// How one domain did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The domain.
    pub domain: String,
    /// Items of it.
    pub n: usize,
    /// Items that were answered right.
    pub correct: usize,
    /// Their share.
    pub accuracy: f64,
    /// Lower end of the interval of the share.
    pub ci_low: f64,
    /// Upper end of the interval.
    pub ci_high: f64,
    /// What the share is held against.
    pub bar: f64,
    /// Whether the whole interval lies below the bar.
    pub is_weak: bool,
    /// Rows of this domain that the model was trained on, where the data set was given.
    pub training_rows: Option<usize>,
    /// New prompts of this domain to ask for; 0 where the slice is not weak.
    pub recommended_new_prompts: usize,
    /// The failed items by what went wrong.
    pub causes: Causes,
    /// The ids of all failed items.
    pub failed_ids: Vec<String>,
    /// The first failed items.
    pub examples: Vec<Example>,
}

/// Why items failed. Each counts once, under the first cause that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Causes {
    /// The question did not fit into the model's context.
    pub too_long: usize,
    /// The answer ended at the limit of tokens without a final answer.
    pub cut_off: usize,
    /// The answer ended by itself without a final answer in the form asked for.
    pub no_final_answer: usize,
    /// There is a final answer, and it is wrong.
    pub wrong_answer: usize,
}

/// A failed item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The item.
    pub id: String,
    /// What was asked.
    pub prompt: String,
    /// The right final answer.
    pub reference: Option<String>,
    /// What the model answered.
    pub output: Option<String>,
    /// The final answer found in it.
    pub prediction: Option<String>,
}

/// Computes every slice of an evaluation, the lowest share first.
pub(super) fn slices(
    evaluation: &Evaluation,
    bar: f64,
    training_rows: Option<&BTreeMap<String, usize>>,
    config: &Config,
) -> Result<Vec<Slice>> {
    let mut domains: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    for prediction in evaluation.predictions.iter().filter(|prediction| prediction.correct.is_some()) {
        domains.entry(prediction.domain.as_deref().unwrap_or(NO_DOMAIN)).or_default().push(prediction);
    }
    let mut slices = Vec::new();
    for (domain, predictions) in domains {
        let outcomes: Vec<bool> = predictions.iter().map(|one| one.correct == Some(true)).collect();
        let nothing =
            Error::NothingMeasured { task: Task::ExactMatch.as_str().to_owned(), total: predictions.len() };
        let share = proportion(&outcomes).ok_or(nothing)?;
        let (ci_low, ci_high) = (share.ci_low.unwrap_or(0.0), share.ci_high.unwrap_or(1.0));
        let failed: Vec<&Prediction> =
            predictions.iter().copied().filter(|one| one.correct == Some(false)).collect();
        let is_weak = ci_high < bar;
        slices.push(Slice {
            domain: domain.to_owned(),
            n: share.n,
            correct: share.n - failed.len(),
            accuracy: share.value,
            ci_low,
            ci_high,
            bar,
            is_weak,
            training_rows: training_rows.map(|rows| rows.get(domain).copied().unwrap_or(0)),
            recommended_new_prompts: if is_weak { failed.len() * config.prompts_per_failure } else { 0 },
            causes: Causes::of(&failed),
            failed_ids: failed.iter().map(|one| one.id.clone()).collect(),
            examples: failed.iter().take(config.examples).map(|one| Example::of(one)).collect(),
        });
    }
    slices.sort_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then_with(|| a.domain.cmp(&b.domain)));
    Ok(slices)
}

impl Causes {
    pub(super) fn of(failed: &[&Prediction]) -> Self {
        let mut causes = Self::default();
        for one in failed {
            let reason = one.finish_reason.as_deref();
            *(if reason == Some(TOO_LONG) {
                &mut causes.too_long
            } else if one.prediction.is_some() {
                &mut causes.wrong_answer
            } else if reason == Some(FinishReason::Length.as_str()) {
                &mut causes.cut_off
            } else {
                &mut causes.no_final_answer
            }) += 1;
        }
        causes
    }
}

impl Example {
    pub(super) fn of(failed: &Prediction) -> Self {
        Self {
            id: failed.id.clone(),
            prompt: failed.question().to_owned(),
            reference: failed.reference.clone(),
            output: failed.output.clone(),
            prediction: failed.prediction.clone(),
        }
    }
}
