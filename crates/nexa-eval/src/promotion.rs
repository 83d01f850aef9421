//! Whether a version shows what a tag asks for: bounds on what it was measured at, a known descent, and that it is not
//! worse than the version that has the tag.
//!
//! Measured values are those of the newest evaluation of the version that has them; of a rubric, those of the newest
//! verdicts on one of its evaluations. What was never measured does not hold. Bounds are for checkpoints: of other kinds only
//! the descent is asked.

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::lineage;
use nexa_core::promotion::{Bound, Promotion};
use nexa_core::table::Tables;
use serde::Serialize;

use crate::compare::{Verdict, compare};
use crate::evaluation::{newest_first, of_checkpoint};
use crate::facts::summary;
use crate::judge::Verdicts;
use crate::judge::means::means;
use crate::metric::Metric;
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
    if candidate.manifest.kind != Kind::Checkpoint {
        return Ok(checks);
    }
    let measured = Measured::of(candidate, store, tables)?;
    let before = match holder.filter(|holder| conditions.not_worse && holder.id() != candidate.id()) {
        Some(holder) => Some(Measured::of(holder, store, tables)?),
        None => None,
    };
    for bound in &conditions.require {
        if let Some(problem) = bound.problem() {
            let key = format!("promotion: {}", bound.subject());
            return Err(nexa_core::Error::config(key, problem).into());
        }
        checks.extend(match &bound.rubric {
            Some(rubric) => measured.rubric(bound, rubric)?,
            None => measured.metric(bound),
        });
        if let Some(before) = &before {
            checks.extend(not_worse(&measured, before, bound, tables)?);
        }
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

    /// The newest evaluation that has what a bound is about, with every metric that it may mean.
    fn newest(&self, bound: &Bound) -> Option<(&Evaluation, Vec<&Metric>)> {
        self.evaluations.iter().find_map(|evaluation| {
            let meant: Vec<&Metric> =
                evaluation.metrics.iter().filter(|metric| is_meant(bound, metric)).collect();
            (!meant.is_empty()).then_some((evaluation, meant))
        })
    }

    /// Holds metrics against their bound: all that it may mean, where it leaves out the task or the filter.
    fn metric(&self, bound: &Bound) -> Vec<Check> {
        let condition = |subject: &str| format!("{subject} is {}", bound.range());
        let Some((evaluation, meant)) = self.newest(bound) else {
            let found = format!("no evaluation of {} has it", self.id);
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

/// Tests a version against the one that has the tag, in the metrics of a bound. Where nothing can be tested, nothing was
/// shown, and that is told.
fn not_worse(
    version: &Measured<'_>,
    holder: &Measured<'_>,
    bound: &Bound,
    tables: &dyn Tables,
) -> Result<Vec<Check>> {
    let condition = |subject: &str| format!("{subject} is not worse than that of {}", holder.id);
    let pair = version.newest(bound).zip(holder.newest(bound));
    let Some(((a, meant), (b, _))) = pair else { return Ok(Vec::new()) };
    let comparison = match compare(&a.artifact, &b.artifact, tables) {
        Ok(comparison) => comparison,
        Err(crate::Error::Incomparable { reason, .. }) => {
            return Ok(vec![Check::new(condition(&bound.subject()), true, format!("not tested: {reason}"))]);
        }
        Err(error) => return Err(error),
    };
    let check = |metric: &&Metric| {
        let name = metric.name();
        let subject = condition(&name.to_string());
        let Some(found) = comparison.of(&name) else {
            return Check::new(subject, true, "not tested: both were not asked it in the same way");
        };
        let told = format!(
            "{:.4} beside {:.4}, p = {:.2e}: {}",
            found.a.value,
            found.b.value,
            found.difference.p_value,
            found.verdict.as_str()
        );
        Check::new(subject, found.verdict != Verdict::Worse, told)
    };
    Ok(meant.iter().map(check).collect())
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
