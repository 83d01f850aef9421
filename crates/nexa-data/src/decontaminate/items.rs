//! The items of evaluation sets, as the words of their questions and answers.

use std::path::Path;

use nexa_core::Error;
use nexa_core::columns::{ID, MESSAGES, REFERENCE, TEACHER_OUTPUT};
use nexa_core::decontamination::QUESTION_COLUMNS;
use nexa_core::hash::ContentHash;
use nexa_core::overlap::hashes;
use nexa_core::table::Row;
use serde_json::Value;

use crate::Result;
use crate::rows::{Document, Words, require_column};

/// The columns of an answer.
const ANSWER: [&str; 7] =
    ["answer", "completion", TEACHER_OUTPUT, "output", "solution", "response", REFERENCE];

/// An item of an evaluation set.
pub(super) struct Item {
    /// The number of its set.
    pub(super) set: usize,
    pub(super) id: String,
    pub(super) question: Vec<u64>,
    pub(super) answer: Vec<u64>,
}

/// An evaluation set: its name and what its items were read from.
pub(super) struct Set {
    pub(super) name: String,
    pub(super) hash: ContentHash,
    pub(super) items: u64,
}

/// All items of all sets.
#[derive(Default)]
pub(super) struct Items {
    pub(super) sets: Vec<Set>,
    pub(super) all: Vec<Item>,
    words: Words,
    text: String,
}

/// How the items of a set are read.
pub(super) struct Reading<'a> {
    /// The columns that were named, or none.
    pub(super) question: &'a [String],
    pub(super) answer: &'a [String],
    /// Where the rows stand, for errors.
    pub(super) place: &'a Path,
}

impl Items {
    /// Begins a set.
    pub(super) fn begin(&mut self, name: &str, hash: ContentHash) {
        self.sets.push(Set { name: name.to_owned(), hash, items: 0 });
    }

    /// Adds a row to the set that was begun last. A conversation is its first question with its last answer.
    ///
    /// # Errors
    /// Fails when a named column is missing, or no column is known to hold a question.
    pub(super) fn add(&mut self, row: &Row, reading: &Reading<'_>) -> Result<()> {
        let set = self.sets.len() - 1;
        let number = self.sets[set].items + 1;
        let (question, answer) = match row.get(MESSAGES) {
            Some(Value::Array(turns)) if reading.question.is_empty() && reading.answer.is_empty() => {
                let said_by = |role: &str| {
                    let of_role = turns.iter().filter(move |turn| turn["role"] == role);
                    of_role.filter_map(|turn| turn["content"].as_str()).collect::<Vec<_>>()
                };
                (
                    self.read_words(said_by("user").first().copied()),
                    self.read_words(said_by("assistant").last().copied()),
                )
            }
            _ => (
                self.part(row, reading.question, &QUESTION_COLUMNS, reading)?,
                self.part(row, reading.answer, &ANSWER, reading)?,
            ),
        };
        let Some(question) = question else {
            let there = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "row {number}: no column is known to hold a question; name some in `question`: {there}"
            );
            return Err(Error::malformed(reading.place, message).into());
        };
        let id = match row.get(ID) {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => number.to_string(),
        };
        self.all.push(Item { set, id, question, answer: answer.unwrap_or_default() });
        self.sets[set].items += 1;
        Ok(())
    }

    fn part(
        &mut self,
        row: &Row,
        named: &[String],
        known: &[&str],
        reading: &Reading<'_>,
    ) -> Result<Option<Vec<u64>>> {
        if named.is_empty() {
            let column = known.iter().find(|name| row.get(**name).is_some_and(Value::is_string));
            return Ok(column.and_then(|name| self.read_words(row[*name].as_str())));
        }
        named.iter().try_for_each(|name| require_column(name, row, reading.place))?;
        let mut text = std::mem::take(&mut self.text);
        Document::choose(named, row, reading.place)?.read(row, &mut text);
        let words = self.read_words(Some(&text));
        self.text = text;
        Ok(words)
    }

    fn read_words(&mut self, text: Option<&str>) -> Option<Vec<u64>> {
        self.words.read(text?, false);
        Some(hashes(&self.words).collect())
    }
}
