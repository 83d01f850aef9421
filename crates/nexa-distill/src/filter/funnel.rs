//! How many rows went into each gate, and how many came out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gates::{Bounds, Gate};

pub(super) const FILE: &str = "funnel.json";

/// The way of all rows through the gates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Funnel {
    /// Rows before the first gate.
    pub rows_in: usize,
    /// Rows after the last one.
    pub rows_out: usize,
    /// Each gate, in the order in which they decided.
    pub gates: Vec<GateCount>,
}

/// The rows of one gate; `rows_in` is `rejected` plus `rows_out`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateCount {
    /// The gate.
    pub gate: String,
    /// Its version.
    pub version: u32,
    /// Which scores passed it.
    #[serde(default)]
    pub bounds: Bounds,
    /// Rows that reached it.
    pub rows_in: usize,
    /// Rows that it rejected.
    pub rejected: usize,
    /// Rows that passed it.
    pub rows_out: usize,
}

impl Funnel {
    /// Makes the funnel of some rows from each gate and how many it rejected.
    pub(super) fn new<'a>(rows_in: usize, gates: impl Iterator<Item = (&'a Gate, usize)>) -> Self {
        let mut open = rows_in;
        let gates = gates
            .map(|(gate, rejected)| {
                let rows_in = open;
                open -= rejected;
                GateCount {
                    gate: gate.name().to_owned(),
                    version: gate.version(),
                    bounds: gate.bounds(),
                    rows_in,
                    rejected,
                    rows_out: open,
                }
            })
            .collect();
        Self { rows_in, rows_out: open, gates }
    }
}

impl fmt::Display for Funnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:>9} {:>9} {:>9}", "gate", "in", "rejected", "out")?;
        for gate in &self.gates {
            let GateCount { gate, rows_in, rejected, rows_out, .. } = gate;
            write!(f, "\n{gate:<16} {rows_in:>9} {rejected:>9} {rows_out:>9}")?;
        }
        let rejected = self.rows_in - self.rows_out;
        write!(f, "\n{:<16} {:>9} {:>9} {:>9}", "all", self.rows_in, rejected, self.rows_out)
    }
}
