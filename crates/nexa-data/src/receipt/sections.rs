//! What the rows that were found say, put into the sections of a receipt.

use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::columns;
use nexa_core::review::{Labels, is_reviewable, row_id};
use nexa_core::table::Row;
use serde_json::Value;

use super::find::Place;
use super::graph::{Graph, REJECTED};
use super::origin::{self, INGEST};
use super::{Attempt, Detail, Gated, Judged, Packaged, Prompt, Receipt, Reviewed, text};
use crate::Result;

/// The tables beside the main one that hold numbers by gate.
const SCORES: &str = "scores";
/// The tables of rows that led to nothing.
const FAILED: &str = "failed";
const EXHAUSTED: &str = "exhausted";
/// The columns of judges and failures.
const JUDGE: &str = "judge";
const EXPLANATION: &str = "explanation";
const PROBLEM: &str = "problem";
const FAILURE: &str = "failure";

/// Fills in what the tables and the labels of reviewers say.
///
/// # Errors
/// Fails when labels or a source file cannot be read.
pub(super) fn fill(receipt: &mut Receipt, graph: &Graph, places: &[Place], store: &Store<'_>) -> Result<()> {
    for place in places {
        let Some(artifact) = graph.get(&place.artifact) else { continue };
        let manifest = &artifact.manifest;
        match manifest.kind {
            Kind::Dataset if manifest.producer.stage == INGEST && place.is_main => {
                receipt.origins.push(origin::of(graph, artifact, place)?);
            }
            Kind::Dataset | Kind::Filtered | Kind::Scores => gated(receipt, artifact, place),
            Kind::TeacherInputs => receipt.prompts.push(prompt(place)),
            Kind::TeacherOutputs if place.is_main || place.stem == FAILED => {
                receipt.attempts.push(attempt(artifact, place));
            }
            Kind::Verdicts => receipt.verdicts.push(judged(place)),
            Kind::SftDataset => receipt.packages.push(packaged(artifact, place)),
            // Raw files and predictions are told with what was made of them.
            _ => {}
        }
        if is_reviewable(manifest.kind) && (place.is_main || place.stem == REJECTED) {
            reviewed(receipt, store, place)?;
        }
    }
    Ok(())
}

fn prompt(place: &Place) -> Prompt {
    let row = &place.row;
    let refused = (place.stem == EXHAUSTED).then(|| "it was asked often enough".to_owned());
    Prompt {
        artifact: place.artifact.clone(),
        id: place.id.clone(),
        template: text(row, columns::TEMPLATE_NAME),
        system_prompt: text(row, columns::SYSTEM_PROMPT),
        user_prompt: text(row, columns::USER_PROMPT),
        attempt: row.get(columns::ATTEMPT).and_then(Value::as_u64),
        because: refused.or_else(|| text(row, columns::REJECTION_REASON)),
    }
}

fn attempt(artifact: &Artifact, place: &Place) -> Attempt {
    let row = &place.row;
    let manifest = &artifact.manifest;
    let teacher = manifest.summary.get("teacher").or_else(|| manifest.producer.config.get("teacher"));
    let count = |column: &str| row.get(column).and_then(Value::as_u64);
    Attempt {
        artifact: place.artifact.clone(),
        run: manifest.producer.run.to_string(),
        id: place.id.clone(),
        teacher: teacher.and_then(Value::as_str).map(str::to_owned),
        model: text(row, columns::MODEL_ID),
        outcome: text(row, FAILURE).or_else(|| text(row, columns::FINISH_REASON)).unwrap_or_default(),
        prompt_tokens: count(columns::PROMPT_TOKENS),
        completion_tokens: count(columns::COMPLETION_TOKENS),
        output: text(row, columns::TEACHER_OUTPUT),
        paid: None,
    }
}

fn judged(place: &Place) -> Judged {
    Judged {
        artifact: place.artifact.clone(),
        id: place.id.clone(),
        judge: text(&place.row, JUDGE),
        score: place.row.get(columns::SCORE).and_then(Value::as_f64),
        explanation: text(&place.row, EXPLANATION).filter(|text| !text.is_empty()),
        problem: text(&place.row, PROBLEM),
    }
}

/// Adds what one table says to what the others of its artifact said of the row.
fn gated(receipt: &mut Receipt, artifact: &Artifact, place: &Place) {
    let known =
        receipt.gates.iter().position(|gated| gated.artifact == place.artifact && gated.id == place.id);
    let at = known.unwrap_or_else(|| {
        receipt.gates.push(Gated {
            artifact: place.artifact.clone(),
            stage: artifact.manifest.producer.stage.clone(),
            id: place.id.clone(),
            passed: true,
            gate: None,
            reason: None,
            value: None,
            split: None,
            edited_by: None,
            scores: Row::new(),
            details: Vec::new(),
        });
        receipt.gates.len() - 1
    });
    let gated = &mut receipt.gates[at];
    let row = &place.row;
    let is_scores = artifact.manifest.kind == Kind::Scores || place.stem == SCORES;
    if is_scores {
        let measured = row.iter().filter(|(name, value)| *name != columns::ID && !value.is_null());
        gated.scores.extend(measured.map(|(name, value)| (name.clone(), value.clone())));
    } else if place.is_main {
        gated.split = text(row, columns::SPLIT);
        gated.edited_by = text(row, columns::EDITED_BY);
    } else if place.stem == REJECTED {
        gated.passed = false;
        gated.gate = text(row, columns::REJECTION_GATE);
        gated.reason = text(row, columns::REJECTION_REASON);
        gated.value = row.get(columns::REJECTION_VALUE).and_then(Value::as_f64);
    } else {
        gated.details.push(Detail { file: place.file.clone(), row: row.clone() });
    }
}

fn packaged(artifact: &Artifact, place: &Place) -> Packaged {
    let formats = artifact.manifest.producer.config.get("formats").and_then(Value::as_array);
    let formats = formats.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Packaged {
        artifact: place.artifact.clone(),
        id: place.id.clone(),
        split: text(&place.row, columns::SPLIT).filter(|_| place.is_main),
        reason: text(&place.row, columns::REJECTION_REASON),
        formats: if place.is_main { formats } else { Vec::new() },
    }
}

fn reviewed(receipt: &mut Receipt, store: &Store<'_>, place: &Place) -> Result<()> {
    let row_id = row_id(&place.row);
    for (reviewer, journal) in Labels::new(store.lab(), &place.artifact).read_all()? {
        let Some(decision) = journal.history.decision(&row_id) else { continue };
        receipt.reviews.push(Reviewed {
            artifact: place.artifact.clone(),
            id: place.id.clone(),
            reviewer,
            verdict: decision.verdict.to_string(),
            reason: decision.reason.clone(),
            text: decision.text.clone(),
            at: decision.at,
        });
    }
    Ok(())
}
