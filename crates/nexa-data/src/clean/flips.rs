//! What other thresholds would change, from stored scores, without writing anything.

use nexa_core::artifact::Artifact;
use serde::Serialize;

use super::scored;
use super::thresholds::{Judge, Thresholds};
use crate::Result;

/// The rows whose verdict changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flips {
    /// All rows.
    pub rows: u64,
    /// Those that are kept now.
    pub kept_before: u64,
    /// Those that would be kept.
    pub kept_after: u64,
    /// How many change sides.
    pub flipped: u64,
    /// The first of these, in the order of the rows.
    pub first: Vec<Flip>,
}

/// A row whose verdict changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// The row.
    pub id: String,
    /// Whether it would be kept.
    pub kept: bool,
    /// Why it was, or would be, rejected.
    pub gate: &'static str,
    /// Number, value and threshold.
    pub reason: String,
}

/// Compares two sets of thresholds over stored scores; of the rows that change sides, at most `limit` are told.
///
/// # Errors
/// Fails when the artifact holds no scores, or on thresholds that do not go with them.
pub fn flips(scores: &Artifact, before: &Thresholds, after: &Thresholds, limit: usize) -> Result<Flips> {
    let (_, chain) = scored::chain_of(scores)?;
    let place = "thresholds";
    let (before, after) = (Judge::new(&chain, before, place)?, Judge::new(&chain, after, place)?);
    let mut flips = Flips { rows: 0, kept_before: 0, kept_after: 0, flipped: 0, first: Vec::new() };
    for row in scored::read(scores, &chain)? {
        let row = row?;
        let [was, is] = [&before, &after].map(|judge| judge.verdict(row.language(), &row.scores));
        flips.rows += 1;
        flips.kept_before += u64::from(was.is_none());
        flips.kept_after += u64::from(is.is_none());
        let (kept, rejection) = match (was, is) {
            (None, Some(rejection)) => (false, rejection),
            (Some(rejection), None) => (true, rejection),
            _ => continue,
        };
        flips.flipped += 1;
        if flips.first.len() < limit {
            flips.first.push(Flip { id: row.id, kept, gate: rejection.gate, reason: rejection.reason });
        }
    }
    Ok(flips)
}
