//! What people said of the same items: labels of reviewers, or a file.

use std::collections::{BTreeMap, BTreeSet};
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

/// Labels as people gave them.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// What they are.
    pub kind: LabelKind,
    /// Where they come from, for people.
    pub source: String,
    /// What each person said of each item.
    pub all: Vec<Label>,
}

/// What one person said of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The id of the item.
    pub id: String,
    /// Which of the items of that id is meant, as far as it is said.
    pub names: Names,
    /// What was said.
    pub value: f64,
    /// The row that says it, from 1, where it stands in a file.
    pub row: Option<usize>,
}

/// What tells items of one id apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// The task.
    pub task: Option<String>,
    /// Who answered; of two, the one that a preference calls the first.
    pub model: Option<String>,
    /// Who wrote the other of two answers.
    pub other_model: Option<String>,
    /// The id of the other of two answers.
    pub other_id: Option<String>,
}

/// The column of preferences.
const PREFERENCE: &str = "preference";
/// The columns of [`Names`], and what they tell apart.
pub(super) const NAMES: [(&str, &str); 4] =
    [("task", "tasks"), ("model", "models"), ("other_model", "other models"), ("other_id", "other answers")];

impl Labels {
    /// Reads a file of labels: a table with `id` and either `score` or `preference`, and where ids are not enough `task`
    /// and `model`, for preferences also `other_model` and `other_id`. Several rows of one item are several people.
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
        let mut all = Vec::new();
        for (position, row) in rows.iter().enumerate() {
            let label =
                of_row(row, kind).map_err(|problem| malformed(format!("row {}: {problem}", position + 1)))?;
            let Some((id, value)) = label else { continue };
            all.push(Label { id, names: Names::of_row(row, kind), value, row: Some(position + 1) });
        }
        Ok(Self { kind, source: path.display().to_string(), all })
    }

    /// The decisions of reviewers: what they accept is good as it is. Rows on which they disagree have no label.
    pub fn of_review(journals: &BTreeMap<String, Journal>) -> Self {
        let rows: BTreeSet<&str> = journals
            .values()
            .flat_map(|journal| journal.history.decided().map(|(row_id, _)| row_id))
            .collect();
        let label = |row_id: &str| {
            let decision = outcome(journals, row_id, 1).opinion()?.decision.verdict;
            let value = f64::from(u8::from(decision == Decision::Accept));
            Some(Label { id: row_id.to_owned(), names: Names::default(), value, row: None })
        };
        Self {
            kind: LabelKind::Acceptance,
            source: "review".to_owned(),
            all: rows.into_iter().filter_map(label).collect(),
        }
    }
}

impl Names {
    fn of_row(row: &Row, kind: LabelKind) -> Self {
        let cell = |column: &str| match row.get(column)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let [task, model, other_model, other_id] = NAMES.map(|(column, _)| cell(column));
        // Of one answer there is no other, whatever else a table holds.
        let of_pairs = |name: Option<String>| name.filter(|_| kind == LabelKind::Preference);
        Self { task, model, other_model: of_pairs(other_model), other_id: of_pairs(other_id) }
    }

    /// What is named, in the order of [`NAMES`].
    pub(super) fn cells(&self) -> [Option<&str>; 4] {
        [&self.task, &self.model, &self.other_model, &self.other_id].map(|name| name.as_deref())
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

    fn values(labels: &Labels) -> Vec<(&str, f64)> {
        labels.all.iter().map(|label| (label.id.as_str(), label.value)).collect()
    }

    #[test]
    fn a_row_may_say_which_item_it_is_about() {
        let all = "{\"id\": \"a\", \"model\": \" x \", \"task\": 7, \"other_model\": \"y\", \"LABEL\": 1}\n{\"id\": \"a\", \"model\": \"\", \"LABEL\": 0}\n";
        let name = |name: &str| Some(name.to_owned());
        let of_single = Names { task: name("7"), model: name("x"), ..Names::default() };
        let of_pair = Names { other_model: name("y"), ..of_single.clone() };
        for (column, first) in [("score", of_single), ("preference", of_pair)] {
            let labels = read(&all.replace("LABEL", column)).unwrap();
            let names: Vec<_> = labels.all.into_iter().map(|label| (label.row, label.names)).collect();
            assert_eq!(names, [(Some(1), first), (Some(2), Names::default())], "{column}");
        }
    }

    #[test]
    fn a_file_holds_scores_or_preferences() {
        let scores = read(
            "{\"id\": \"a\", \"score\": 4}\n{\"id\": 7, \"score\": \"2.5\"}\n{\"id\": \"a\", \"score\": 5}\n",
        )
        .unwrap();
        assert_eq!(
            (scores.kind, values(&scores)),
            (LabelKind::Score, vec![("a", 4.0), ("7", 2.5), ("a", 5.0)])
        );
        let preferences = read("{\"id\": \"a\", \"preference\": \"first\"}\n{\"id\": \"b\", \"preference\": \"tie\"}\n{\"id\": \"c\", \"preference\": 0}\n").unwrap();
        assert_eq!(preferences.kind, LabelKind::Preference);
        assert_eq!(values(&preferences), [("a", 1.0), ("b", 0.5), ("c", 0.0)]);
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
        assert_eq!(values(&labels), [("a", 1.0), ("c-s1#1", 0.0)], "on `b` they disagree");
    }
}
