//! From files to questions: documents read, prepared, put into words, and given their examples.

use std::path::PathBuf;

use nexa_core::table::{Row, Tables};

use crate::evaluate::Config;
use crate::harness::documents;
use crate::harness::examples::Examples;
use crate::harness::fields::{Fields, Question, Text};
use crate::harness::plan::PlannedTask;
use crate::harness::python;
use crate::harness::spec::OutputType;
use crate::{Error, Result};

/// The columns that may name a document, where their values are unique.
const IDS: [&str; 3] = ["id", "question_id", "key"];

/// A task whose documents have been read.
#[derive(Debug)]
pub(crate) struct Loaded<'a> {
    pub(crate) task: &'a PlannedTask,
    /// The documents that are evaluated, in the order of their files.
    pub(crate) documents: Vec<Document>,
    /// How many there are without a limit.
    pub(crate) total: usize,
    /// The examples that are shown, in words.
    examples: Vec<Option<Question>>,
    /// Whether the first document's target is a list: then any of its entries is right, for every document.
    pub(crate) has_many_targets: bool,
}

/// A document with what becomes of it.
#[derive(Debug)]
pub(crate) struct Document {
    /// What names it in predictions.
    pub(crate) id: String,
    pub(crate) row: Row,
    pub(crate) question: Question,
    /// Its examples, by their place.
    shots: Vec<usize>,
}

impl<'a> Loaded<'a> {
    /// Reads a task's documents.
    ///
    /// # Errors
    /// Fails with path and line where a file cannot be read, with task, key and document where a template asks for what is
    /// not there, and where there are no documents or too few examples.
    pub(crate) fn read(task: &'a PlannedTask, config: &Config, tables: &dyn Tables) -> Result<Self> {
        let spec = &task.spec;
        let split = spec.eval_split().unwrap_or_default();
        let rows = read_split(task, split, tables)?;
        let total = rows.len();
        let Some(first) = rows.first() else {
            return Err(Error::NoDocument { task: spec.task.clone(), split: split.to_owned() });
        };
        let (fields, example_fields) = (Fields::of_task(spec, first)?, Fields::of_examples(spec, first)?);
        let pool = match (task.shots, spec.examples_split()) {
            (0, _) => Vec::new(),
            (_, None) => spec.samples().unwrap_or_default().to_vec(),
            (_, Some(other)) if other == split => rows.clone(),
            (_, Some(other)) => read_split(task, other, tables)?,
        };
        let mut chooser = Examples::new(spec, &pool, config.fewshot_seed)?;
        let mut examples: Vec<Option<Question>> = vec![None; pool.len()];
        let ids = ids(&rows);
        let limit = config.limit.map_or(total, |limit| limit.of(total));
        let mut documents = Vec::new();
        for (at, (row, id)) in rows.into_iter().zip(ids).take(limit).enumerate() {
            let shots = chooser.choose(task.shots, &row)?;
            for &shot in &shots {
                if examples[shot].is_none() {
                    let place = format!("{shot} of the examples");
                    examples[shot] = Some(example_fields.question(&pool[shot], &place)?);
                }
            }
            let question = fields.question(&row, &at.to_string())?;
            documents.push(Document { id, row, question, shots });
        }
        let has_many_targets = documents.first().is_some_and(|first| first.question.target.is_array());
        Ok(Self { task, documents, total, examples, has_many_targets })
    }

    /// The task with some of its documents only.
    pub(crate) fn part(&self, documents: Vec<Document>) -> Self {
        Self { documents, examples: self.examples.clone(), ..*self }
    }

    /// What a column says of each document, where it is there.
    pub(crate) fn column(&self, column: Option<&str>) -> Option<Vec<String>> {
        let column = column?;
        let value = |document: &Document| document.row.get(column).map(python::text);
        self.documents.iter().map(value).collect()
    }

    /// The source that each document shares with others, where the task names its column and some document has one.
    pub(crate) fn sources(&self) -> Option<Vec<Option<String>>> {
        let column = self.task.spec.cluster.as_deref()?;
        let found: Vec<_> = self.documents.iter().map(|document| document.field(column)).collect();
        found.iter().any(Option::is_some).then_some(found)
    }

    /// What is doubtful about the documents, in words: it is graded as the reference does, which says nothing of it.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let count = |is_doubtful: &dyn Fn(&Document) -> bool| {
            let mut found = self.documents.iter().enumerate().filter(|(_, document)| is_doubtful(document));
            found.next().map(|(first, _)| (first, 1 + found.count()))
        };
        let is_choosing = self.task.spec.output_type == OutputType::MultipleChoice;
        let all = self.documents.len();
        let empty = count(&|document| document.question.prints_none).map(|(first, count)| {
            format!(
                "a field that is empty is printed as `None` in {count} of {all} documents, first in number {first}"
            )
        });
        let wrong = count(&|document| is_choosing && document.question.right_choices().is_empty());
        let wrong = wrong.map(|(first, count)| {
            format!(
                "the right answer of {count} of {all} documents is not among their choices, first of number {first}; \
                 they count as wrong"
            )
        });
        empty.into_iter().chain(wrong).collect()
    }

    /// The examples before a document.
    pub(crate) fn examples(&self, document: &Document) -> Vec<&Question> {
        document.shots.iter().filter_map(|&shot| self.examples[shot].as_ref()).collect()
    }
}

impl Document {
    /// What a column says, as text.
    pub(crate) fn field(&self, column: &str) -> Option<String> {
        self.row.get(column).filter(|value| !value.is_null()).map(python::text)
    }

    /// The question with its right answer, without examples.
    pub(crate) fn text(&self) -> String {
        let right = self.reference().unwrap_or_default();
        match &self.question.text {
            Text::Prompt(prompt) => format!("{prompt} {right}"),
            Text::Choice(_) => format!("{right} {}", python::text(&self.question.target)),
        }
    }

    /// The right answer in words: a choice, the first of several, or the target as it prints.
    pub(crate) fn reference(&self) -> Option<String> {
        let target = &self.question.target;
        let words = match (&self.question.text, &self.question.choices) {
            (Text::Choice(at), Some(choices)) => choices.get(*at).cloned(),
            _ => self.question.answer().map(str::to_owned),
        };
        words.or_else(|| Some(python::text(target))).filter(|text| !text.is_empty())
    }
}

fn read_split(task: &PlannedTask, split: &str, tables: &dyn Tables) -> Result<Vec<Row>> {
    let rows = match (task.files.get(split), &task.spec.documents) {
        (None, Some(own)) if task.spec.eval_split() == Some(split) => own.clone(),
        (files, _) => documents::read(tables, files.map(Vec::as_slice).unwrap_or_default())?,
    };
    let Some(native) = task.spec.native else { return Ok(rows) };
    let mut kept = Vec::with_capacity(rows.len());
    for (at, mut row) in rows.into_iter().enumerate().filter(|(_, row)| native.keeps(row)) {
        if let Err(message) = native.prepare(&mut row) {
            let files = task.files.get(split).map(Vec::as_slice).unwrap_or_default();
            let file = row_of(files, at, tables)?.map(|(row, file)| format!(", row {row} of {file}"));
            return Err(Error::Document {
                task: task.spec.task.clone(),
                key: "native",
                document: format!("{at} of split `{split}`{}", file.unwrap_or_default()),
                message,
            });
        }
        kept.push(row);
    }
    Ok(kept)
}

/// The file of a document, and its row there, from 1.
fn row_of(files: &[PathBuf], document: usize, tables: &dyn Tables) -> Result<Option<(usize, String)>> {
    let mut before = 0;
    for file in files {
        let rows = documents::read(tables, std::slice::from_ref(file))?.len();
        if document < before + rows {
            return Ok(Some((document - before + 1, file.display().to_string())));
        }
        before += rows;
    }
    Ok(None)
}

/// What names each document: a column that tells all of them apart, else their numbers.
fn ids(rows: &[Row]) -> Vec<String> {
    let of = |column: &str| {
        let value =
            |row: &Row| row.get(column).filter(|value| value.is_string() || value.is_u64()).map(python::text);
        let ids: Vec<String> = rows.iter().map(value).collect::<Option<_>>()?;
        let unique: std::collections::HashSet<&String> = ids.iter().collect();
        (unique.len() == ids.len()).then_some(ids)
    };
    IDS.iter()
        .find_map(|column| of(column))
        .unwrap_or_else(|| (0..rows.len()).map(|at| at.to_string()).collect())
}
