//! Whether a version shows what a tag asks for: bounds on what it was measured at, a known descent, and that it is not
//! worse than the version that has the tag.
//!
//! Measured values are those of the newest evaluation of the version that has them and asked all documents; of a rubric, those
//! of the newest verdicts on one of its evaluations. What was never measured does not hold, and neither does what could not be
//! tested. Bounds are for models, checkpoints and those behind an API: of other kinds only the descent is asked.

use std::collections::BTreeMap;

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::lineage;
use nexa_core::promotion::{Bound, Promotion};
use nexa_core::table::Tables;
use serde::Serialize;

use crate::compare::{TaskComparison, Tested, Verdict};
use crate::evaluation::{newest_first, of_checkpoint};
use crate::facts::summary;
use crate::judge::Verdicts;
use crate::judge::means::means;
use crate::metric::{Metric, Name};
use crate::statistics::{fewest_to_show, holm};
use crate::{Evaluation, Result};

/// One condition, and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What is asked.
    pub condition: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, and where.
    pub found: String,
}

impl Check {
    fn new(condition: impl Into<String>, holds: bool, found: impl Into<String>) -> Self {
        Self { condition: condition.into(), holds, found: found.into() }
    }
}

/// Holds a version against the conditions of a tag, which `holder` has so far.
///
/// # Errors
/// Fails on a bound that says nothing, and when an evaluation, verdicts or the lineage cannot be read.
pub fn examine(
    candidate: &Artifact,
    holder: Option<&Artifact>,
    conditions: &Promotion,
    store: &Store<'_>,
    tables: &dyn Tables,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    if conditions.provenance {
        checks.push(provenance(candidate, store)?);
    }
    if !matches!(candidate.manifest.kind, Kind::Checkpoint | Kind::ApiModel) {
        return Ok(checks);
    }
    let measured = Measured::of(candidate, store, tables)?;
    let before = match holder.filter(|holder| conditions.not_worse && holder.id() != candidate.id()) {
        Some(holder) => Some(Measured::of(holder, store, tables)?),
        None => None,
    };
    let mut names: Vec<Name> = Vec::new();
    for bound in &conditions.require {
        if let Some(problem) = bound.problem() {
            let key = format!("promotion: {}", bound.subject());
            return Err(nexa_core::Error::config(key, problem).into());
        }
        checks.extend(match &bound.rubric {
            Some(rubric) => measured.rubric(bound, rubric)?,
            None => measured.metric(bound),
        });
        let meant = measured.newest(bound).map(|(_, meant)| meant).unwrap_or_default();
        for name in meant.into_iter().map(Metric::name) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if let Some(before) = &before {
        checks.extend(not_worse(&measured, before, &names));
    }
    Ok(checks)
}

fn provenance(candidate: &Artifact, store: &Store<'_>) -> Result<Check> {
    let gaps = lineage::ancestors(store, candidate.id())?.gaps();
    let found = if gaps.is_empty() { "known to its beginning".to_owned() } else { gaps.join("; ") };
    Ok(Check::new("everything that it descends from is known and unchanged", gaps.is_empty(), found))
}

/// What a version was measured at.
struct Measured<'a> {
    id: ArtifactId,
    store: &'a Store<'a>,
    tables: &'a dyn Tables,
    /// Newest first.
    evaluations: Vec<Evaluation>,
}

impl<'a> Measured<'a> {
    fn of(version: &Artifact, store: &'a Store<'a>, tables: &'a dyn Tables) -> Result<Self> {
        let made = of_checkpoint(store, &version.id().project, version)?;
        let evaluations = made.iter().map(|artifact| Evaluation::read(artifact, tables));
        Ok(Self { id: version.id().clone(), store, tables, evaluations: evaluations.collect::<Result<_>>()? })
    }

    /// The evaluations that asked all documents, the newest first.
    fn whole(&self) -> impl Iterator<Item = &Evaluation> {
        self.evaluations.iter().filter(|evaluation| is_whole(evaluation))
    }

    /// The newest of them that has what a bound is about, with every metric that it may mean.
    fn newest(&self, bound: &Bound) -> Option<(&Evaluation, Vec<&Metric>)> {
        self.whole().find_map(|evaluation| {
            let meant: Vec<&Metric> =
                evaluation.metrics.iter().filter(|metric| is_meant(bound, metric)).collect();
            (!meant.is_empty()).then_some((evaluation, meant))
        })
    }

    /// Tests a metric against that of another version, in the newest whole evaluations of both that were asked it alike; else
    /// says why the newest two cannot be compared.
    fn against(&self, other: &Self, name: &Name) -> Result<Tested, String> {
        let mut first_reason = None;
        for own in self.whole().filter(|evaluation| evaluation.metric(name).is_some()) {
            for theirs in other.whole().filter(|evaluation| evaluation.metric(name).is_some()) {
                match Tested::of(own, theirs, name) {
                    Ok(found) => return Ok(found),
                    Err(reason) => {
                        first_reason
                            .get_or_insert_with(|| format!("{} and {}: {reason}", own.id(), theirs.id()));
                    }
                }
            }
        }
        Err(first_reason.unwrap_or_else(|| {
            let lacks = |side: &Self| side.whole().all(|evaluation| evaluation.metric(name).is_none());
            let side = if lacks(self) { self } else { other };
            format!("no evaluation of all documents of {} has {name}", side.id)
        }))
    }

    /// Holds metrics against their bound: all that it may mean, where it leaves out the task or the filter.
    fn metric(&self, bound: &Bound) -> Vec<Check> {
        let condition = |subject: &str| format!("{subject} is {}", bound.range());
        let Some((evaluation, meant)) = self.newest(bound) else {
            let mut of_parts = self.evaluations.iter().flat_map(|evaluation| &evaluation.metrics);
            let found = if of_parts.any(|metric| is_meant(bound, metric)) {
                format!(
                    "no evaluation of {} that asked all documents has it, only such as asked a part",
                    self.id
                )
            } else {
                format!("no evaluation of {} has it", self.id)
            };
            return vec![Check::new(condition(&bound.subject()), false, found)];
        };
        let check = |metric: &&Metric| {
            let found = format!("{:.4} over {} items in {}", metric.value, metric.n, evaluation.id());
            Check::new(condition(&metric.name().to_string()), bound.holds(metric.value), found)
        };
        meant.iter().map(check).collect()
    }

    /// Holds the mean score of the newest verdicts by a rubric against its bound.
    fn rubric(&self, bound: &Bound, rubric: &str) -> Result<Vec<Check>> {
        let condition = format!("{} is {}", bound.subject(), bound.range());
        let mut verdicts = newest_first(self.store.of_kind(&self.id.project, Kind::Verdicts)?);
        verdicts.retain(|verdicts| {
            let is_by = summary::<String>(verdicts, "rubric").is_ok_and(|name| name == rubric);
            is_by && self.evaluations.iter().any(|one| is_about(verdicts, &one.artifact))
        });
        let Some(newest) = verdicts.first() else {
            let found = format!("no evaluation of {} was judged by it", self.id);
            return Ok(vec![Check::new(condition, false, found)]);
        };
        let read = Verdicts::read(std::slice::from_ref(newest), self.tables)?;
        let means = means(&read);
        let Some(score) = means.iter().find(|mean| mean.is_overall() && mean.criterion.is_none()) else {
            let found = format!("no verdict of {} could be read", newest.id());
            return Ok(vec![Check::new(condition, false, found)]);
        };
        let found = format!("{:.3} over {} answers in {}", score.mean.value, score.mean.n, newest.id());
        Ok(vec![Check::new(condition, bound.holds(score.mean.value), found)])
    }
}

/// Tests a version against the one that has the tag in some metrics, with one correction over all of them. What cannot be
/// tested was not shown, and does not hold.
fn not_worse(version: &Measured<'_>, holder: &Measured<'_>, names: &[Name]) -> Vec<Check> {
    let mut tests: BTreeMap<Name, Result<Tested, String>> = BTreeMap::new();
    for name in names.iter().map(tested_by) {
        tests.entry(name).or_insert_with_key(|name| version.against(holder, name));
    }
    let p_values: Vec<f64> = tests.values().flatten().map(|one| one.difference.p_value).collect();
    let mut adjusted = holm(&p_values).into_iter();
    let mut corrected = |one: Tested| {
        one.corrected(adjusted.next().expect("as many p-values were corrected as there are tests"))
    };
    let found: BTreeMap<Name, Result<TaskComparison, String>> =
        tests.into_iter().map(|(name, found)| (name, found.map(&mut corrected))).collect();
    let check = |name: &Name| {
        let condition = format!("{name} is not worse than that of {}", holder.id);
        match &found[&tested_by(name)] {
            Ok(found) => {
                let is_worse = found.comparison.verdict == Verdict::Worse;
                Check::new(condition, !is_worse, in_words(name, found, p_values.len()))
            }
            Err(reason) => {
                let way = "evaluate both in the same way, or set `not_worse: false`";
                Check::new(condition, false, format!("not tested: {reason}; {way}"))
            }
        }
    };
    names.iter().map(check).collect()
}

/// What is tested in the place of a metric: what is counted by tokens says nothing of a model with another tokenizer.
fn tested_by(name: &Name) -> Name {
    if [Name::LOSS, Name::PERPLEXITY].contains(name) { Name::BITS_PER_BYTE } else { name.clone() }
}

/// What a test found, one of so many.
fn in_words(name: &Name, found: &TaskComparison, tests: usize) -> String {
    let TaskComparison { name: tested, comparison } = found;
    let by = if tested == name { String::new() } else { format!("by {tested}: ") };
    let blind = if comparison.difference.n < fewest_to_show(tests) {
        "; so few independent documents cannot show any difference"
    } else {
        ""
    };
    format!(
        "{by}{:.4} beside {:.4}, p = {:.2e}: {}{blind}",
        comparison.a.value,
        comparison.b.value,
        comparison.p_adjusted,
        comparison.verdict.as_str()
    )
}

/// Whether an evaluation asked all documents: with no `limit`, and not only until something was decided.
fn is_whole(evaluation: &Evaluation) -> bool {
    let manifest = &evaluation.artifact.manifest;
    let config = &manifest.producer.config;
    // The first versions of the stage had their settings at the top.
    let limit = config.pointer("/settings/limit").or_else(|| config.get("limit"));
    limit.is_none_or(serde_json::Value::is_null) && !manifest.summary.contains_key("versus")
}

/// Whether a bound means a metric.
fn is_meant(bound: &Bound, metric: &Metric) -> bool {
    let is = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|asked| asked == has);
    bound.metric.as_deref() == Some(metric.metric.as_str())
        && is(&bound.task, &metric.task)
        && is(&bound.filter, &metric.filter)
}

/// Whether verdicts are on an evaluation.
fn is_about(verdicts: &Artifact, evaluation: &Artifact) -> bool {
    let id = evaluation.id().to_string();
    verdicts.manifest.parents.iter().any(|parent| parent.role == "evaluation" && parent.id == id)
}
