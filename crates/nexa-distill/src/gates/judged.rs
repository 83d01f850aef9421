//! Holds the judges' scores against a bound. What they did not judge, or not readably, does not pass.

use std::collections::BTreeMap;

use nexa_core::columns;
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};

use super::{Bounds, Gate, Measure};
use crate::table;

pub(super) const VERSION: u32 = 1;

/// The lowest score of the judges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judged {
    /// Whether the gate is asked, where verdicts are given. Default true.
    pub enabled: bool,
    /// The lowest score that passes, from 1 to 5. Default 3.5: better than the middle.
    pub min_score: f64,
}

impl Default for Judged {
    fn default() -> Self {
        Self { enabled: true, min_score: 3.5 }
    }
}

/// The judges' scores by row.
#[derive(Debug, Clone, Default)]
pub struct Scores(BTreeMap<String, f64>);

impl Scores {
    /// Reads a table of verdicts.
    pub fn of(verdicts: &[Row]) -> Self {
        let score = |row: &Row| Some((table::cell(row, columns::ID)?, row.get(columns::SCORE)?.as_f64()?));
        Self(verdicts.iter().filter_map(score).collect())
    }

    /// The score of a row, where it has one.
    pub fn get(&self, id: &str) -> Option<f64> {
        self.0.get(id).copied()
    }
}

pub(super) fn gate(settings: Judged, scores: Scores) -> Gate {
    Gate::of_each("judge", VERSION, Bounds::at_least(settings.min_score), move |answer| {
        let score = table::cell(answer.row, columns::ID).and_then(|id| scores.get(&id));
        Some(match score {
            Some(score) => Measure::new(score, format!("judged {score}")),
            // Below the scale, whatever the bound is.
            None => Measure::new(0.0, "no readable verdict"),
        })
    })
}
