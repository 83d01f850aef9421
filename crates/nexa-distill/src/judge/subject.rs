//! What is judged: answers of a teacher, or of a model that was evaluated, turn by turn.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::stage::Context;
use nexa_core::table::Row;
use serde::Deserialize;
use serde_json::Value;

use super::{OUTPUTS_ROLE, STAGE};
use crate::gates::Answer;
use crate::{Error, Result, conversation, table};

/// The table of an evaluation's items and what the model made of them.
const PREDICTIONS: &str = "predictions.parquet";
const PROMPT: &str = "prompt";
const OUTPUT: &str = "output";
const TASK: &str = "task";

/// A question, what a model answered, and perhaps the right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) question: String,
    pub(super) reference: Option<String>,
    pub(super) answer: String,
}

/// An answer, or a conversation, that judges look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subject {
    /// The cell that names it.
    pub(super) id: Value,
    /// Who answered.
    pub(super) model: Option<String>,
    pub(super) task: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) group: Option<String>,
    /// At least one; none where the model gave no answer, which then cannot be judged.
    pub(super) turns: Vec<Turn>,
}

impl Subject {
    /// Its name as text.
    pub(super) fn name(&self) -> String {
        match &self.id {
            Value::String(id) => id.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// Characters of what was answered: of one turn, counted from 1, or of all.
    pub(super) fn length(&self, turn: Option<u32>) -> u64 {
        let is_counted = |position: usize| turn.is_none_or(|turn| position + 1 == turn as usize);
        let turns = self.turns.iter().enumerate().filter(|(position, _)| is_counted(*position));
        turns.map(|(_, turn)| turn.answer.chars().count() as u64).sum()
    }

    fn of_output(row: &Row) -> Self {
        let answer = Answer::of(row);
        let question = [answer.system_prompt.as_ref(), &answer.prompt].join("\n\n").trim().to_owned();
        let turn = Turn {
            question,
            reference: answer.reference.map(str::to_owned),
            answer: answer.output.to_owned(),
        };
        Self {
            id: row.get(columns::ID).cloned().unwrap_or(Value::Null),
            model: table::cell(row, columns::MODEL_ID),
            task: None,
            domain: table::cell(row, columns::DOMAIN),
            group: table::cell(row, columns::GROUP),
            turns: vec![turn],
        }
    }

    fn of_prediction(row: &Row, model: &str, place: &Path) -> Result<Self> {
        Ok(Self {
            id: row.get(columns::ID).cloned().unwrap_or(Value::Null),
            model: Some(model.to_owned()),
            task: table::cell(row, TASK),
            domain: table::cell(row, columns::DOMAIN),
            group: table::cell(row, columns::GROUP),
            turns: predicted(row, place)?,
        })
    }
}

/// The turns of a prediction: those of its conversation where it has one that ends with an answer, else its prompt and
/// what was answered; none where nothing was.
fn predicted(row: &Row, place: &Path) -> Result<Vec<Turn>> {
    let references = references(row);
    let reference = |position: usize, last: usize| match references.as_slice() {
        [one] => (position == last).then(|| one.clone()),
        many => many.get(position).cloned(),
    };
    let malformed = |message: String| {
        let id = table::cell(row, columns::ID).unwrap_or_default();
        Error::Core(nexa_core::Error::malformed(place, format!("row `{id}`: {message}")))
    };
    let messages = match row.get(columns::MESSAGES) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => serde_json::from_str::<Vec<ChatMessage>>(text)
            .map_err(|e| malformed(format!("column `{}`: {e}", columns::MESSAGES)))?,
        Some(value) => Vec::<ChatMessage>::deserialize(value)
            .map_err(|e| malformed(format!("column `{}`: {e}", columns::MESSAGES)))?,
    };
    if messages.last().is_some_and(|message| message.role == Role::Assistant) {
        let (mut turns, mut question) = (Vec::new(), Vec::new());
        for message in messages {
            if message.role == Role::Assistant {
                turns.push((conversation::text(&std::mem::take(&mut question)), message.content));
            } else {
                question.push(message);
            }
        }
        let last = turns.len() - 1;
        let turn =
            |(position, (question, answer))| Turn { question, answer, reference: reference(position, last) };
        return Ok(turns.into_iter().enumerate().map(turn).collect());
    }
    let Some(answer) = table::cell(row, OUTPUT) else { return Ok(Vec::new()) };
    let question = table::cell(row, PROMPT).ok_or_else(|| malformed(format!("no `{PROMPT}`")))?;
    Ok(vec![Turn { question, answer, reference: reference(0, 0) }])
}

/// The references of a prediction: one, or a list of them as JSON, turn by turn.
fn references(row: &Row) -> Vec<String> {
    match table::cell(row, columns::REFERENCE) {
        None => Vec::new(),
        Some(text) => serde_json::from_str::<Vec<String>>(&text).unwrap_or_else(|_| vec![text]),
    }
}

/// What is judged, and what it is held against.
#[derive(Debug)]
pub(super) struct Subjects {
    /// Those that are judged, and after them those of the other evaluation, in the same order.
    pub(super) all: Vec<Subject>,
    /// How many are judged.
    pub(super) judged: usize,
    /// Whether there is another evaluation.
    pub(super) is_versus: bool,
    /// The table that they came from.
    pub(super) place: std::path::PathBuf,
}

impl Subjects {
    /// Reads the inputs of the stage: answers of a teacher, or an evaluation and perhaps another one.
    pub(super) fn read(context: &Context<'_>, limit: Option<usize>) -> Result<Self> {
        let inputs = context.inputs;
        let limit = limit.unwrap_or(usize::MAX);
        if inputs.get("versus").is_some() {
            inputs.require("evaluation")?;
        }
        if inputs.get("evaluation").is_some() && inputs.get(OUTPUTS_ROLE).is_some() {
            let message =
                format!("both `evaluation` and `{OUTPUTS_ROLE}` are given, but one of them is judged");
            return Err(nexa_core::Error::config(format!("inputs of {STAGE}"), message).into());
        }
        let Some(evaluation) = inputs.get("evaluation") else {
            let outputs = inputs.require(OUTPUTS_ROLE)?;
            let place = outputs.file("parquet")?;
            let mut rows = table::read(context, outputs)?;
            rows.truncate(limit);
            table::required_column(None, columns::TEACHER_OUTPUT, &rows[0], &place)?;
            let all: Vec<Subject> = rows.iter().map(Subject::of_output).collect();
            return Ok(Self { judged: all.len(), all, is_versus: false, place });
        };
        let (mut all, place) = predictions(context, evaluation)?;
        let versus = inputs.get("versus").map(|versus| predictions(context, versus)).transpose()?;
        let versus = match versus {
            Some((others, _)) => matched(&all, others, (evaluation, &place))?,
            None => Vec::new(),
        };
        let is_versus = !versus.is_empty();
        all.truncate(limit);
        let judged = all.len();
        all.extend(versus.into_iter().take(limit));
        Ok(Self { all, judged, is_versus, place })
    }

    /// Those that are judged.
    pub(super) fn judged(&self) -> &[Subject] {
        &self.all[..self.judged]
    }

    /// Where the other evaluation has its answer to the item of a subject.
    pub(super) fn other(&self, subject: usize) -> usize {
        self.judged + subject
    }

    /// How many were not answered, and so cannot be judged.
    pub(super) fn unanswered(&self) -> usize {
        let is_open = |at: usize| {
            self.all[at].turns.is_empty() || (self.is_versus && self.all[self.other(at)].turns.is_empty())
        };
        (0..self.judged).filter(|&at| is_open(at)).count()
    }
}

fn predictions(context: &Context<'_>, evaluation: &Artifact) -> Result<(Vec<Subject>, std::path::PathBuf)> {
    let place = evaluation.file(PREDICTIONS)?;
    let rows = context.services.tables.read(&place)?;
    if rows.is_empty() {
        return Err(nexa_core::Error::malformed(place, "the table has no rows").into());
    }
    let model = model(evaluation);
    let mut subjects: Vec<Subject> =
        rows.iter().map(|row| Subject::of_prediction(row, &model, &place)).collect::<Result<_>>()?;
    // A task in which nothing was answered measures probabilities, and has nothing to judge.
    let answered = subjects.iter().filter(|subject| !subject.turns.is_empty());
    let answered: HashSet<Option<String>> = answered.map(|subject| subject.task.clone()).collect();
    subjects.retain(|subject| answered.contains(&subject.task));
    if subjects.is_empty() {
        let message = format!("{} holds no answers, only probabilities", evaluation.id());
        return Err(Error::NothingLeft { stage: STAGE, rows: rows.len(), message });
    }
    Ok((subjects, place))
}

/// The model that was evaluated, by a name that tells it from every other: its checkpoint, else what the evaluation
/// calls it.
fn model(evaluation: &Artifact) -> String {
    let manifest = &evaluation.manifest;
    let checkpoint = manifest.parents.iter().find(|parent| parent.role == "checkpoint");
    let named = || manifest.summary.get("model").and_then(Value::as_str).map(str::to_owned);
    checkpoint.map(|parent| parent.id.clone()).or_else(named).unwrap_or_else(|| evaluation.id().to_string())
}

/// The answers of another evaluation, in the order of the items of the first.
fn matched(
    subjects: &[Subject],
    others: Vec<Subject>,
    (evaluation, place): (&Artifact, &Path),
) -> Result<Vec<Subject>> {
    let key = |subject: &Subject| (subject.task.clone(), subject.name());
    let different = |message: String| {
        let message = format!("{message}; compare evaluations of the same items ({})", evaluation.id());
        Error::Core(nexa_core::Error::malformed(place, message))
    };
    let mut seen = HashSet::new();
    if let Some(twice) = subjects.iter().find(|subject| !seen.insert(key(subject))) {
        return Err(different(format!("two items are `{}`", twice.name())));
    }
    let count = others.len();
    let mut by_key: HashMap<_, _> = others.into_iter().map(|other| (key(&other), other)).collect();
    let mut found = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let other = by_key
            .remove(&key(subject))
            .ok_or_else(|| different(format!("`versus` has no item `{}`", subject.name())))?;
        let asked = |subject: &Subject| subject.turns.first().map(|turn| turn.question.clone());
        if let (Some(one), Some(two)) = (asked(subject), asked(&other))
            && one != two
        {
            return Err(different(format!("item `{}` asks something else in `versus`", subject.name())));
        }
        found.push(other);
    }
    if count > found.len() {
        return Err(different(format!("`versus` has {} items more", count - found.len())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turns(row: Value) -> Vec<(String, Option<String>, String)> {
        let turns = predicted(row.as_object().unwrap(), Path::new("predictions")).unwrap();
        turns.into_iter().map(|turn| (turn.question, turn.reference, turn.answer)).collect()
    }

    #[test]
    fn a_prediction_is_a_turn_or_several_or_none() {
        let one = json!({"id": "a", "prompt": "2 + 2?", "reference": "4", "output": "5"});
        assert_eq!(turns(one), [("2 + 2?".to_owned(), Some("4".to_owned()), "5".to_owned())]);
        assert_eq!(turns(json!({"id": "a", "prompt": "2 + 2?", "output": null})), []);
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let talk = json!([
            message("user", "q1"),
            message("assistant", "a1"),
            message("user", "q2"),
            message("assistant", "a2")
        ]);
        let reference = json!(["r1", "r2"]).to_string();
        let two =
            json!({"id": "a", "prompt": "q1", "messages": talk, "reference": reference, "output": "a2"});
        let expected = |n: u32, reference: Option<&str>| {
            (format!("q{n}"), reference.map(str::to_owned), format!("a{n}"))
        };
        assert_eq!(turns(two), [expected(1, Some("r1")), expected(2, Some("r2"))]);
        let two = json!({"id": "a", "prompt": "q1", "messages": talk.to_string(), "reference": "r"});
        assert_eq!(turns(two), [expected(1, None), expected(2, Some("r"))]);
    }

    #[test]
    fn a_length_is_in_characters_of_one_turn_or_all() {
        let turn =
            |answer: &str| Turn { question: "q".to_owned(), reference: None, answer: answer.to_owned() };
        let subject = Subject {
            id: json!(7),
            model: None,
            task: None,
            domain: None,
            group: None,
            turns: vec![turn("äb"), turn("cde")],
        };
        assert_eq!((subject.length(None), subject.length(Some(1)), subject.length(Some(2))), (5, 2, 3));
        assert_eq!(subject.name(), "7");
    }
}
