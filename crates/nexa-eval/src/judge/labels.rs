//! What people said of the same items: labels of reviewers, or a file.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::columns;
use nexa_core::review::{Journal, Verdict as Decision, outcome};
use nexa_core::table::{Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// What labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// A score on the judges' scale.
    Score,
    /// Which of two answers is better: 1 for that of the first model, 0 for that of the other, 0.5 for a tie.
    Preference,
    /// Whether an answer is good as it is: 1, or 0.
    Acceptance,
}

/// Labels by the ids of items.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// What they are.
    pub kind: LabelKind,
    /// Where they come from, for people.
    pub source: String,
    /// The label of each item: the mean, where several people gave one.
    pub by_id: BTreeMap<String, f64>,
}

/// The column of preferences.
const PREFERENCE: &str = "preference";

impl Labels {
    /// Reads a file of labels: a table with `id` and either `score` or `preference`. Several rows of one id are several
    /// people.
    ///
    /// # Errors
    /// Fails with the file, and the row that is no label.
    pub fn read(path: &Path, tables: &dyn Tables) -> Result<Self> {
        let rows = tables.read(path)?;
        let has = |column: &str| rows.iter().any(|row| row.get(column).is_some_and(|value| !value.is_null()));
        let malformed = |message: String| Error::Core(nexa_core::Error::malformed(path, message));
        let kind = match (has(columns::SCORE), has(PREFERENCE)) {
            (true, false) => LabelKind::Score,
            (false, true) => LabelKind::Preference,
            (true, true) => {
                let message =
                    format!("both `{}` and `{PREFERENCE}` are given; labels are one of them", columns::SCORE);
                return Err(malformed(message));
            }
            (false, false) => {
                let message = format!("no label: rows need `id` and `{}` or `{PREFERENCE}`", columns::SCORE);
                return Err(malformed(message));
            }
        };
        let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (position, row) in rows.iter().enumerate() {
            let label =
                of_row(row, kind).map_err(|problem| malformed(format!("row {}: {problem}", position + 1)))?;
            let Some((id, value)) = label else { continue };
            let (sum, count) = sums.entry(id).or_default();
            *sum += value;
            *count += 1.0;
        }
        let by_id = sums.into_iter().map(|(id, (sum, count))| (id, sum / count)).collect();
        Ok(Self { kind, source: path.display().to_string(), by_id })
    }

    /// The decisions of reviewers: what they accept is good as it is. Rows on which they disagree have no label.
    pub fn of_review(journals: &BTreeMap<String, Journal>) -> Self {
        let rows: std::collections::BTreeSet<&str> = journals
            .values()
            .flat_map(|journal| journal.history.decided().map(|(row_id, _)| row_id))
            .collect();
        let label = |row_id: &str| {
            let decision = outcome(journals, row_id, 1).opinion()?.decision.verdict;
            Some((row_id.to_owned(), f64::from(u8::from(decision == Decision::Accept))))
        };
        Self {
            kind: LabelKind::Acceptance,
            source: "review".to_owned(),
            by_id: rows.into_iter().filter_map(label).collect(),
        }
    }

    /// The label of an item. Reviewers see the sample behind the id of a row, which verdicts do not.
    pub fn get(&self, id: &str) -> Option<f64> {
        let with_sample = || {
            let behind = |(row_id, label): (&String, &f64)| {
                let sample = row_id.strip_prefix(id)?.strip_prefix('#')?;
                sample.parse::<u32>().is_ok().then_some(*label)
            };
            let from = format!("{id}#");
            self.by_id
                .range(from.clone()..)
                .take_while(|(row_id, _)| row_id.starts_with(&from))
                .find_map(behind)
        };
        self.by_id.get(id).copied().or_else(with_sample)
    }
}

/// The id and the value of a row; none where it holds no label.
fn of_row(row: &Row, kind: LabelKind) -> Result<Option<(String, f64)>, String> {
    let id = match row.get(columns::ID) {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(format!("no `{}`", columns::ID)),
    };
    let column = if kind == LabelKind::Score { columns::SCORE } else { PREFERENCE };
    let cell = match row.get(column) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().to_lowercase(),
        Some(other) => other.to_string(),
    };
    let number = || cell.parse::<f64>().ok().filter(|number| number.is_finite());
    let value = match kind {
        LabelKind::Score | LabelKind::Acceptance => {
            number().ok_or_else(|| format!("`{column}` is `{cell}`, not a number"))?
        }
        LabelKind::Preference => match cell.as_str() {
            "model" | "a" | "first" | "win" => 1.0,
            "other" | "b" | "second" | "loss" => 0.0,
            "tie" | "c" | "draw" => 0.5,
            _ => number().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
                format!("`{column}` is `{cell}`, but it is `first`, `second`, `tie` or from 0 to 1")
            })?,
        },
    };
    Ok(Some((id, value)))
}

#[cfg(test)]
mod tests {
    use nexa_core::review::{Action, Line};
    use nexa_core::table::JsonLines;

    use super::*;

    fn read(text: &str) -> Result<Labels> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.jsonl");
        std::fs::write(&path, text).unwrap();
        Labels::read(&path, &JsonLines)
    }

    #[test]
    fn a_file_holds_scores_or_preferences() {
        let scores = read(
            "{\"id\": \"a\", \"score\": 4}\n{\"id\": 7, \"score\": \"2.5\"}\n{\"id\": \"a\", \"score\": 5}\n",
        )
        .unwrap();
        assert_eq!((scores.kind, scores.get("a"), scores.get("7")), (LabelKind::Score, Some(4.5), Some(2.5)));
        let preferences = read("{\"id\": \"a\", \"preference\": \"first\"}\n{\"id\": \"b\", \"preference\": \"tie\"}\n{\"id\": \"c\", \"preference\": 0}\n").unwrap();
        assert_eq!(preferences.kind, LabelKind::Preference);
        assert_eq!(
            ["a", "b", "c", "d"].map(|id| preferences.get(id)),
            [Some(1.0), Some(0.5), Some(0.0), None]
        );
        let check = |text: &str, expected: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("labels.jsonl") && error.contains(expected), "{error}");
        };
        check("{\"id\": \"a\"}\n", "rows need `id` and `score` or `preference`");
        check("{\"id\": \"a\", \"score\": 4}\n{\"score\": 4}\n", "row 2: no `id`");
        check("{\"id\": \"a\", \"score\": \"good\"}\n", "row 1: `score` is `good`, not a number");
        check("{\"id\": \"a\", \"preference\": \"left\"}\n", "row 1: `preference` is `left`");
        check("{\"id\": \"a\", \"score\": 4, \"preference\": \"tie\"}\n", "labels are one of them");
    }

    #[test]
    fn reviewers_accept_what_is_good_as_it_is() {
        let mut journals = BTreeMap::<String, Journal>::new();
        for (reviewer, row, action) in [
            ("ana", "a", Action::Accept),
            ("ben", "a", Action::Accept),
            ("ana", "b", Action::Accept),
            ("ben", "b", Action::Reject),
            ("ana", "c-s1#1", Action::Edit),
        ] {
            journals.entry(reviewer.to_owned()).or_default().history.apply(&Line::new(row, action, reviewer));
        }
        let labels = Labels::of_review(&journals);
        assert_eq!(labels.kind, LabelKind::Acceptance);
        assert_eq!(["a", "b", "c-s1", "c"].map(|id| labels.get(id)), [Some(1.0), None, Some(0.0), None]);
    }
}
