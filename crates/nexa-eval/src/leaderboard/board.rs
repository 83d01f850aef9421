//! The checkpoints that were asked the same questions of one task, ranked by one metric.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nexa_core::artifact::{ArtifactId, Store};
use nexa_core::cost::Spend;
use nexa_core::hash::ContentHash;
use nexa_core::run::RunId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Evaluation;
use crate::compare::Verdict;
use crate::compare::documents::{Documents, Measured};
use crate::leaderboard::ranks::{RankRange, ranges};
use crate::leaderboard::{VersusBest, checkpoint_spend};
use crate::metric::{Metric, Name};
use crate::statistics::{Difference, Estimate, holm};

/// A task, or a group of tasks, with the checkpoints that were asked the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// The task or group.
    pub task: String,
    /// What ranks it.
    pub metric: Name,
    /// Every metric of the task that could rank it, in the order of the evaluations, the one that does among them.
    #[serde(default)]
    pub metrics: Vec<Name>,
    /// Whether a larger value is better.
    pub higher_is_better: bool,
    /// What was asked.
    pub asked: Asked,
    /// The checkpoints, best first.
    pub entries: Vec<Entry>,
}

/// What a task asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Documents: the first ones of the task.
    pub documents: usize,
    /// Examples before each, where the task knows such.
    pub num_fewshot: Option<usize>,
    /// The version that the task's author gave it.
    pub version: Option<Value>,
    /// The tasks of a group.
    pub subtasks: Vec<String>,
    /// The data set of a held-out split, as the newest evaluation names it.
    pub dataset: Option<String>,
    /// Which checkpoints stand on one board: the questions in full, by their hash.
    pub hash: ContentHash,
}

/// A checkpoint's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 + the number of checkpoints with a better value.
    pub rank: usize,
    /// The ranks that paired tests of all pairs leave open; none where documents have no values of their own.
    pub rank_range: Option<RankRange>,
    /// The checkpoint.
    pub checkpoint: String,
    /// The model's name.
    pub model: String,
    /// Its newest evaluation that asked this.
    pub evaluation: ArtifactId,
    /// The metric.
    pub value: Estimate,
    /// This checkpoint against the first one; absent for that.
    pub versus_best: Option<VersusBest>,
    /// The run that evaluated it.
    pub run: RunId,
    /// What the whole evaluation cost, all its tasks together.
    pub spend: Spend,
    /// What making the checkpoint cost, where it is still there.
    pub checkpoint_spend: Option<Spend>,
    /// What the checkpoint was made from: training data, the model that it goes on from, the tokenizer.
    pub made_from: Vec<Origin>,
    /// When it was evaluated.
    pub created_at: DateTime<Utc>,
}

/// Something that a checkpoint was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What it served as: `sft_dataset`, `base`, `tokenizer`, …
    pub role: String,
    /// The artifact.
    pub id: String,
}

/// The boards of some evaluations, which come newest first; `wanted` says whether a metric may rank.
pub(super) fn boards(
    evaluations: &[Evaluation],
    store: &Store<'_>,
    wanted: &dyn Fn(&Metric) -> bool,
) -> Vec<Board> {
    let mut groups: Vec<(Name, Asked, Vec<Measured<'_>>)> = Vec::new();
    for evaluation in evaluations {
        for metric in first_of_each_task(evaluation, wanted) {
            let (name, asked) = (metric.name(), asked(evaluation, metric));
            let Some(asked) = asked else { continue };
            match groups.iter_mut().find(|(known, of, _)| *known == name && of.hash == asked.hash) {
                Some((_, _, found)) => {
                    if found.iter().all(|(newer, _)| newer.checkpoint.id != evaluation.checkpoint.id) {
                        found.push((evaluation, metric));
                    }
                }
                None => groups.push((name, asked, vec![(evaluation, metric)])),
            }
        }
    }
    groups.into_iter().map(|(name, asked, found)| board(name, asked, found, store)).collect()
}

/// Of each task the first metric that may rank it.
fn first_of_each_task<'a>(evaluation: &'a Evaluation, wanted: &dyn Fn(&Metric) -> bool) -> Vec<&'a Metric> {
    let mut found: Vec<&Metric> = Vec::new();
    for metric in evaluation.metrics.iter().filter(|metric| can_rank(metric) && wanted(metric)) {
        if found.iter().all(|known| known.task != metric.task) {
            found.push(metric);
        }
    }
    found
}

/// Whether one value of a metric is better than another.
fn can_rank(metric: &Metric) -> bool {
    metric.higher_is_better.is_some() || held_out(metric)
}

/// The metrics that could rank a task, each once.
fn that_could_rank(task: &str, found: &[Measured<'_>]) -> Vec<Name> {
    let mut names = Vec::new();
    let metrics = found.iter().flat_map(|(evaluation, _)| &evaluation.metrics);
    for metric in metrics.filter(|metric| metric.task == task && can_rank(metric)) {
        let name = metric.name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn held_out(metric: &Metric) -> bool {
    metric.name().held_out_task().is_some()
}

fn asked(evaluation: &Evaluation, metric: &Metric) -> Option<Asked> {
    let questions = &evaluation.facts.questions;
    let base = Asked {
        documents: metric.n,
        num_fewshot: metric.num_fewshot,
        version: metric.version.clone(),
        subtasks: metric.subtasks.clone(),
        dataset: None,
        hash: ContentHash::of_bytes(&[]),
    };
    if held_out(metric) {
        let set = evaluation.facts.test_set.as_ref()?;
        // What stopped when it was decided is compared with no other, so it stands alone.
        let drawn = set.drawn.map(|seed| json!([seed, evaluation.id()]));
        let hash = json!([set.split.as_str(), set.split_hash, set.items, set.max_tokens, drawn]);
        let dataset = evaluation.dataset.as_ref().map(|dataset| dataset.id.clone());
        return Some(Asked { documents: set.items, dataset, hash: ContentHash::of_json(&hash), ..base });
    }
    if metric.subtasks.is_empty() {
        let own = questions.get(&metric.task)?;
        let (documents, num_fewshot) = (own.documents, Some(own.num_fewshot));
        return Some(Asked { documents, num_fewshot, hash: own.hash.clone(), ..base });
    }
    let parts: BTreeMap<&String, &ContentHash> =
        metric.subtasks.iter().map(|task| Some((task, &questions.get(task)?.hash))).collect::<Option<_>>()?;
    let documents = metric.subtasks.iter().filter_map(|task| Some(questions.get(task)?.documents)).sum();
    Some(Asked { documents, hash: ContentHash::of_json(&json!(parts)), ..base })
}

fn board(name: Name, asked: Asked, mut found: Vec<Measured<'_>>, store: &Store<'_>) -> Board {
    let higher_is_better = found
        .first()
        .is_some_and(|(_, metric)| metric.higher_is_better.unwrap_or_else(|| name.is_higher_better()));
    let sign = if higher_is_better { -1.0 } else { 1.0 };
    // The smaller the better, whatever the metric.
    let loss = |metric: &Metric| sign * metric.value;
    found.sort_by(|(a, x), (b, y)| {
        loss(x).total_cmp(&loss(y)).then_with(|| a.checkpoint.id.cmp(&b.checkpoint.id))
    });
    let documents = Documents::of_all(&found);
    let ranges = ranges(&documents);
    let versus = versus_best(&found, &documents, higher_is_better);
    let entries =
        found.iter().zip(ranges).zip(versus).map(|(((evaluation, metric), rank_range), versus_best)| {
            let manifest = &evaluation.artifact.manifest;
            Entry {
                rank: 1 + found.iter().filter(|(_, other)| loss(other) < loss(metric)).count(),
                rank_range,
                checkpoint: evaluation.checkpoint.id.clone(),
                model: evaluation.model.clone(),
                evaluation: evaluation.id().clone(),
                value: metric.estimate(),
                versus_best,
                run: manifest.producer.run.clone(),
                spend: manifest.spend.clone(),
                checkpoint_spend: checkpoint_spend(evaluation, store),
                made_from: made_from(evaluation, store),
                created_at: manifest.created_at,
            }
        });
    let entries = entries.collect();
    let metrics = that_could_rank(&name.task, &found);
    Board { task: name.task.to_string(), metric: name, metrics, higher_is_better, asked, entries }
}

/// Tests each checkpoint against the first; the p-values are corrected together.
fn versus_best(
    found: &[Measured<'_>],
    documents: &[Option<Documents>],
    higher_is_better: bool,
) -> Vec<Option<VersusBest>> {
    let test = |at: usize| -> Option<Difference> {
        let (best, other) = (documents.first()?.as_ref()?, documents.get(at)?.as_ref()?);
        let difference = found.get(at)?.1.value - found.first()?.1.value;
        (at > 0).then(|| other.difference(best, difference)).flatten()
    };
    let differences: Vec<Option<Difference>> = (0..found.len()).map(test).collect();
    let p_values: Vec<f64> = differences.iter().flatten().map(|difference| difference.p_value).collect();
    let mut adjusted = holm(&p_values).into_iter();
    let mut versus = |difference: Difference| {
        let p_adjusted = adjusted.next()?;
        Some(VersusBest::new(
            &difference,
            p_adjusted,
            Verdict::judge(difference.value, p_adjusted, higher_is_better),
        ))
    };
    differences.into_iter().map(|difference| difference.and_then(&mut versus)).collect()
}

/// What the checkpoint was made from, where it is still there.
fn made_from(evaluation: &Evaluation, store: &Store<'_>) -> Vec<Origin> {
    let Ok(id) = evaluation.checkpoint.id.parse() else { return Vec::new() };
    let parents = store.get(&id).map(|checkpoint| checkpoint.manifest.parents).unwrap_or_default();
    parents.into_iter().map(|parent| Origin { role: parent.role, id: parent.id }).collect()
}
