//! The rows that are shown to reviewers: those that passed the gates and those that did not, and which of them fit a
//! filter.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::history::{History, Status};
use crate::artifact::{Artifact, ArtifactId, Kind, Manifest};
use crate::columns;
use crate::table::{Row, Tables, main_table, rejected_table, scores_table};
use crate::{Error, Result};

/// What stands for the gate of a row that no gate rejected.
pub const PASSED: &str = "passed";

/// Columns that a record shows in a place of their own.
const SHOWN: [&str; 7] = [
    columns::ID,
    columns::SYSTEM_PROMPT,
    columns::USER_PROMPT,
    columns::TEACHER_OUTPUT,
    columns::REFERENCE,
    columns::REJECTION_GATE,
    columns::REJECTION_REASON,
];

/// Names a row to reviewers: its `id`, and behind `#` which sample it is where there are several of one prompt.
pub fn row_id(row: &Row) -> String {
    let id = own_id(row);
    match row.get(columns::SAMPLE_INDEX).and_then(Value::as_u64) {
        None | Some(0) => id,
        Some(sample) => format!("{id}#{sample}"),
    }
}

/// The `id` of a row, empty where it has none.
fn own_id(row: &Row) -> String {
    match row.get(columns::ID) {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Whether an artifact of a kind can be reviewed.
pub fn is_reviewable(kind: Kind) -> bool {
    matches!(kind, Kind::Filtered | Kind::TeacherOutputs)
}

/// The rows of an artifact, those that passed first, each in the order of its table.
#[derive(Debug, Clone)]
pub struct Deck {
    passed: Arc<Vec<Row>>,
    rejected: Arc<Vec<Row>>,
    ids: Vec<String>,
    places: HashMap<String, usize>,
    /// What gates and judges measured of each row, where that stands beside the rows.
    measured: Vec<Vec<(String, f64)>>,
}

/// One row as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Counts from 0.
    pub index: usize,
    /// Its name.
    pub row_id: &'a str,
    /// All of it.
    pub row: &'a Row,
    /// What gates and judges measured of it.
    measured: &'a [(String, f64)],
}

impl Deck {
    /// Reads the rows of an artifact.
    ///
    /// # Errors
    /// Fails when it is of a kind that cannot be reviewed, a table cannot be read, or as [`Deck::new`].
    pub fn open(artifact: &Artifact, tables: &dyn Tables) -> Result<Self> {
        let read = |name: &str| Ok(Arc::new(tables.read(&artifact.file(name)?)?));
        Self::read_with(artifact, tables, read)
    }

    /// As [`Deck::open`], with rows that may be in memory already; `read` is given a file's name in the manifest.
    ///
    /// # Errors
    /// As [`Deck::open`].
    pub fn read_with<E: From<Error>>(
        artifact: &Artifact,
        tables: &dyn Tables,
        read: impl Fn(&str) -> Result<Arc<Vec<Row>>, E>,
    ) -> Result<Self, E> {
        let Manifest { id, kind, .. } = &artifact.manifest;
        let refused = |message: String| Error::Review { artifact: id.to_string(), message };
        if !is_reviewable(*kind) {
            return Err(refused(format!("it is a {kind}; what teachers answered can be reviewed")).into());
        }
        let main = main_table(artifact, tables).ok_or_else(|| refused("it holds no table".to_owned()))?;
        let rejected = rejected_table(artifact, tables).map_or_else(|| Ok(Arc::default()), &read)?;
        let mut deck = Self::new(id, read(main)?, rejected)?;
        if let Some(scores) = scores_table(artifact, tables) {
            deck.note_scores(&read(scores)?);
        }
        Ok(deck)
    }

    /// Takes the rows of an artifact; `rejected` are those of its gates, and may be none.
    ///
    /// # Errors
    /// Fails when the rows hold no answers of a teacher, or one of them has no id.
    pub fn new(artifact: &ArtifactId, passed: Arc<Vec<Row>>, rejected: Arc<Vec<Row>>) -> Result<Self> {
        let failed = |message: String| Error::Review { artifact: artifact.to_string(), message };
        let mut ids = Vec::with_capacity(passed.len() + rejected.len());
        let mut places = HashMap::with_capacity(ids.capacity());
        for (index, row) in passed.iter().chain(rejected.iter()).enumerate() {
            if !row.contains_key(columns::TEACHER_OUTPUT) {
                return Err(failed(format!("its rows have no column `{}`", columns::TEACHER_OUTPUT)));
            }
            let id = row_id(row);
            if id.is_empty() {
                return Err(failed(format!("row {} has no `{}`", index + 1, columns::ID)));
            }
            places.entry(id.clone()).or_insert(index);
            ids.push(id);
        }
        Ok(Self { passed, rejected, ids, places, measured: Vec::new() })
    }

    /// Puts the numbers of a table of scores to the rows that they are about.
    fn note_scores(&mut self, scores: &[Row]) {
        let by_id: HashMap<String, &Row> = scores.iter().map(|row| (own_id(row), row)).collect();
        let numbers = |scores: &&Row| {
            let gates = scores.iter().filter(|(column, _)| *column != columns::ID);
            gates.filter_map(|(gate, score)| Some((gate.clone(), score.as_f64()?))).collect()
        };
        let rows = self.passed.iter().chain(self.rejected.iter());
        self.measured = rows.map(|row| by_id.get(&own_id(row)).map(numbers).unwrap_or_default()).collect();
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// A row by its place.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        let row_id = self.ids.get(index)?;
        let row = self.passed.get(index).or_else(|| self.rejected.get(index - self.passed.len()))?;
        let measured = self.measured.get(index).map_or(&[][..], Vec::as_slice);
        Some(Record { index, row_id, row, measured })
    }

    /// A row by its name.
    pub fn find(&self, row_id: &str) -> Option<Record<'_>> {
        self.get(*self.places.get(row_id)?)
    }

    /// Every row.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The gates that rejected something, by name, after [`PASSED`].
    pub fn gates(&self) -> Vec<String> {
        let gates: BTreeSet<&str> = self.records().filter_map(|record| record.gate()).collect();
        std::iter::once(PASSED).chain(gates).map(str::to_owned).collect()
    }

    /// The names of all numbers that rows hold, sorted.
    pub fn scores(&self) -> Vec<String> {
        let names: BTreeSet<String> =
            self.records().flat_map(|record| record.scores()).map(|(name, _)| name).collect();
        names.into_iter().collect()
    }

    /// The places of the rows that fit a filter.
    pub fn matching(&self, filter: &Filter, history: &History) -> Vec<usize> {
        let fits = |record: &Record<'_>| filter.fits(record, history.status(record.row_id));
        self.records().filter(fits).map(|record| record.index).collect()
    }
}

impl<'a> Record<'a> {
    /// A column, where it holds text.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        self.row.get(column)?.as_str()
    }

    /// What stands before the conversation.
    pub fn system(&self) -> Option<&'a str> {
        self.text(columns::SYSTEM_PROMPT).filter(|text| !text.is_empty())
    }

    /// What was asked.
    pub fn prompt(&self) -> &'a str {
        self.text(columns::USER_PROMPT).unwrap_or_default()
    }

    /// What the teacher answered.
    pub fn completion(&self) -> &'a str {
        self.text(columns::TEACHER_OUTPUT).unwrap_or_default()
    }

    /// The right final answer, where one is known.
    pub fn reference(&self) -> Option<&'a str> {
        self.text(columns::REFERENCE)
    }

    /// The gate that rejected it, if one did.
    pub fn gate(&self) -> Option<&'a str> {
        self.text(columns::REJECTION_GATE)
    }

    /// Why it did.
    pub fn gate_reason(&self) -> Option<&'a str> {
        self.text(columns::REJECTION_REASON)
    }

    /// Every number that the row holds, those inside of objects as `column.key`, after what gates and judges measured.
    pub fn scores(&self) -> Vec<(String, f64)> {
        let mut scores = self.measured.to_vec();
        for (column, value) in self.row.iter().filter(|(column, _)| *column != columns::SAMPLE_INDEX) {
            match value {
                Value::Number(number) => scores.extend(number.as_f64().map(|n| (column.clone(), n))),
                Value::Object(inner) => {
                    let named =
                        |(key, value): (&String, &Value)| Some((format!("{column}.{key}"), value.as_f64()?));
                    scores.extend(inner.iter().filter_map(named));
                }
                _ => {}
            }
        }
        scores
    }

    /// The columns that have no place of their own: neither shown text nor a number, and not null.
    pub fn rest(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let own = |column: &str, value: &Value| {
            SHOWN.contains(&column)
                || value.is_null()
                || (value.is_number() && column != columns::SAMPLE_INDEX)
        };
        self.row.iter().map(|(column, value)| (column.as_str(), value)).filter(move |(c, v)| !own(c, v))
    }
}

/// Which rows are shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Filter {
    /// A gate, or [`PASSED`].
    pub gate: Option<String>,
    /// How they stand.
    pub status: Option<Status>,
    /// A text that prompt, completion, reference or id contain, in any case.
    pub search: Option<String>,
    /// What a number must be.
    pub score: Option<ScoreRange>,
}

/// What a number must be; a row without it does not fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreRange {
    /// The number's name.
    pub name: String,
    /// The least that fits.
    pub min: Option<f64>,
    /// The most that fits.
    pub max: Option<f64>,
}

impl Filter {
    /// Whether a row fits that stands so.
    pub fn fits(&self, record: &Record<'_>, status: Status) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
            && self.gate.as_deref().is_none_or(|wanted| wanted == record.gate().unwrap_or(PASSED))
            && self.search.as_deref().is_none_or(|text| contains(record, &text.to_lowercase()))
            && self.score.as_ref().is_none_or(|range| range.holds(record))
    }
}

impl ScoreRange {
    fn holds(&self, record: &Record<'_>) -> bool {
        let value = record.scores().into_iter().find(|(name, _)| *name == self.name).map(|(_, value)| value);
        value.is_some_and(|v| self.min.is_none_or(|min| v >= min) && self.max.is_none_or(|max| v <= max))
    }
}

/// Whether a row contains a text in lower case.
fn contains(record: &Record<'_>, text: &str) -> bool {
    let places =
        [record.row_id, record.prompt(), record.completion(), record.reference().unwrap_or_default()];
    places.iter().any(|place| place.to_lowercase().contains(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::review::{Action, Line, Verdict};

    fn rows(rows: &[Value]) -> Arc<Vec<Row>> {
        Arc::new(rows.iter().map(|row| row.as_object().unwrap().clone()).collect())
    }

    fn deck() -> Deck {
        let passed = rows(&[
            json!({"id": "p0", "user_prompt": "Add 1.", "teacher_output": "Two", "completion_tokens": 5}),
            json!({"id": "p0", "sample_index": 1, "user_prompt": "Add 1.", "teacher_output": "2", "scores": {"judge": 4.5}}),
        ]);
        let rejected = rows(&[json!({
            "id": "p1", "user_prompt": "Why?", "teacher_output": "I can't.", "rejection_gate": "refusal",
            "rejection_reason": "begins so", "reference": null,
        })]);
        Deck::new(&"tutor/filtered_v1".parse().unwrap(), passed, rejected).unwrap()
    }

    #[test]
    fn rows_are_named_and_their_parts_found() {
        let mut deck = deck();
        let ids: Vec<_> = deck.records().map(|record| record.row_id.to_owned()).collect();
        assert_eq!(ids, ["p0", "p0#1", "p1"]);
        assert_eq!(
            (deck.gates(), deck.scores()),
            (
                vec!["passed".to_owned(), "refusal".to_owned()],
                vec!["completion_tokens".to_owned(), "scores.judge".to_owned()],
            )
        );
        let score = |id: &str, length: f64| json!({"id": id, "length": length, "judge": null});
        deck.note_scores(&rows(&[score("p1", 3.0), score("p0", 4.0)]));
        let of =
            |row_id: &str| deck.find(row_id).unwrap().scores().into_iter().find(|(name, _)| name == "length");
        assert_eq!(
            (of("p0"), of("p1")),
            (Some(("length".to_owned(), 4.0)), Some(("length".to_owned(), 3.0)))
        );
        let rejected = deck.find("p1").unwrap();
        assert_eq!((rejected.gate(), rejected.gate_reason()), (Some("refusal"), Some("begins so")));
        assert_eq!(rejected.rest().count(), 0);
    }

    #[test]
    fn rows_fit_a_filter_in_every_part() {
        let deck = deck();
        let history: History = [&Line::new("p0", Action::Reject, "ana")].into_iter().collect();
        let check = |filter: Filter, expected: &[usize]| {
            assert_eq!(deck.matching(&filter, &history), expected, "{filter:?}");
        };
        let gate = |gate: &str| Filter { gate: Some(gate.to_owned()), ..Filter::default() };
        let search = |text: &str| Filter { search: Some(text.to_owned()), ..Filter::default() };
        let status = |status| Filter { status: Some(status), ..Filter::default() };
        let score = |name: &str, min, max| Filter {
            score: Some(ScoreRange { name: name.to_owned(), min, max }),
            ..Filter::default()
        };
        check(Filter::default(), &[0, 1, 2]);
        check(gate(PASSED), &[0, 1]);
        check(gate("refusal"), &[2]);
        check(search("ADD"), &[0, 1]);
        check(search("can't"), &[2]);
        check(status(Status::Pending), &[1, 2]);
        check(status(Status::Decided(Verdict::Reject)), &[0]);
        check(score("scores.judge", Some(4.0), None), &[1]);
        check(score("scores.judge", None, Some(4.0)), &[]);
        check(score("completion_tokens", None, None), &[0]);
        check(Filter { search: Some("add".to_owned()), ..status(Status::Pending) }, &[1]);
    }

    #[test]
    fn what_holds_no_answers_is_refused() {
        let check = |row: Value, expected: &str| {
            let id = "tutor/problems_v1".parse().unwrap();
            let error = Deck::new(&id, rows(&[row]), Arc::default()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(json!({"id": "a"}), "review tutor/problems_v1: its rows have no column `teacher_output`");
        check(json!({"teacher_output": "a"}), "review tutor/problems_v1: row 1 has no `id`");
    }
}
