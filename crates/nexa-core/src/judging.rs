//! What judges said, as it stands in artifacts: written by `distill.judge`, read by evaluation.
//!
//! An artifact of verdicts holds two tables: the main one with a score for each row that was judged, on one scale
//! whatever the judges were asked, and [`FILE`] with every verdict as it was given.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::{Artifact, Kind};
use crate::table::{Row, Tables};
use crate::{Error, Result};

/// The file of all verdicts.
pub const FILE: &str = "verdicts.parquet";

/// The column that counts verdicts that could be read, in the main table.
pub const VERDICTS: &str = "verdicts";

/// The column that counts verdicts that could not be read, in the main table.
pub const UNREADABLE: &str = "unreadable";

/// The name of the judge inside the program, as verdicts hold it: it goes by rules and is no model.
pub const RULES: &str = "nexa/rules-no-model";

/// Of two answers, the score that says that the first shown one is better; the other way round it is 1.
pub const FIRST_BETTER: f64 = 5.0;

/// Of two answers, the score that says that neither is better.
pub const TIE: f64 = 3.0;

/// Of two answers, the score that says that the second shown one is better.
pub const SECOND_BETTER: f64 = 1.0;

/// In which order two answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they stand in the table, or the evaluation that is judged before the one it is held against.
    Forward,
    /// The other way round.
    Backward,
}

/// What one judge said once. Fields that come later are optional, so that older artifacts stay readable.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// The row that was judged, or the first of two.
    pub id: String,
    /// The second of two rows of one table; in two evaluations both have the same id.
    pub other_id: Option<String>,
    /// Who wrote what was judged.
    pub model: Option<String>,
    /// Who wrote the second of two answers.
    pub other_model: Option<String>,
    /// The task of an evaluation.
    pub task: Option<String>,
    /// The slice.
    pub domain: Option<String>,
    /// Items of one group are not independent of each other.
    pub group: Option<String>,
    /// Which turn of a conversation was judged, from 1; of the whole it is absent.
    pub turn: Option<u32>,
    /// How two answers were shown.
    pub order: Option<Order>,
    /// The judge, as it was named.
    pub judge: String,
    /// The judge, as its provider names it.
    pub judge_model: Option<String>,
    /// The hash of what the judge was asked: system prompt and prompt.
    pub prompt_hash: Option<String>,
    /// Which of several verdicts of one judge this is, from 0.
    pub sample_index: u32,
    /// How often it was asked again because what came before could not be read.
    pub repeats: u32,
    /// What was decided, on the judge's own scale; of two answers [`FIRST_BETTER`], [`TIE`] or [`SECOND_BETTER`], as
    /// they were shown. Absent where it could not be read.
    pub score: Option<f64>,
    /// The mean over the probabilities of what could have been decided, where the judge tells them.
    pub expected_score: Option<f64>,
    /// What was decided for each part of a rubric, or which answer is better, as JSON.
    pub decisions: Option<String>,
    /// Why.
    pub explanation: Option<String>,
    /// What is wrong with the verdict, where it could not be read.
    pub problem: Option<String>,
    /// The text as it came, where it could not be read.
    pub text: Option<String>,
    /// Characters of what was judged.
    pub length: Option<u64>,
    /// Characters of the second of two answers.
    pub other_length: Option<u64>,
}

impl Verdict {
    /// The verdict as a row of [`FILE`].
    ///
    /// # Panics
    /// Never: its fields are texts and numbers.
    pub fn to_row(&self) -> Row {
        match serde_json::to_value(self) {
            Ok(Value::Object(row)) => row,
            _ => unreachable!("a struct of texts and numbers is an object"),
        }
    }

    /// Reads every verdict of an artifact.
    ///
    /// # Errors
    /// Fails where the artifact holds no verdicts, or a row is none, with its number.
    pub fn read_all(artifact: &Artifact, tables: &dyn Tables) -> Result<Vec<Self>> {
        artifact.expect_kind(Kind::Verdicts)?;
        let path = artifact.file(FILE)?;
        let rows = tables.read(&path)?;
        rows.into_iter().enumerate().map(|(number, row)| Self::from_row(row, number, &path)).collect()
    }

    /// Reads the verdict in a row of [`FILE`] that stands at a position, from 0.
    ///
    /// # Errors
    /// Fails with the path and the number of the row, from 1, where it is none.
    pub fn from_row(mut row: Row, number: usize, path: &Path) -> Result<Self> {
        // What is absent is what is null; the defaults stand for both.
        row.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(row))
            .map_err(|e| Error::malformed(path, format!("row {}: {e}", number + 1)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_of_an_earlier_version_is_read_and_a_row_that_is_none_is_named() {
        let path = Path::new("verdicts.parquet");
        let early = json!({
            "id": "a", "other_id": null, "order": "backward", "judge": "openai:m", "sample_index": 0, "score": 5.0,
            "decisions": "\"a\"", "explanation": "so", "problem": null, "text": null,
        });
        let read = Verdict::from_row(early.as_object().cloned().unwrap_or_default(), 0, path).unwrap();
        assert_eq!((read.order, read.score, read.turn), (Some(Order::Backward), Some(5.0), None));
        assert_eq!(Verdict::from_row(read.to_row(), 0, path).unwrap(), read);
        let wrong = json!({"id": "a", "score": "high"}).as_object().cloned().unwrap_or_default();
        let error = Verdict::from_row(wrong, 6, path).unwrap_err().to_string();
        assert!(error.contains("verdicts.parquet: row 7"), "{error}");
    }
}
