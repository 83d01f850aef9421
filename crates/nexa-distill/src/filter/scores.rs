//! The scores of every row, as a table: `id`, and one column for each gate, null where the gate does not apply.

use nexa_core::columns;
use nexa_core::table::Row;
use serde_json::{Value, json};

use crate::gates::{Gate, Measure};

pub(super) const FILE: &str = "scores.parquet";

/// Makes the table of what the gates measured.
pub(super) fn table(rows: &[Row], gates: &[Gate], measures: &[Vec<Option<Measure>>]) -> Vec<Row> {
    rows.iter()
        .enumerate()
        .map(|(position, row)| {
            let id = (columns::ID.to_owned(), row.get(columns::ID).cloned().unwrap_or(Value::Null));
            let scores = gates.iter().zip(measures).map(|(gate, measures)| {
                let score = measures[position].as_ref().map(|measure| measure.score);
                (gate.name().to_owned(), json!(score))
            });
            std::iter::once(id).chain(scores).collect()
        })
        .collect()
}
