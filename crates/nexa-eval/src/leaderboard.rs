//! The leaderboard of a project.
//!
//! Models are ranked only among those that were asked the same items under the same conditions. Of each checkpoint the
//! newest evaluation counts. The rank is by value, and equal values share one; whether a difference to the best is more
//! than chance is a matter of its own, which a paired test answers. Because the best is tested against every other, the
//! p-values of one test set are corrected together, by Holm's method, and the verdict goes by the corrected ones.
//!
//! [`Leaderboard::rows`] are the held-out test sets with both their metrics; [`Leaderboard::boards`] are all tasks, each
//! with the metric that ranks it and with ranges of ranks.

mod board;
mod ranks;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::config::nearest;
use nexa_core::cost::Spend;
use nexa_core::run::RunId;
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::compare::documents::Documents;
use crate::compare::{Verdict, difference};
use crate::evaluation::newest_first;
use crate::facts::TestSet;
use crate::metric::{Metric, Name};
use crate::predictions::Prediction;
use crate::statistics::{Difference, Estimate, holm};
use crate::task::Task;
use crate::{Evaluation, Result, evaluate};

pub use board::{Asked, Board, Entry, Origin};
pub use ranks::RankRange;

/// The evaluations of a project, ranked within each test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    /// The project.
    pub project: String,
    /// Held-out test sets. The one that was used last comes first; within one, the best model does.
    pub rows: Vec<Row>,
    /// Every task that was asked, those over held-out splits among them.
    #[serde(default)]
    pub boards: Vec<Board>,
}

/// What is ranked, and by what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// One task or group; else all.
    pub task: Option<String>,
    /// The metric that ranks, alone or with its filter: `acc_norm`, `exact_match,flexible-extract`; else the first of
    /// each task.
    pub metric: Option<String>,
}

impl Choice {
    /// Whether everything is ranked by its own first metric.
    pub fn is_all(&self) -> bool {
        self.task.is_none() && self.metric.is_none()
    }

    fn wants(&self, metric: &Metric) -> bool {
        let is_metric = match &self.metric {
            Some(wanted) => {
                metric.metric == *wanted || *wanted == format!("{},{}", metric.metric, metric.filter)
            }
            // What is counted by tokens cannot be held against a model of another tokenizer.
            None => ![Name::LOSS, Name::PERPLEXITY].contains(&metric.name()),
        };
        is_metric && self.task.as_ref().is_none_or(|task| metric.task == *task)
    }

    /// The error of a choice that nothing fits, with what there is.
    fn nothing(&self, evaluations: &[Evaluation]) -> nexa_core::Error {
        let mut metrics = evaluations.iter().flat_map(|evaluation| &evaluation.metrics);
        let is_task = |metric: &&Metric| self.task.as_ref().is_none_or(|task| metric.task == *task);
        let (what, name, known) = match (&self.task, &self.metric) {
            (Some(task), metric) if metric.is_none() || metrics.clone().all(|one| one.task != *task) => (
                "evaluated task",
                task.clone(),
                metrics.map(|metric| metric.task.clone()).collect::<Vec<_>>(),
            ),
            (_, metric) => {
                // Without a metric that ranks at all, nothing is asked for that is not there.
                let name = metric.clone().unwrap_or_default();
                let names = metrics.by_ref().filter(is_task).map(|metric| metric.metric.clone());
                ("metric that ranks", name, names.collect())
            }
        };
        let mut known: Vec<String> = known;
        known.sort();
        known.dedup();
        let near = nearest(&name, known.iter().map(String::as_str));
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let hint = Some(format!("{near}there are: {}", known.join(", ")));
        nexa_core::Error::NotFound { what, name, hint }
    }
}

/// A checkpoint on one test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 1 + the number of checkpoints with a better value of [`Row::ranked_by`]; absent where it was not measured.
    pub rank: Option<usize>,
    /// The ranks that paired tests of all pairs leave open.
    #[serde(default)]
    pub rank_range: Option<RankRange>,
    /// The metric that ranks this test set: exact match where any evaluation has it, else bits per byte.
    pub ranked_by: Name,
    /// The checkpoint.
    pub checkpoint: String,
    /// The model's name.
    pub model: String,
    /// Its newest evaluation.
    pub evaluation: ArtifactId,
    /// The data set that it was asked from.
    pub dataset: String,
    /// What it was asked.
    pub test_set: TestSet,
    /// Share of right answers.
    pub exact_match: Option<Estimate>,
    /// Bits per UTF-8 byte.
    pub bits_per_byte: Option<Estimate>,
    /// Nats per token.
    pub loss: Option<Estimate>,
    /// Items.
    pub n: usize,
    /// The run that evaluated it.
    pub run: RunId,
    /// What the evaluation cost.
    pub spend: Spend,
    /// What making the checkpoint cost, where it is still there.
    pub checkpoint_spend: Option<Spend>,
    /// When it was evaluated.
    pub created_at: DateTime<Utc>,
    /// This checkpoint against the first of its test set; absent for that one.
    pub versus_best: Option<VersusBest>,
}

/// A paired test against the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VersusBest {
    /// This checkpoint's value minus the best one's.
    pub difference: f64,
    /// Lower end of the interval of the difference.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// The test's p-value.
    pub p_value: f64,
    /// The p-value corrected for all tests of this test set.
    pub p_adjusted: f64,
    /// What the corrected p-value says of this checkpoint.
    pub verdict: Verdict,
}

impl VersusBest {
    fn new(difference: &Difference, p_adjusted: f64, verdict: Verdict) -> Self {
        Self {
            difference: difference.value,
            ci_low: difference.ci_low,
            ci_high: difference.ci_high,
            p_value: difference.p_value,
            p_adjusted,
            verdict,
        }
    }
}

impl Leaderboard {
    /// Reads and ranks the evaluations of a project.
    ///
    /// # Errors
    /// Fails when an evaluation cannot be read.
    pub fn of_project(store: &Store<'_>, project: &str, tables: &dyn Tables) -> Result<Self> {
        Self::choose(store, project, tables, &Choice::default())
    }

    /// Reads and ranks those evaluations of a project that were asked for. Only a choice of everything has
    /// [`Leaderboard::rows`].
    ///
    /// # Errors
    /// Fails when an evaluation cannot be read, or nothing fits the choice though there are evaluations.
    pub fn choose(store: &Store<'_>, project: &str, tables: &dyn Tables, choice: &Choice) -> Result<Self> {
        let evaluations = evaluations(store, project, tables)?;
        let mut rows = Vec::new();
        if choice.is_all() {
            for group in groups(newest(&evaluations)) {
                rows.extend(rank(group, store)?);
            }
        }
        let boards = board::boards(&evaluations, store, &|metric| choice.wants(metric));
        if boards.is_empty() && !choice.is_all() && !evaluations.is_empty() {
            return Err(choice.nothing(&evaluations).into());
        }
        Ok(Self { project: project.to_owned(), rows, boards })
    }

    /// The rows of each test set.
    pub fn by_test_set(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.test_set.difference(&b.test_set).is_none())
    }
}

/// Every evaluation of a project, newest first, without the texts, which no rank needs.
fn evaluations(store: &Store<'_>, project: &str, tables: &dyn Tables) -> Result<Vec<Evaluation>> {
    let mut artifacts = store.of_kind(project, Kind::Evaluation)?;
    artifacts.retain(|artifact| artifact.manifest.producer.stage == evaluate::STAGE);
    let artifacts = newest_first(artifacts);
    let read = |artifact: &Artifact| {
        let mut evaluation = Evaluation::read(artifact, tables)?;
        evaluation.predictions.iter_mut().for_each(without_texts);
        Ok(evaluation)
    };
    artifacts.iter().map(read).collect()
}

fn without_texts(one: &mut Prediction) {
    one.prompt = String::new();
    one.answers = BTreeMap::new();
    (one.choices, one.messages) = (Vec::new(), Vec::new());
    // What is read out of answers to a held-out split is graded in two ways.
    if one.task != Task::ExactMatch.as_str() {
        (one.output, one.prediction, one.reference) = (None, None, None);
    }
}

/// The newest evaluation of each checkpoint on each test set, newest first; those without one are not ranked.
fn newest(evaluations: &[Evaluation]) -> Vec<&Evaluation> {
    let mut found: Vec<&Evaluation> = Vec::new();
    for evaluation in evaluations.iter().filter(|evaluation| evaluation.facts.test_set.is_some()) {
        let is_older = found
            .iter()
            .any(|newer| newer.checkpoint.id == evaluation.checkpoint.id && is_same_test(newer, evaluation));
        if !is_older {
            found.push(evaluation);
        }
    }
    found
}

/// Whether two evaluations asked the same items of a held-out split under the same conditions.
fn is_same_test(a: &Evaluation, b: &Evaluation) -> bool {
    let sets = a.facts.test_set.as_ref().zip(b.facts.test_set.as_ref());
    sets.is_some_and(|(a, b)| a.difference(b).is_none())
}

/// Puts evaluations of the same test set together, without changing their order otherwise.
fn groups(evaluations: Vec<&Evaluation>) -> Vec<Vec<&Evaluation>> {
    let mut groups: Vec<Vec<&Evaluation>> = Vec::new();
    for evaluation in evaluations {
        let same = |group: &&mut Vec<&Evaluation>| {
            group.first().is_some_and(|first| is_same_test(first, evaluation))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(evaluation),
            None => groups.push(vec![evaluation]),
        }
    }
    groups
}

/// Ranks the evaluations of one test set.
fn rank(mut group: Vec<&Evaluation>, store: &Store<'_>) -> Result<Vec<Row>> {
    let has_answers = group.iter().any(|evaluation| evaluation.metric(&Name::EXACT_MATCH).is_some());
    let metric = if has_answers { Name::EXACT_MATCH } else { Name::BITS_PER_BYTE };
    // The smaller the better, whatever the metric; those without it go last.
    let cost = |evaluation: &&Evaluation| {
        let sign = if metric.is_higher_better() { -1.0 } else { 1.0 };
        evaluation.metric(&metric).map_or(f64::INFINITY, |metric| sign * metric.value)
    };
    group.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then_with(|| a.checkpoint.id.cmp(&b.checkpoint.id)));
    let versus_best = versus_best(&group, &metric)?;
    let measured: Option<Vec<_>> =
        group.iter().map(|evaluation| Some((*evaluation, evaluation.metric(&metric)?))).collect();
    // Where some lack what ranks, the others are not held against them.
    let ranges = measured.map(|measured| ranks::ranges(&Documents::of_all(&measured)));
    let ranges = ranges.unwrap_or_else(|| vec![None; group.len()]);
    let rows = group.iter().zip(ranges).zip(versus_best).map(|((evaluation, rank_range), versus_best)| {
        let better = group.iter().filter(|other| cost(other) < cost(evaluation)).count();
        let manifest = &evaluation.artifact.manifest;
        let test_set = evaluation.test_set()?.clone();
        Ok(Row {
            rank: evaluation.metric(&metric).is_some().then_some(better + 1),
            rank_range,
            ranked_by: metric.clone(),
            checkpoint: evaluation.checkpoint.id.clone(),
            model: evaluation.model.clone(),
            evaluation: evaluation.id().clone(),
            dataset: evaluation.dataset.as_ref().map(|dataset| dataset.id.clone()).unwrap_or_default(),
            n: test_set.items,
            test_set,
            exact_match: evaluation.estimate(&Name::EXACT_MATCH),
            bits_per_byte: evaluation.estimate(&Name::BITS_PER_BYTE),
            loss: evaluation.estimate(&Name::LOSS),
            run: manifest.producer.run.clone(),
            spend: manifest.spend.clone(),
            checkpoint_spend: checkpoint_spend(evaluation, store),
            created_at: manifest.created_at,
            versus_best,
        })
    });
    rows.collect()
}

/// Tests each of some ranked evaluations against the first.
fn versus_best(group: &[&Evaluation], metric: &Name) -> Result<Vec<Option<VersusBest>>> {
    let mut differences: Vec<Option<Difference>> = vec![None; group.len()];
    if let Some((best, others)) = group.split_first() {
        for (found, other) in differences[1..].iter_mut().zip(others) {
            *found = difference(other, best, metric)?;
        }
    }
    let p_values: Vec<f64> = differences.iter().flatten().map(|difference| difference.p_value).collect();
    let mut adjusted = holm(&p_values).into_iter();
    let mut versus = |difference: Difference| {
        let p_adjusted = adjusted.next()?;
        Some(VersusBest::new(&difference, p_adjusted, Verdict::of(difference.value, p_adjusted, metric)))
    };
    Ok(differences.into_iter().map(|difference| difference.and_then(&mut versus)).collect())
}

fn checkpoint_spend(evaluation: &Evaluation, store: &Store<'_>) -> Option<Spend> {
    let id = evaluation.checkpoint.id.parse().ok()?;
    store.get(&id).ok().map(|checkpoint| checkpoint.manifest.spend)
}
