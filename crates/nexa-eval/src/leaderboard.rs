//! The leaderboard of a project.
//!
//! Models are ranked only among those that were asked the same items under the same conditions. Of each checkpoint the
//! newest evaluation counts. The rank is by value, and equal values share one; whether a difference to the best is more
//! than chance is a matter of its own, which a paired test answers. Because the best is tested against every other, the
//! p-values of one test set are corrected together, by Holm's method, and the verdict goes by the corrected ones.

use chrono::{DateTime, Utc};
use nexa_core::artifact::{ArtifactId, Kind, Store};
use nexa_core::cost::Spend;
use nexa_core::run::RunId;
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::compare::{Verdict, difference};
use crate::facts::TestSet;
use crate::metric::Name;
use crate::statistics::{Difference, Estimate, holm};
use crate::{Evaluation, Result, evaluate};

/// The evaluations of a project, ranked within each test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    /// The project.
    pub project: String,
    /// The test set that was used last comes first; within one, the best model does.
    pub rows: Vec<Row>,
}

/// A checkpoint on one test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 1 + the number of checkpoints with a better value of [`Row::ranked_by`]; absent where it was not measured.
    pub rank: Option<usize>,
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

impl Leaderboard {
    /// Reads and ranks the evaluations of a project.
    ///
    /// # Errors
    /// Fails when an evaluation cannot be read.
    pub fn of_project(store: &Store<'_>, project: &str, tables: &dyn Tables) -> Result<Self> {
        let mut rows = Vec::new();
        for group in groups(newest(store, project, tables)?) {
            rows.extend(rank(group, store)?);
        }
        Ok(Self { project: project.to_owned(), rows })
    }

    /// The rows of each test set.
    pub fn by_test_set(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.test_set.difference(&b.test_set).is_none())
    }
}

/// The newest evaluation of each checkpoint on each test set, newest first; those without one are not ranked.
fn newest(store: &Store<'_>, project: &str, tables: &dyn Tables) -> Result<Vec<Evaluation>> {
    let mut artifacts = store.of_kind(project, Kind::Evaluation)?;
    artifacts.retain(|artifact| artifact.manifest.producer.stage == evaluate::STAGE);
    artifacts.sort_by(|a, b| (b.manifest.created_at, b.id()).cmp(&(a.manifest.created_at, a.id())));
    let mut found: Vec<Evaluation> = Vec::new();
    for artifact in artifacts {
        let evaluation = Evaluation::read(&artifact, tables)?;
        if evaluation.facts.test_set.is_none() {
            continue;
        }
        let is_older = found
            .iter()
            .any(|newer| newer.checkpoint.id == evaluation.checkpoint.id && is_same_test(newer, &evaluation));
        if !is_older {
            found.push(evaluation);
        }
    }
    Ok(found)
}

/// Whether two evaluations asked the same items of a held-out split under the same conditions.
fn is_same_test(a: &Evaluation, b: &Evaluation) -> bool {
    let sets = a.facts.test_set.as_ref().zip(b.facts.test_set.as_ref());
    sets.is_some_and(|(a, b)| a.difference(b).is_none())
}

/// Puts evaluations of the same test set together, without changing their order otherwise.
fn groups(evaluations: Vec<Evaluation>) -> Vec<Vec<Evaluation>> {
    let mut groups: Vec<Vec<Evaluation>> = Vec::new();
    for evaluation in evaluations {
        let same = |group: &&mut Vec<Evaluation>| {
            group.first().is_some_and(|first| is_same_test(first, &evaluation))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(evaluation),
            None => groups.push(vec![evaluation]),
        }
    }
    groups
}

/// Ranks the evaluations of one test set.
fn rank(mut group: Vec<Evaluation>, store: &Store<'_>) -> Result<Vec<Row>> {
    let has_answers = group.iter().any(|evaluation| evaluation.metric(&Name::EXACT_MATCH).is_some());
    let metric = if has_answers { Name::EXACT_MATCH } else { Name::BITS_PER_BYTE };
    // The smaller the better, whatever the metric; those without it go last.
    let cost = |evaluation: &Evaluation| {
        let sign = if metric.is_higher_better() { -1.0 } else { 1.0 };
        evaluation.metric(&metric).map_or(f64::INFINITY, |metric| sign * metric.value)
    };
    group.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then_with(|| a.checkpoint.id.cmp(&b.checkpoint.id)));
    let versus_best = versus_best(&group, &metric)?;
    let rows = group.iter().zip(versus_best).map(|(evaluation, versus_best)| {
        let better = group.iter().filter(|other| cost(other) < cost(evaluation)).count();
        let manifest = &evaluation.artifact.manifest;
        let test_set = evaluation.test_set()?.clone();
        Ok(Row {
            rank: evaluation.metric(&metric).is_some().then_some(better + 1),
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
fn versus_best(group: &[Evaluation], metric: &Name) -> Result<Vec<Option<VersusBest>>> {
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
        Some(VersusBest {
            difference: difference.value,
            ci_low: difference.ci_low,
            ci_high: difference.ci_high,
            p_value: difference.p_value,
            p_adjusted,
            verdict: Verdict::of(difference.value, p_adjusted, metric),
        })
    };
    Ok(differences.into_iter().map(|difference| difference.and_then(&mut versus)).collect())
}

fn checkpoint_spend(evaluation: &Evaluation, store: &Store<'_>) -> Option<Spend> {
    let id = evaluation.checkpoint.id.parse().ok()?;
    store.get(&id).ok().map(|checkpoint| checkpoint.manifest.spend)
}
