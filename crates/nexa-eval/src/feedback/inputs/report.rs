//! The report of aimed prompts, for people: Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use nexa_core::columns;
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::Value;

use super::aim::Candidate;
use super::held_out::Reason;
use crate::feedback::Cluster;

/// Refused prompts that are shown; the table has all.
const SHOWN: usize = 10;

/// What is reported.
pub(super) struct Report<'a> {
    /// What prompts were aimed at.
    pub(super) clusters: &'a [Cluster],
    pub(super) chosen: &'a [Candidate],
    /// Rows of the pool.
    pub(super) pool: usize,
    /// Those of them that were asked before.
    pub(super) asked: usize,
    /// Those that are near to no gap.
    pub(super) far: usize,
    /// Those that could be chosen.
    pub(super) near: usize,
    /// Items that the model is judged by.
    pub(super) held_out: usize,
    /// Rows that are such an item, or nearly.
    pub(super) refused: &'a [Row],
    pub(super) reasons: &'a BTreeMap<Reason, usize>,
}

/// How many prompts are aimed at a gap.
#[derive(Debug, Serialize)]
pub(super) struct OfGap<'a> {
    gap: &'a str,
    failures: usize,
    prompts: usize,
    /// How near the prompts are on average.
    mean_similarity: Option<f64>,
}

impl Report<'_> {
    /// The prompts by gap.
    pub(super) fn of_gaps(&self) -> Vec<OfGap<'_>> {
        let of = |(number, cluster): (usize, &'_ Cluster)| {
            let chosen = self.chosen.iter().filter(|one| one.gap == number);
            let similarities: Vec<f64> = chosen.map(|one| one.similarity).collect();
            let prompts = similarities.len();
            let mean_similarity = (prompts > 0).then(|| similarities.iter().sum::<f64>() / prompts as f64);
            (number, cluster.failures, prompts, mean_similarity)
        };
        let counted = self.clusters.iter().enumerate().map(of);
        counted
            .map(|(number, failures, prompts, mean_similarity)| OfGap {
                gap: &self.clusters[number].label,
                failures,
                prompts,
                mean_similarity,
            })
            .collect()
    }
}

impl Display for Report<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "# Prompts aimed at gaps\n")?;
        writeln!(out, "| gap | failures | prompts | mean similarity |")?;
        writeln!(out, "|---|---:|---:|---:|")?;
        for of in self.of_gaps() {
            let similarity = of.mean_similarity.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.2}"));
            writeln!(out, "| {} | {} | {} | {similarity} |", of.gap, of.failures, of.prompts)?;
        }
        writeln!(out, "\n| rows of the pool | {} |", self.pool)?;
        writeln!(out, "|---|---:|")?;
        writeln!(out, "| asked before | {} |", self.asked)?;
        for reason in Reason::ALL {
            let count = self.reasons.get(&reason).copied().unwrap_or(0);
            writeln!(out, "| refused: {} | {count} |", in_words(reason))?;
        }
        writeln!(out, "| near to no gap | {} |", self.far)?;
        writeln!(out, "| left over | {} |", self.near - self.chosen.len())?;
        writeln!(out, "| **taken** | **{}** |", self.chosen.len())?;
        writeln!(out, "\nThe pool was held against {} items that models are judged by.", self.held_out)?;
        if self.refused.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Refused\n")?;
        for row in self.refused.iter().take(SHOWN) {
            let cell = |column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
            writeln!(out, "- `{}`: {}", cell(columns::ID), cell(columns::REJECTION_REASON))?;
        }
        match self.refused.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "- and {more} more, in the table `rejected`"),
        }
    }
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::SameText => "an evaluation item itself",
        Reason::SameGroup => "of the group of an evaluation item",
        Reason::NearCopy => "a near copy of an evaluation item",
    }
}
