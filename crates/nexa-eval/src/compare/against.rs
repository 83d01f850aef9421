//! Evaluations held against one of them, with one correction over everything that is tested.

use nexa_core::artifact::Artifact;
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::compare::tasks::{self, HELD_OUT, Tested, Tests};
use crate::compare::{Side, TaskComparison, Verdict};
use crate::metric::Name;
use crate::statistics::{fewest_to_show, holm, minimum_detectable_effect_among};
use crate::{Evaluation, Result};

/// Evaluations against one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// What the others are held against.
    pub base: Side,
    /// The others, in the order in which they were named.
    pub contenders: Vec<Contender>,
    /// Tests over which p-values are corrected.
    pub tests: usize,
}

/// One evaluation against the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// The evaluation.
    pub side: Side,
    /// The metrics that both have, the contender's first: a positive difference is one in its favour where more is better.
    pub metrics: Vec<AgainstBase>,
    /// Metrics of the base that could not be compared: they were not measured, not asked alike, or have no values of single
    /// documents.
    pub not_compared: Vec<String>,
    /// Why what was asked of a held-out split is among them, where either was asked anything of one.
    pub held_out_not_compared: Option<String>,
}

/// A metric of a contender against that of the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgainstBase {
    /// Name, values and difference; p-value and verdict are corrected over all contenders and metrics.
    #[serde(flatten)]
    pub task: TaskComparison,
    /// The smallest true difference that so many tests find in four of five repetitions; unknown where the models never
    /// differed.
    pub detectable: Option<f64>,
    /// Whether so few documents could not have shown any difference, however large.
    pub is_blind: bool,
}

impl Against {
    /// Holds evaluations against one of them.
    ///
    /// # Errors
    /// Fails when an evaluation has no metric that can be compared with the base, or cannot be read.
    pub fn base(base: &Artifact, others: &[Artifact], tables: &dyn Tables) -> Result<Self> {
        let base = Evaluation::read(base, tables)?;
        let others = others.iter().map(|other| Evaluation::read(other, tables));
        let others = others.collect::<Result<Vec<_>>>()?;
        let found = others.iter().map(|other| Tests::of(other, &base)).collect::<Result<Vec<_>>>()?;
        let all = found.iter().flat_map(|tests| &tests.found);
        let p_values: Vec<f64> = all.map(|one| one.difference.p_value).collect();
        let mut adjusted = holm(&p_values).into_iter();
        let tests = p_values.len();
        let contenders = others.iter().zip(found).map(|(other, found)| Contender {
            side: Side::of(other),
            not_compared: not_compared(&base, &found.found),
            held_out_not_compared: found.held_out_not_compared,
            metrics: found
                .found
                .into_iter()
                .zip(adjusted.by_ref())
                .map(|(one, p_adjusted)| AgainstBase::of(one, p_adjusted, tests))
                .collect(),
        });
        let contenders = contenders.collect();
        Ok(Self { base: Side::of(&base), contenders, tests })
    }

    /// Everything in which a contender is worse than the base, by the corrected tests.
    pub fn worse(&self) -> impl Iterator<Item = (&Contender, &AgainstBase)> {
        let all = self.contenders.iter().flat_map(|one| one.metrics.iter().map(move |metric| (one, metric)));
        all.filter(|(_, metric)| metric.task.comparison.verdict == Verdict::Worse)
    }
}

impl AgainstBase {
    fn of(one: Tested, p_adjusted: f64, tests: usize) -> Self {
        let error = one.difference.standard_error.filter(|&error| error > 0.0);
        Self {
            detectable: error.map(|error| minimum_detectable_effect_among(error, tests)),
            is_blind: one.difference.n < fewest_to_show(tests),
            task: one.corrected(p_adjusted),
        }
    }
}

/// The metrics of the base that nothing was found for, but for those that say the same as one that was found.
fn not_compared(base: &Evaluation, found: &[Tested]) -> Vec<String> {
    let is_found = |name: &Name| found.iter().any(|one| one.name == *name);
    let is_told = |name: &Name| match name.held_out_task() {
        Some(task) => HELD_OUT.iter().any(|other| other.held_out_task() == Some(task) && is_found(other)),
        None => is_found(name) || tasks::is_told_by_bits(name, found),
    };
    let names = base.metrics.iter().map(|metric| metric.name());
    names.filter(|name| !is_told(name)).map(|name| name.to_string()).collect()
}
