//! `contamination.json`: content and never names, as everything in an evaluation.

use nexa_core::artifact::Artifact;
use nexa_core::files;
use serde::{Deserialize, Serialize};

use super::{Overlaps, Rule, TrainingText};
use crate::Result;
use crate::statistics::Estimate;

/// The name of the file in an evaluation.
pub const FILE: &str = "contamination.json";

/// What an evaluation has in common with the training data of its checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// Whether everything that the checkpoint was trained on was looked through. Only then is a document clean in which
    /// nothing was found.
    pub is_known: bool,
    /// The training data that was looked through.
    pub training_data: Vec<TrainingText>,
    /// Why the rest is not known.
    pub unknown: Vec<String>,
    /// Groups of tasks, then task by task. Where nothing is known of the training data there is none.
    pub tasks: Vec<TaskOverlap>,
}

/// What a task, or the tasks of a group, have in common with training data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOverlap {
    /// The task or group.
    pub task: String,
    /// Documents that were evaluated.
    pub documents: usize,
    /// Those that are too short, or too much like others of the task, to be looked for: neither clean nor not.
    pub not_looked_for: usize,
    /// By each rule.
    pub rules: Vec<RuleOverlap>,
}

/// What a task has in common with training data by one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleOverlap {
    /// When a document overlaps.
    #[serde(flatten)]
    pub rule: Rule,
    /// Documents that do.
    pub overlapping: usize,
    /// Their share of those that were looked for; none where none was.
    pub share: Option<f64>,
    /// The task's metrics.
    pub metrics: Vec<MetricOverlap>,
}

/// A metric over all documents, and over some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricOverlap {
    /// The metric.
    pub metric: String,
    /// The filter before it.
    pub filter: String,
    /// Over all documents.
    pub all: Option<Estimate>,
    /// Over those that overlap.
    pub overlapping: Option<Estimate>,
    /// Over those that are clean. None where the training data is not known.
    pub clean: Option<Estimate>,
    /// Over those in which nothing was found, where the training data is not known in full: they may not be clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_found: Option<Estimate>,
}

/// A metric over some documents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub(crate) metric: String,
    pub(crate) filter: String,
    pub(crate) estimate: Option<Estimate>,
}

impl Contamination {
    /// Reads what an evaluation says of it; none where it was not looked for.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read.
    pub fn read(evaluation: &Artifact) -> Result<Option<Self>> {
        let is_there = evaluation.manifest.files.iter().any(|file| file.name == FILE);
        if !is_there {
            return Ok(None);
        }
        Ok(Some(files::read_json(&evaluation.file(FILE)?)?))
    }

    /// What was found, with tasks that were reported.
    pub(crate) fn of(overlaps: &Overlaps, tasks: Vec<TaskOverlap>) -> Self {
        let mut unknown: Vec<String> = overlaps.gaps.iter().map(|gap| gap.reason.clone()).collect();
        unknown.sort();
        unknown.dedup();
        Self {
            is_known: overlaps.is_known(),
            training_data: overlaps.texts.clone(),
            unknown,
            tasks: if overlaps.is_nothing_known() { Vec::new() } else { tasks },
        }
    }

    /// A line for each task: what share of it overlaps by the strictest rule, and what its first metric is without that.
    pub fn lines(&self) -> Vec<String> {
        self.tasks.iter().filter_map(|task| task.line(self.is_known)).collect()
    }
}

impl TaskOverlap {
    /// Reports a task. `all` are its metrics; `measure` gives them over the documents that are marked.
    pub(crate) fn of(
        overlaps: &Overlaps,
        task: &str,
        all: &[Measured],
        measure: impl Fn(&[bool]) -> Vec<Measured>,
    ) -> Self {
        let of_rule = |(number, rule): (usize, &Rule)| {
            let found = overlaps.overlapping(task, number);
            let some = |wanted| found.iter().map(|one| *one == Some(wanted)).collect::<Vec<bool>>();
            let (overlapping, rest) = (some(true), some(false));
            let count = |marked: &[bool]| marked.iter().filter(|&&is_marked| is_marked).count();
            let looked_for = count(&overlapping) + count(&rest);
            // What is over all documents was measured already.
            let part = |marked: &[bool]| match count(marked) {
                0 => Vec::new(),
                all_of_them if all_of_them == marked.len() => all.to_vec(),
                _ => measure(marked),
            };
            RuleOverlap {
                rule: *rule,
                overlapping: count(&overlapping),
                share: (looked_for > 0).then(|| count(&overlapping) as f64 / looked_for as f64),
                metrics: metrics(all, &part(&overlapping), &part(&rest), overlaps.is_known()),
            }
        };
        let documents = overlaps.shares(task);
        Self {
            task: task.to_owned(),
            documents: documents.len(),
            not_looked_for: documents.iter().filter(|shares| shares.is_none()).count(),
            rules: Rule::ALL.iter().enumerate().map(of_rule).collect(),
        }
    }

    /// Reports a group from its tasks. `pool` makes its metrics of those of its tasks.
    pub(crate) fn of_group(
        overlaps: &Overlaps,
        group: &str,
        tasks: &[&Self],
        pool: impl Fn(&[Vec<Measured>]) -> Vec<Measured>,
    ) -> Self {
        let of_rule = |(number, rule): (usize, &Rule)| {
            // A task of which a part is empty has no number of it, and no say in it.
            let part = |estimate: fn(&MetricOverlap) -> Option<Estimate>| {
                let one = |metric: &MetricOverlap| Measured {
                    metric: metric.metric.clone(),
                    filter: metric.filter.clone(),
                    estimate: estimate(metric),
                };
                let of_task = |task: &&Self| task.rules[number].metrics.iter().map(one).collect();
                pool(&tasks.iter().map(of_task).collect::<Vec<_>>())
            };
            let all = part(|metric| metric.all);
            let overlapping = part(|metric| metric.overlapping);
            let clean = part(|metric| metric.clean.or(metric.nothing_found));
            let count: usize = tasks.iter().map(|task| task.rules[number].overlapping).sum();
            let looked_for: usize = tasks.iter().map(|task| task.documents - task.not_looked_for).sum();
            RuleOverlap {
                rule: *rule,
                overlapping: count,
                share: (looked_for > 0).then(|| count as f64 / looked_for as f64),
                metrics: metrics(&all, &overlapping, &clean, overlaps.is_known()),
            }
        };
        Self {
            task: group.to_owned(),
            documents: tasks.iter().map(|task| task.documents).sum(),
            not_looked_for: tasks.iter().map(|task| task.not_looked_for).sum(),
            rules: Rule::ALL.iter().enumerate().map(of_rule).collect(),
        }
    }

    fn line(&self, is_known: bool) -> Option<String> {
        let strictest = self.rules.last()?;
        let counts = self.rules.iter().map(|found| {
            let share = found.share.map_or_else(String::new, |share| format!(" ({:.1} %)", share * 100.0));
            format!("{}{share} by runs of {} words", found.overlapping, found.rule.words)
        });
        let mut line = format!(
            "{}: of {} documents, training data holds {}",
            self.task,
            self.documents,
            counts.collect::<Vec<_>>().join(" and ")
        );
        if self.not_looked_for > 0 {
            line.push_str(&format!("; {} cannot be looked for", self.not_looked_for));
        }
        let named = strictest.metrics.first().filter(|_| strictest.overlapping > 0);
        if let Some(metric) = named
            && let Some((all, rest)) = metric.all.zip(metric.clean.or(metric.nothing_found))
        {
            let over = if is_known { "clean ones" } else { "others, which may not be clean" };
            line.push_str(&format!(
                "; {} {:.4} over all, {:.4}{} over the {} {over}",
                metric.metric,
                all.value,
                rest.value,
                interval(&rest),
                rest.n
            ));
        }
        Some(line)
    }
}

fn interval(estimate: &Estimate) -> String {
    let ends = estimate.ci_low.zip(estimate.ci_high);
    ends.map_or_else(String::new, |(low, high)| format!(" ({low:.4} to {high:.4})"))
}

fn metrics(
    all: &[Measured],
    overlapping: &[Measured],
    rest: &[Measured],
    is_known: bool,
) -> Vec<MetricOverlap> {
    let one = |measured: &Measured| {
        let of = |part: &[Measured]| {
            let same = part.iter().find(|one| one.metric == measured.metric && one.filter == measured.filter);
            same.and_then(|one| one.estimate)
        };
        MetricOverlap {
            metric: measured.metric.clone(),
            filter: measured.filter.clone(),
            all: measured.estimate,
            overlapping: of(overlapping),
            clean: of(rest).filter(|_| is_known),
            nothing_found: of(rest).filter(|_| !is_known),
        }
    };
    all.iter().map(one).collect()
}
