//! What was found, in numbers.

use nexa_core::stage::Context;
use serde::Serialize;

use super::Config;
use super::cluster::Counts;
use super::minhash::probability;
use super::survivor::{Cluster, Member, Standing};
use crate::Result;

/// The similarities for which the chance of being found is told.
const CURVE: [f64; 6] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.9];

/// The counts of one deduplication.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// The columns that were compared.
    pub(super) columns: Vec<String>,
    /// Whether numbers counted as the same number.
    pub(super) mask_numbers: bool,
    /// Rows that were read.
    pub(super) rows: u64,
    /// Those without a word, which were compared with nothing.
    pub(super) without_text: u64,
    /// Those with fewer words than a shingle, which were compared as a whole only.
    pub(super) short: u64,
    /// Clusters of more than one row.
    clusters: u64,
    /// The rows of the largest one.
    largest_cluster: u64,
    /// Rows that say the same as the survivor of their cluster.
    exact_duplicates: u64,
    /// Rows that say nearly the same.
    near_duplicates: u64,
    /// What was looked at to find these.
    pub(super) search: Counts,
    /// The chance that two rows of a similarity are compared.
    curve: Vec<Chance>,
}

/// The chance that two rows of a similarity share a band.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Chance {
    similarity: f64,
    probability: f64,
}

impl Report {
    /// Counts what stands in clusters; the rest is for the caller to fill in.
    pub(super) fn of(config: &Config, clusters: &[Cluster], members: &[Member]) -> Self {
        let count = |is: fn(Standing) -> bool| members.iter().filter(|m| is(m.standing)).count() as u64;
        let chance = |similarity| Chance {
            similarity,
            probability: probability(similarity, config.bands, config.rows_per_band),
        };
        Self {
            columns: Vec::new(),
            mask_numbers: false,
            rows: 0,
            without_text: 0,
            short: 0,
            clusters: clusters.len() as u64,
            largest_cluster: clusters.iter().map(|cluster| cluster.members).max().unwrap_or_default(),
            exact_duplicates: count(|standing| standing == Standing::Equal),
            near_duplicates: count(|standing| matches!(standing, Standing::Similar(_))),
            search: Counts::default(),
            curve: if config.near { CURVE.map(chance).to_vec() } else { Vec::new() },
        }
    }

    /// Puts the counts into the manifest; `kept` and `removed` are the rows of both tables.
    pub(super) fn state(&self, context: &Context<'_>, (kept, removed): (u64, u64)) -> Result<()> {
        context.set_rows(kept);
        context.state("rows_in", self.rows)?;
        context.state("rows_out", kept)?;
        context.state("removed", removed)?;
        context.state("exact_duplicates", self.exact_duplicates)?;
        context.state("near_duplicates", self.near_duplicates)?;
        context.state("clusters", self.clusters)?;
        context.state("largest_cluster", self.largest_cluster)?;
        context.state("columns", &self.columns)?;
        context.state("mask_numbers", self.mask_numbers)?;
        Ok(())
    }
}
