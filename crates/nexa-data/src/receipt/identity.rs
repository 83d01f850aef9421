//! How a row of one table is recognised in the next: by its id, and by what stages add to ids.
//!
//! | stage | id |
//! |---|---|
//! | `distill.inputs` with several templates | `<id>-<template_name>` |
//! | `distill.collect` with several samples | `<id>-s<sample_index>` |
//! | `distill.regenerate` | `<first_id>-r<attempt>` |

use nexa_core::columns;
use nexa_core::table::Row;
use serde_json::Value;

/// The id of a row, if it has one.
pub(super) fn id(row: &Row) -> Option<String> {
    match row.get(columns::ID)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The ids under which a row may stand in the table that it was made from, its own first.
pub(super) fn origins(row: &Row) -> Vec<String> {
    let Some(own) = id(row) else { return Vec::new() };
    let mut ids = vec![own];
    let ending =
        |column: &str, letter: &str| super::text(row, column).map(|value| format!("-{letter}{value}"));
    let endings = [ending(columns::SAMPLE_INDEX, "s"), ending(columns::TEMPLATE_NAME, "")];
    for ending in endings.into_iter().flatten() {
        let shorter: Vec<String> =
            ids.iter().filter_map(|id| id.strip_suffix(&ending).map(str::to_owned)).collect();
        ids.extend(shorter.into_iter().filter(|id| !id.is_empty()));
    }
    if let Some(first) = super::text(row, columns::FIRST_ID) {
        // The second time again is made of the first time again, whose answer was rejected as well.
        let before = row.get(columns::ATTEMPT).and_then(Value::as_u64).unwrap_or(0).saturating_sub(1);
        if before > 0 {
            ids.push(format!("{first}-r{before}"));
        }
        ids.push(first);
    }
    ids.dedup();
    ids
}

/// Whether a row of one id may be the same as, or made of, a row of another: what is not can be passed over unread.
pub(super) fn may_relate(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_endings_of_ids_are_explained_by_their_columns() {
        let check = |row: Value, expected: &[&str]| {
            assert_eq!(origins(row.as_object().unwrap()), expected, "{row}");
        };
        check(json!({"id": "q7"}), &["q7"]);
        check(json!({"id": 7}), &["7"]);
        check(json!({"text": "no id"}), &[]);
        check(json!({"id": "q7", "sample_index": 0}), &["q7"]);
        check(json!({"id": "q7-s1", "sample_index": 1}), &["q7-s1", "q7"]);
        check(json!({"id": "q7-plain", "template_name": "plain"}), &["q7-plain", "q7"]);
        check(
            json!({"id": "q7-plain-s1", "template_name": "plain", "sample_index": 1}),
            &["q7-plain-s1", "q7-plain", "q7"],
        );
        // The ending of a source that is no ending of a stage.
        check(json!({"id": "q7-plain", "template_name": "other"}), &["q7-plain"]);
        check(json!({"id": "q7-r1", "first_id": "q7", "attempt": 1}), &["q7-r1", "q7"]);
        check(json!({"id": "q7-r2", "first_id": "q7", "attempt": 2}), &["q7-r2", "q7-r1", "q7"]);
    }

    #[test]
    fn ids_relate_that_go_on_from_each_other() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!((may_relate(one, other), may_relate(other, one)), (expected, expected));
        };
        check("q7", "q7", true);
        check("q7", "q7-s1", true);
        check("q7", "q70", false);
        check("q7", "q8", false);
    }
}
