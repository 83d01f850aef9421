//! MT-bench: conversations of several turns, each asked after the model has answered the one before. Judging them is
//! left to others, who find both turns and the reference answers among the predictions.

use nexa_core::table::Row;
use serde_json::Value;

/// The temperature of a category; 0 for those that have one right answer.
///
/// # Source
/// L. Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (2023), as FastChat sets it.
pub(crate) fn temperature(document: &Row) -> f32 {
    match document.get("category").and_then(Value::as_str) {
        Some("writing" | "roleplay") => 0.7,
        Some("stem" | "humanities") => 0.1,
        _ => 0.0,
    }
}

/// What the user says, turn by turn.
pub(crate) fn turns(document: &Row) -> Result<Vec<String>, String> {
    let turns = document.get("turns").and_then(Value::as_array);
    let turns =
        turns.map(|turns| turns.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    turns
        .filter(|turns| !turns.is_empty())
        .ok_or_else(|| "there is no list of texts in the field `turns`".to_owned())
}
