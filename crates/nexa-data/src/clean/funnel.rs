//! How many rows each gate stopped, by rule: what goes in at one step came out of the one before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::thresholds::Rejection;

/// The rows on their way through the gates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    /// All rows.
    pub rows_in: u64,
    /// The gates, in order.
    pub steps: Vec<Step>,
    /// The rows that passed all of them.
    pub rows_out: u64,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub gate: String,
    /// The rows that reached it.
    pub rows_in: u64,
    /// Those that it stopped, by the key of the rule.
    pub rejected: BTreeMap<String, u64>,
    /// Those that went on.
    pub rows_out: u64,
}

/// Counts verdicts.
#[derive(Debug)]
pub(super) struct Counter {
    gates: Vec<&'static str>,
    rows: u64,
    rejected: BTreeMap<(&'static str, &'static str), u64>,
}

impl Counter {
    pub(super) fn new(gates: Vec<&'static str>) -> Self {
        Self { gates, rows: 0, rejected: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, rejection: Option<&Rejection>) {
        self.rows += 1;
        if let Some(Rejection { gate, rule, .. }) = rejection {
            *self.rejected.entry((gate, rule)).or_default() += 1;
        }
    }

    pub(super) fn finish(self) -> Funnel {
        let mut left = self.rows;
        let steps = self.gates.into_iter().map(|gate| {
            let rejected: BTreeMap<String, u64> = self
                .rejected
                .iter()
                .filter(|((by, _), _)| *by == gate)
                .map(|((_, rule), &rows)| ((*rule).to_owned(), rows))
                .collect();
            let rows_in = left;
            left -= rejected.values().sum::<u64>();
            Step { gate: gate.to_owned(), rows_in, rejected, rows_out: left }
        });
        let steps = steps.collect();
        Funnel { rows_in: self.rows, steps, rows_out: left }
    }
}
