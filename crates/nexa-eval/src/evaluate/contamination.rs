//! What an evaluation has in common with training data, in its files and as it is told.

use std::collections::BTreeMap;

use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::stage::Context;
use serde_json::json;

use crate::Result;
use crate::contamination::{Contamination, FILE, Overlaps, TaskOverlap};
use crate::predictions::Prediction;

/// Tasks that are told of, at most; the file has all.
const SHOWN: usize = 20;

/// Tells each prediction what share of its document stands in the training data. Predictions stand in the order of tasks
/// and documents.
pub(super) fn mark(overlaps: &Overlaps, predictions: &mut [Prediction]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for prediction in predictions {
        let at = seen.entry(prediction.task.clone()).or_default();
        prediction.overlap = overlaps.shares(&prediction.task).get(*at).copied().flatten();
        *at += 1;
    }
}

/// Writes `contamination.json`, states in the manifest which data was looked through, and tells of each task.
pub(super) fn write(context: &Context<'_>, overlaps: &Overlaps, tasks: Vec<TaskOverlap>) -> Result<()> {
    let found = Contamination::of(overlaps, tasks);
    files::write_json(&context.output.join(FILE), &found)?;
    let unknown = overlaps.unknown();
    context.state(
        "training_data",
        json!({"is_known": found.is_known, "looked_through": overlaps.names(), "unknown": unknown}),
    )?;
    let rows: usize = found.training_data.iter().map(|text| text.rows).sum();
    if !overlaps.names().is_empty() {
        let names = overlaps.names().join(", ");
        context.emit(Event::info(format!("looked for documents in {rows} rows of training data: {names}")));
    }
    for reason in unknown {
        context.emit(Event::info(format!("training data unknown: {reason}; nothing is called clean")));
    }
    let lines = found.lines();
    for line in lines.iter().take(SHOWN) {
        context.emit(Event::info(line));
    }
    if lines.len() > SHOWN {
        context.emit(Event::info(format!("{} more tasks in {FILE}", lines.len() - SHOWN)));
    }
    Ok(())
}
