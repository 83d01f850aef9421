//! The metrics of an evaluation, as they stand in `metrics.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::predictions::Prediction;
use crate::statistics::{CONFIDENCE, Estimate, proportion};
use crate::task::{ExactMatch, Perplexity, Task, flexible_answer};

/// The name of the file in an evaluation.
pub const FILE: &str = "metrics.json";

/// The slice of items that name no domain.
pub const NO_DOMAIN: &str = "none";

/// One metric over all items, and over those of each domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The task that measured it.
    pub task: Task,
    /// What it is.
    pub metric: Name,
    /// The value over all items.
    pub value: f64,
    /// Its standard error.
    pub standard_error: Option<f64>,
    /// Lower end of the interval.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// Confidence of the interval.
    pub confidence: f64,
    /// Items that it is over.
    pub n: usize,
    /// Items longer than the model's context: wrong answers for exact match, left out of perplexity.
    pub too_long: usize,
    /// Whether a larger value is better.
    pub higher_is_better: bool,
    /// The value of each domain.
    pub by_domain: BTreeMap<String, Estimate>,
}

impl Metric {
    /// The value over all items with its interval.
    pub fn estimate(&self) -> Estimate {
        Estimate {
            value: self.value,
            standard_error: self.standard_error,
            ci_low: self.ci_low,
            ci_high: self.ci_high,
            n: self.n,
        }
    }
}

/// A metric by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Share of right strict answers.
    ExactMatch,
    /// Share of right flexible answers.
    ExactMatchFlexible,
    /// Nats per token.
    Loss,
    /// The exponential of the loss.
    Perplexity,
    /// Bits per UTF-8 byte.
    BitsPerByte,
}

impl Name {
    /// Every metric, in the order of the file.
    pub const ALL: [Self; 5] =
        [Self::ExactMatch, Self::ExactMatchFlexible, Self::Loss, Self::Perplexity, Self::BitsPerByte];

    /// The word for it in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact_match",
            Self::ExactMatchFlexible => "exact_match_flexible",
            Self::Loss => "loss",
            Self::Perplexity => "perplexity",
            Self::BitsPerByte => "bits_per_byte",
        }
    }

    /// The task that measures it.
    pub fn task(self) -> Task {
        match self {
            Self::ExactMatch | Self::ExactMatchFlexible => Task::ExactMatch,
            Self::Loss | Self::Perplexity | Self::BitsPerByte => Task::Perplexity,
        }
    }

    /// Whether a larger value is better.
    pub fn higher_is_better(self) -> bool {
        self.task() == Task::ExactMatch
    }

    /// Measures it over some predictions; `None` where none of them was measured.
    fn measure(self, predictions: &[&Prediction], seed: u64) -> Option<Estimate> {
        let scores = || predictions.iter().filter_map(|one| one.score).collect::<Vec<_>>();
        let graded = |grade: fn(&Prediction) -> Option<bool>| {
            proportion(&predictions.iter().filter_map(|one| grade(one)).collect::<Vec<_>>())
        };
        let estimate = match self {
            Self::ExactMatch => graded(|one| one.correct),
            Self::ExactMatchFlexible => graded(|one| {
                let answer = one.output.as_deref().and_then(flexible_answer);
                one.correct?;
                Some(ExactMatch::is_correct(answer.as_deref(), one.reference.as_deref()?))
            }),
            Self::Loss => Perplexity::loss(&scores(), seed),
            Self::Perplexity => Perplexity::perplexity(&scores(), seed),
            Self::BitsPerByte => Perplexity::bits_per_byte(&scores(), seed),
        };
        // The perplexity of a broken model may be beyond what a float holds, and JSON has no infinity.
        estimate.filter(|estimate| estimate.value.is_finite())
    }
}

/// Measures every metric for which there are predictions.
pub fn measure(predictions: &[Prediction], too_long: &BTreeMap<Task, usize>, seed: u64) -> Vec<Metric> {
    let mut domains: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    for prediction in predictions {
        domains.entry(prediction.domain.as_deref().unwrap_or(NO_DOMAIN)).or_default().push(prediction);
    }
    let all: Vec<&Prediction> = predictions.iter().collect();
    let metric = |name: Name| {
        let overall = name.measure(&all, seed)?;
        let slice = |(domain, slice): (&&str, &Vec<&Prediction>)| {
            Some(((*domain).to_owned(), name.measure(slice, seed)?))
        };
        Some(Metric {
            task: name.task(),
            metric: name,
            value: overall.value,
            standard_error: overall.standard_error,
            ci_low: overall.ci_low,
            ci_high: overall.ci_high,
            confidence: CONFIDENCE,
            n: overall.n,
            too_long: too_long.get(&name.task()).copied().unwrap_or(0),
            higher_is_better: name.higher_is_better(),
            by_domain: domains.iter().filter_map(slice).collect(),
        })
    };
    Name::ALL.into_iter().filter_map(metric).collect()
}
