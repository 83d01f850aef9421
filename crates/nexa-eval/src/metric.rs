//! The metrics of an evaluation, as they stand in `metrics.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use nexa_core::lm::Score;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::predictions::Prediction;
use crate::statistics::{
    CONFIDENCE, Clusters, Estimate, clustered_share, clustered_standard_error, proportion,
};
use crate::task::{ExactMatch, Perplexity, Task, flexible_answer};

/// The name of the file in an evaluation.
pub const FILE: &str = "metrics.json";

/// The slice of items that name no domain.
pub const NO_DOMAIN: &str = "none";

/// The filter of metrics that have none.
pub const NO_FILTER: &str = "none";

/// One metric over all items, and over those of each domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The task that measured it, or the group that it is summed up over.
    pub task: String,
    /// What it is.
    pub metric: String,
    /// What was read out of answers before they were graded.
    #[serde(default = "no_filter")]
    pub filter: String,
    /// The value over all items.
    pub value: f64,
    /// Its standard error, as the reference has it: as if items were independent.
    pub standard_error: Option<f64>,
    /// Lower end of the interval, over sources where items share them.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// Confidence of the interval.
    pub confidence: f64,
    /// Its standard error, where items share sources and so are not independent.
    #[serde(default)]
    pub clustered_standard_error: Option<f64>,
    /// The number of sources.
    #[serde(default)]
    pub clusters: Option<usize>,
    /// Items that it is over.
    pub n: usize,
    /// Items longer than the model's context: wrong answers where answers are graded, left out of perplexity and of what
    /// measures safety.
    pub too_long: usize,
    /// Whether a larger value is better; of a group, where its tasks agree.
    pub higher_is_better: Option<bool>,
    /// Examples before each question.
    #[serde(default)]
    pub num_fewshot: Option<usize>,
    /// The version that the task's author gave it.
    #[serde(default)]
    pub version: Option<Value>,
    /// The tasks that a group sums up; of a task, none.
    #[serde(default)]
    pub subtasks: Vec<String>,
    /// The value of each domain.
    pub by_domain: BTreeMap<String, Estimate>,
}

fn no_filter() -> String {
    NO_FILTER.to_owned()
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

    /// What it goes by.
    pub fn name(&self) -> Name {
        let owned = |text: &String| Cow::Owned(text.clone());
        Name { task: owned(&self.task), metric: owned(&self.metric), filter: owned(&self.filter) }
    }
}

/// A metric by name: of which task, and after which filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// The task or group.
    pub task: Cow<'static, str>,
    /// The metric.
    pub metric: Cow<'static, str>,
    /// The filter.
    pub filter: Cow<'static, str>,
}

impl Name {
    /// Share of right strict answers to a held-out split.
    pub const EXACT_MATCH: Self = Self::held_out(Task::ExactMatch, "exact_match");
    /// Share of right flexible answers.
    pub const EXACT_MATCH_FLEXIBLE: Self = Self::held_out(Task::ExactMatch, "exact_match_flexible");
    /// Nats per token.
    pub const LOSS: Self = Self::held_out(Task::Perplexity, "loss");
    /// The exponential of the loss.
    pub const PERPLEXITY: Self = Self::held_out(Task::Perplexity, "perplexity");
    /// Bits per UTF-8 byte.
    pub const BITS_PER_BYTE: Self = Self::held_out(Task::Perplexity, "bits_per_byte");

    /// Every metric over a held-out split, in the order of the file.
    pub const HELD_OUT: [Self; 5] =
        [Self::EXACT_MATCH, Self::EXACT_MATCH_FLEXIBLE, Self::LOSS, Self::PERPLEXITY, Self::BITS_PER_BYTE];

    const fn held_out(task: Task, metric: &'static str) -> Self {
        let task = task.as_str();
        Self { task: Cow::Borrowed(task), metric: Cow::Borrowed(metric), filter: Cow::Borrowed(NO_FILTER) }
    }

    /// The task over a held-out split that measures it, if one does.
    pub fn held_out_task(&self) -> Option<Task> {
        let is_own = Self::HELD_OUT.contains(self);
        is_own.then(|| Task::named(&self.task)).flatten()
    }

    /// Whether a larger value of a metric over a held-out split is better.
    pub fn is_higher_better(&self) -> bool {
        self.held_out_task() == Some(Task::ExactMatch)
    }

    /// Measures it over the predictions of its task; `None` where none of them was measured.
    pub(crate) fn measure(&self, predictions: &[&Prediction], seed: u64) -> Option<Estimate> {
        let graded = |grade: fn(&Prediction) -> Option<bool>| {
            let (outcomes, sources): (Vec<bool>, Vec<Option<&str>>) =
                predictions.iter().filter_map(|one| Some((grade(one)?, one.group.as_deref()))).unzip();
            let clustered = Clusters::shared(&sources).and_then(|clusters| {
                let values: Vec<f64> = outcomes.iter().map(|&right| f64::from(u8::from(right))).collect();
                clustered_share(&values, &clusters)
            });
            Some(proportion(&outcomes)?.within(clustered))
        };
        let scored = |measure: fn(&[Score], Option<&Clusters>, u64) -> Option<Estimate>| {
            let (scores, sources): (Vec<Score>, Vec<Option<&str>>) =
                predictions.iter().filter_map(|one| Some((one.score?, one.group.as_deref()))).unzip();
            measure(&scores, Clusters::shared(&sources).as_ref(), seed)
        };
        let estimate = match self.metric.as_ref() {
            "exact_match" => graded(|one| one.correct),
            "exact_match_flexible" => graded(is_flexibly_right),
            "loss" => scored(Perplexity::loss),
            "perplexity" => scored(Perplexity::perplexity),
            _ => scored(Perplexity::bits_per_byte),
        };
        // The perplexity of a broken model may be beyond what a float holds, and JSON has no infinity.
        estimate.filter(|estimate| estimate.value.is_finite())
    }
}

impl fmt::Display for Name {
    /// The metric alone where it is one over a held-out split, else with its task, and its filter where it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.held_out_task().is_none() {
            write!(f, "{}/", self.task)?;
        }
        f.write_str(&self.metric)?;
        if self.filter == NO_FILTER { Ok(()) } else { write!(f, ",{}", self.filter) }
    }
}

/// Whether the flexible answer is right, where the item is graded.
pub(crate) fn is_flexibly_right(one: &Prediction) -> Option<bool> {
    let answer = one.output.as_deref().and_then(flexible_answer);
    one.correct?;
    Some(ExactMatch::is_correct(answer.as_deref(), one.reference.as_deref()?))
}

/// Measures every metric over a held-out split for which there are predictions.
pub fn measure(predictions: &[Prediction], too_long: &BTreeMap<Task, usize>, seed: u64) -> Vec<Metric> {
    let metric = |name: Name| {
        let task = name.held_out_task()?;
        let all: Vec<&Prediction> = predictions.iter().filter(|one| one.task == name.task).collect();
        let mut domains: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
        for prediction in &all {
            domains.entry(prediction.domain.as_deref().unwrap_or(NO_DOMAIN)).or_default().push(prediction);
        }
        let overall = name.measure(&all, seed)?;
        let slice = |(domain, slice): (&&str, &Vec<&Prediction>)| {
            Some(((*domain).to_owned(), name.measure(slice, seed)?))
        };
        let clustered = clustered(&name, &all);
        Some(Metric {
            task: name.task.to_string(),
            metric: name.metric.to_string(),
            filter: name.filter.to_string(),
            value: overall.value,
            standard_error: overall.standard_error,
            ci_low: overall.ci_low,
            ci_high: overall.ci_high,
            confidence: CONFIDENCE,
            clustered_standard_error: clustered.map(|(error, _)| error),
            clusters: clustered.map(|(_, clusters)| clusters),
            n: overall.n,
            too_long: too_long.get(&task).copied().unwrap_or(0),
            higher_is_better: Some(task == Task::ExactMatch),
            num_fewshot: None,
            version: None,
            subtasks: Vec::new(),
            by_domain: domains.iter().filter_map(slice).collect(),
        })
    };
    Name::HELD_OUT.into_iter().filter_map(metric).collect()
}

/// The clustered error of a share of right answers, where some items share a group.
fn clustered(name: &Name, predictions: &[&Prediction]) -> Option<(f64, usize)> {
    let is_right =
        if *name == Name::EXACT_MATCH { |one: &Prediction| one.correct } else { is_flexibly_right };
    if name.held_out_task() != Some(Task::ExactMatch) {
        return None;
    }
    let values: Vec<f64> = predictions
        .iter()
        .map(|one| is_right(one).map(|right| f64::from(u8::from(right))))
        .collect::<Option<_>>()?;
    let sources: Vec<Option<&str>> = predictions.iter().map(|one| one.group.as_deref()).collect();
    let clusters = Clusters::shared(&sources)?;
    Some((clustered_standard_error(&values, &clusters)?, clusters.len()))
}
