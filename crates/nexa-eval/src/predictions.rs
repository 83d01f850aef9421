//! The predictions of an evaluation, one row an item, in the order of the split.

use std::path::Path;

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::lm::{ChatReply, Score};
use nexa_core::table::{Row, Tables, text};
use serde_json::Value;

use crate::Result;
use crate::task::{ExactMatch, Item, Sample};

/// The name of the file in an evaluation.
pub const FILE: &str = "predictions.parquet";

/// The finish reason of an item that was never answered because it is longer than the model's context.
pub const TOO_LONG: &str = "too_long";

const PROMPT: &str = "prompt";
const OUTPUT: &str = "output";
const PREDICTION: &str = "prediction";
const CORRECT: &str = "correct";
const LOGPROB_NATS: &str = "logprob_nats";
const TOKENS: &str = "tokens";
const BYTES: &str = "bytes";

/// What a model made of one item. What a task did not measure is absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// The item.
    pub id: String,
    /// Its slice.
    pub domain: Option<String>,
    /// What was asked.
    pub prompt: String,
    /// The right final answer.
    pub reference: Option<String>,
    /// What the model answered.
    pub output: Option<String>,
    /// The strict final answer in it.
    pub prediction: Option<String>,
    /// Whether that is the reference.
    pub correct: Option<bool>,
    /// `stop`, `length`, `content_filter` or [`TOO_LONG`].
    pub finish_reason: Option<String>,
    /// The probability of the reference conversation. Whether it was greedy is not kept.
    pub score: Option<Score>,
}

impl Prediction {
    /// Puts together what the tasks found for an item.
    pub fn new(item: &Item, answer: Option<&Sample<ChatReply>>, score: Option<&Sample<Score>>) -> Self {
        let mut row = Self {
            id: item.id.clone(),
            domain: item.domain.clone(),
            prompt: item.prompt_text(),
            reference: item.reference.clone(),
            score: score.and_then(|score| score.result().copied()),
            ..Self::default()
        };
        match answer {
            Some(Sample::Result(reply)) => {
                row.prediction = nexa_core::answer::final_answer(&reply.text);
                row.output = Some(reply.text.clone());
                row.finish_reason = Some(reply.finish_reason.as_str().to_owned());
            }
            Some(Sample::TooLong { .. }) => row.finish_reason = Some(TOO_LONG.to_owned()),
            None => return row,
        }
        row.correct = item
            .reference
            .as_deref()
            .map(|reference| ExactMatch::is_correct(row.prediction.as_deref(), reference));
        row
    }

    fn to_row(&self) -> Row {
        let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let score = |part: fn(&Score) -> Value| self.score.as_ref().map_or(Value::Null, part);
        [
            (columns::ID, Value::from(self.id.as_str())),
            (columns::DOMAIN, optional(&self.domain)),
            (PROMPT, Value::from(self.prompt.as_str())),
            (columns::REFERENCE, optional(&self.reference)),
            (OUTPUT, optional(&self.output)),
            (PREDICTION, optional(&self.prediction)),
            (CORRECT, self.correct.map_or(Value::Null, Value::from)),
            (columns::FINISH_REASON, optional(&self.finish_reason)),
            (LOGPROB_NATS, score(|score| score.logprob_nats.into())),
            (TOKENS, score(|score| score.tokens.into())),
            (BYTES, score(|score| score.bytes.into())),
        ]
        .into_iter()
        .map(|(column, value)| (column.to_owned(), value))
        .collect()
    }

    fn from_row(row: &Row, place: &Path) -> nexa_core::Result<Self> {
        let optional = |column: &str| match row.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => text(row, column, place).map(|text| Some(text.to_owned())),
        };
        let count = |column: &str| {
            let value = row.get(column).and_then(Value::as_u64);
            value.and_then(|count| usize::try_from(count).ok())
        };
        let score = row.get(LOGPROB_NATS).and_then(Value::as_f64).zip(count(TOKENS)).zip(count(BYTES));
        Ok(Self {
            id: text(row, columns::ID, place)?.to_owned(),
            domain: optional(columns::DOMAIN)?,
            prompt: text(row, PROMPT, place)?.to_owned(),
            reference: optional(columns::REFERENCE)?,
            output: optional(OUTPUT)?,
            prediction: optional(PREDICTION)?,
            correct: row.get(CORRECT).and_then(Value::as_bool),
            finish_reason: optional(columns::FINISH_REASON)?,
            score: score.map(|((logprob_nats, tokens), bytes)| Score {
                logprob_nats,
                tokens,
                bytes,
                is_greedy: false,
            }),
        })
    }
}

/// Writes predictions into the folder of an evaluation's draft.
///
/// # Errors
/// Fails with the path when the table cannot be written.
pub fn write(tables: &dyn Tables, folder: &Path, predictions: &[Prediction]) -> Result<()> {
    let rows: Vec<Row> = predictions.iter().map(Prediction::to_row).collect();
    Ok(tables.write(&folder.join(FILE), &rows)?)
}

/// Reads the predictions of an evaluation.
///
/// # Errors
/// Fails with the path when the table cannot be read or lacks a column.
pub fn read(tables: &dyn Tables, evaluation: &Artifact) -> Result<Vec<Prediction>> {
    let path = evaluation.file(FILE)?;
    let rows = tables.read(&path)?;
    Ok(rows.iter().map(|row| Prediction::from_row(row, &path)).collect::<nexa_core::Result<_>>()?)
}
