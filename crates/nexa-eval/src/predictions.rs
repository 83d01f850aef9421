//! The predictions of an evaluation: one row for each document of each task, in the order of tasks and documents.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::lm::{ChatMessage, ChatReply, Score};
use nexa_core::table::{Row, Tables, text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::ask::Sample;
use crate::contamination::Shares;
use crate::task::{ExactMatch, Item, Task};

/// The name of the file in an evaluation.
pub const FILE: &str = "predictions.parquet";

/// The finish reason of an item that was never answered because it is longer than the model's context.
pub const TOO_LONG: &str = "too_long";

/// The finish reason of an item that whoever answers for the model did not accept.
pub const FAILED: &str = "failed";

const TASK: &str = "task";
const PROMPT: &str = "prompt";
const QUESTION: &str = "question";
const OUTPUT: &str = "output";
const PREDICTION: &str = "prediction";
const CORRECT: &str = "correct";
const LOGPROB_NATS: &str = "logprob_nats";
const TOKENS: &str = "tokens";
const BYTES: &str = "bytes";
const METRICS: &str = "metrics";
const ANSWERS: &str = "answers";
const CHOICES: &str = "choices";
const OVERLAPS: [&str; 2] = ["overlap_8", "overlap_13"];

/// What a model made of one document of one task. What the task does not measure is absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// The task.
    pub task: String,
    /// The document.
    pub id: String,
    /// Its slice.
    pub domain: Option<String>,
    /// The source that it shares with others.
    pub group: Option<String>,
    /// What was asked.
    pub prompt: String,
    /// The question in it, without examples and instructions; absent where it is all of the prompt.
    pub question: Option<String>,
    /// The right answer.
    pub reference: Option<String>,
    /// What the model answered; the first of several answers.
    pub output: Option<String>,
    /// What the task's first filter found in it, or the choice that is most probable.
    pub prediction: Option<String>,
    /// Whether that is right, by the task's first metric.
    pub correct: Option<bool>,
    /// `stop`, `length`, `content_filter`, [`TOO_LONG`] or [`FAILED`].
    pub finish_reason: Option<String>,
    /// The probability of the target: of a conversation's assistant turns, of a text, of a continuation.
    pub score: Option<Score>,
    /// What each metric says of the document, by metric and filter: `exact_match,strict-match`.
    pub metrics: BTreeMap<String, f64>,
    /// What each filter found in the answer.
    pub answers: BTreeMap<String, Value>,
    /// The probability of each choice.
    pub choices: Vec<Choice>,
    /// The whole conversation, where a task has several turns.
    pub messages: Vec<ChatMessage>,
    /// Which shares of its runs of 8 and of 13 words stand in the training data, where they were looked for.
    pub overlap: Option<Shares>,
}

/// A choice with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The choice.
    pub text: String,
    /// What the model says of it after the context.
    #[serde(flatten)]
    pub score: Score,
}

impl Prediction {
    /// The answer to an item of a held-out split.
    pub fn of_answer(item: &Item, answer: &Sample<ChatReply>) -> Self {
        let mut row = Self::of_item(item, Task::ExactMatch);
        match answer {
            Sample::Result(reply) => {
                row.prediction = nexa_core::answer::final_answer(&reply.text);
                row.output = Some(reply.text.clone());
                row.finish_reason = Some(reply.finish_reason.as_str().to_owned());
            }
            Sample::TooLong { .. } => row.finish_reason = Some(TOO_LONG.to_owned()),
            Sample::Failed { .. } => row.finish_reason = Some(FAILED.to_owned()),
        }
        row.correct = item
            .reference
            .as_deref()
            .map(|reference| ExactMatch::is_correct(row.prediction.as_deref(), reference));
        row
    }

    /// The probability of an item of a held-out split. Whether it was greedy is not kept.
    pub fn of_score(item: &Item, score: &Sample<Score>) -> Self {
        Self { score: score.result().copied(), ..Self::of_item(item, Task::Perplexity) }
    }

    fn of_item(item: &Item, task: Task) -> Self {
        Self {
            task: task.as_str().to_owned(),
            id: item.id.clone(),
            domain: item.domain.clone(),
            group: item.group.clone(),
            prompt: item.prompt_text(),
            reference: item.reference.clone(),
            ..Self::default()
        }
    }

    /// The question alone.
    pub fn question(&self) -> &str {
        self.question.as_deref().unwrap_or(&self.prompt)
    }

    fn to_row(&self) -> Row {
        let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let share = |rule: usize| self.overlap.map_or(Value::Null, |shares| shares[rule].into());
        let score = |part: fn(&Score) -> Value| self.score.as_ref().map_or(Value::Null, part);
        [
            (TASK, Value::from(self.task.as_str())),
            (columns::ID, Value::from(self.id.as_str())),
            (columns::DOMAIN, optional(&self.domain)),
            (columns::GROUP, optional(&self.group)),
            (PROMPT, Value::from(self.prompt.as_str())),
            (QUESTION, optional(&self.question)),
            (columns::REFERENCE, optional(&self.reference)),
            (OUTPUT, optional(&self.output)),
            (PREDICTION, optional(&self.prediction)),
            (CORRECT, self.correct.map_or(Value::Null, Value::from)),
            (columns::FINISH_REASON, optional(&self.finish_reason)),
            (LOGPROB_NATS, score(|score| score.logprob_nats.into())),
            (TOKENS, score(|score| score.tokens.into())),
            (BYTES, score(|score| score.bytes.into())),
            (METRICS, json_text(&self.metrics, self.metrics.is_empty())),
            (ANSWERS, json_text(&self.answers, self.answers.is_empty())),
            (CHOICES, json_text(&self.choices, self.choices.is_empty())),
            (columns::MESSAGES, json_text(&self.messages, self.messages.is_empty())),
            (OVERLAPS[0], share(0)),
            (OVERLAPS[1], share(1)),
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
        let share = |rule: usize| row.get(OVERLAPS[rule]).and_then(Value::as_f64);
        Ok(Self {
            task: optional(TASK)?.unwrap_or_default(),
            id: text(row, columns::ID, place)?.to_owned(),
            domain: optional(columns::DOMAIN)?,
            group: optional(columns::GROUP)?,
            prompt: text(row, PROMPT, place)?.to_owned(),
            question: optional(QUESTION)?,
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
                cut_tokens: 0,
            }),
            metrics: from_json_text(row, METRICS, place)?,
            answers: from_json_text(row, ANSWERS, place)?,
            choices: from_json_text(row, CHOICES, place)?,
            messages: from_json_text(row, columns::MESSAGES, place)?,
            overlap: share(0).zip(share(1)).map(|(eight, thirteen)| [eight, thirteen]),
        })
    }

    /// What a row of code version 1 or 2, which holds what all tasks found for an item, says of one of them.
    fn of_task(&self, task: Task) -> Self {
        let row = Self { task: task.as_str().to_owned(), ..self.clone() };
        match task {
            Task::ExactMatch => Self { score: None, ..row },
            Task::Perplexity => {
                Self { output: None, prediction: None, correct: None, finish_reason: None, ..row }
            }
        }
    }
}

/// A value as a text of JSON, so that the table has one type for it whatever a task measures; null where it is empty.
fn json_text(value: &impl Serialize, is_empty: bool) -> Value {
    if is_empty { Value::Null } else { serde_json::to_string(value).map_or(Value::Null, Value::from) }
}

fn from_json_text<T: for<'de> Deserialize<'de> + Default>(
    row: &Row,
    column: &str,
    place: &Path,
) -> nexa_core::Result<T> {
    match row.get(column) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(_) => serde_json::from_str(text(row, column, place)?)
            .map_err(|error| nexa_core::Error::malformed(place, format!("column `{column}`: {error}"))),
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
    let found: Vec<Prediction> =
        rows.iter().map(|row| Prediction::from_row(row, &path)).collect::<nexa_core::Result<_>>()?;
    if found.iter().any(|one| !one.task.is_empty()) {
        return Ok(found);
    }
    let is_measured = |task: &Task| match task {
        Task::ExactMatch => found.iter().any(|one| one.finish_reason.is_some()),
        Task::Perplexity => found.iter().any(|one| one.score.is_some()),
    };
    let tasks: Vec<Task> = Task::ALL.into_iter().filter(is_measured).collect();
    Ok(tasks.iter().flat_map(|task| found.iter().map(|one| one.of_task(*task))).collect())
}
