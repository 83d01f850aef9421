//! The documents of an evaluation with what a model made of them, found by what they are and read a page at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nexa_core::artifact::Artifact;
use nexa_core::table::{Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// A document and what a model made of it. What a task does not measure is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Its number in the file, from 1.
    pub(crate) number: usize,
    pub(crate) task: String,
    pub(crate) id: String,
    pub(crate) domain: Option<String>,
    pub(crate) prompt: String,
    pub(crate) reference: Option<String>,
    pub(crate) output: Option<String>,
    /// What the task's first filter found, or the choice that is most probable.
    pub(crate) prediction: Option<String>,
    pub(crate) correct: Option<bool>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) logprob_nats: Option<f64>,
    pub(crate) tokens: Option<u64>,
    /// By metric and filter.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// What each filter found.
    pub(crate) answers: BTreeMap<String, Value>,
    pub(crate) choices: Vec<ChoiceScore>,
    /// The whole conversation, where there are several turns.
    pub(crate) messages: Vec<Value>,
}

/// A choice with what the model says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChoiceScore {
    pub(crate) text: String,
    pub(crate) logprob_nats: f64,
    #[serde(default)]
    pub(crate) tokens: u64,
}

impl Sample {
    fn of_row(position: usize, row: &Row) -> Self {
        let text = |column: &str| row.get(column).and_then(Value::as_str).map(str::to_owned);
        Self {
            number: position + 1,
            task: text("task").unwrap_or_default(),
            id: text("id").unwrap_or_default(),
            domain: text("domain"),
            prompt: text("prompt").unwrap_or_default(),
            reference: text("reference"),
            output: text("output"),
            prediction: text("prediction"),
            correct: row.get("correct").and_then(Value::as_bool),
            finish_reason: text("finish_reason"),
            logprob_nats: row.get("logprob_nats").and_then(Value::as_f64),
            tokens: row.get("tokens").and_then(Value::as_u64),
            metrics: json(row, "metrics"),
            answers: json(row, "answers"),
            choices: json(row, "choices"),
            messages: json(row, "messages"),
        }
    }

    /// What the model said: its answer, or the choice that it finds most probable.
    pub(crate) fn said(&self) -> &str {
        self.output.as_deref().or(self.prediction.as_deref()).unwrap_or_default()
    }

    /// The probability of each choice, if one of them is the answer.
    pub(crate) fn probabilities(&self) -> Vec<f64> {
        let largest = self.choices.iter().map(|choice| choice.logprob_nats).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> =
            self.choices.iter().map(|choice| (choice.logprob_nats - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }
}

/// A column that holds JSON as text; of older versions it is absent.
fn json<T: for<'de> Deserialize<'de> + Default>(row: &Row, column: &str) -> T {
    match row.get(column) {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(value) => serde_json::from_value(value.clone()).unwrap_or_default(),
        None => T::default(),
    }
}

/// How a document was graded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judged {
    Right,
    Wrong,
    /// By no grade of right and wrong.
    Ungraded,
}

impl Judged {
    /// All of them, with their words.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Right, "right"), (Self::Wrong, "wrong"), (Self::Ungraded, "ungraded")];

    /// The grade of a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == word).map(|(judged, _)| judged)
    }

    pub(super) fn of(correct: Option<bool>) -> Self {
        match correct {
            Some(true) => Self::Right,
            Some(false) => Self::Wrong,
            None => Self::Ungraded,
        }
    }
}

/// Which documents are looked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SampleFilter {
    pub(crate) task: Option<String>,
    pub(crate) judged: Option<Judged>,
    pub(crate) domain: Option<String>,
    /// A text in prompt, answer, target or id, whatever its case.
    pub(crate) search: Option<String>,
    /// A metric with its filter, and between which values it lies.
    pub(crate) metric: Option<String>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl SampleFilter {
    fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec!["task", "correct", "domain"];
        if self.metric.is_some() {
            columns.push("metrics");
        }
        if self.search.is_some() {
            columns.extend(SEARCHED);
        }
        columns
    }

    fn fits(&self, row: &Row, search: Option<&str>) -> bool {
        let text = |column: &str| row.get(column).and_then(Value::as_str);
        let is_domain = |wanted: &String| text("domain") == Some(wanted);
        let holds = |search: &str| {
            SEARCHED
                .iter()
                .any(|column| text(column).is_some_and(|text| text.to_lowercase().contains(search)))
        };
        self.domain.as_ref().is_none_or(is_domain)
            && self.metric.as_ref().is_none_or(|metric| self.is_between(row, metric))
            && search.is_none_or(holds)
    }

    fn is_between(&self, row: &Row, metric: &str) -> bool {
        let values: BTreeMap<String, f64> = json(row, "metrics");
        // Predictions name the filter also where it is none.
        let value = values.get(metric).or_else(|| values.get(&format!("{metric},none")));
        value.is_some_and(|value| {
            self.min.is_none_or(|min| *value >= min) && self.max.is_none_or(|max| *value <= max)
        })
    }
}

/// What a text is looked for in.
const SEARCHED: [&str; 5] = ["id", "prompt", "output", "prediction", "reference"];

/// The documents that fit, by position, and how all of those were graded that fit but for their grade.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) positions: Vec<usize>,
    pub(crate) counts: Counts,
    /// The domains of the task, as far as they can be chosen from.
    pub(crate) domains: BTreeSet<String>,
}

/// How many documents were graded how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) ungraded: usize,
}

impl Counts {
    /// Of one grade.
    pub(crate) fn of(&self, judged: Judged) -> usize {
        match judged {
            Judged::Right => self.right,
            Judged::Wrong => self.wrong,
            Judged::Ungraded => self.ungraded,
        }
    }

    fn add(&mut self, judged: Judged) {
        match judged {
            Judged::Right => self.right += 1,
            Judged::Wrong => self.wrong += 1,
            Judged::Ungraded => self.ungraded += 1,
        }
    }
}

/// More domains than this are searched rather than chosen from.
const MAX_DOMAINS: usize = 200;

/// Whether a row is of a task; rows of early evaluations name none.
pub(super) fn is_of_task(row: &Row, task: Option<&str>) -> bool {
    let own = row.get("task").and_then(Value::as_str).unwrap_or_default();
    own.is_empty() || task.is_none_or(|task| task == own)
}

/// Finds the documents that fit a filter. Only the columns that it asks about are read.
///
/// # Errors
/// Fails when the evaluation has no predictions, or they cannot be read.
pub(crate) fn find(artifact: &Artifact, tables: &dyn Tables, filter: &SampleFilter) -> Result<Found> {
    let search = filter.search.as_ref().map(|search| search.to_lowercase());
    let mut found = Found::default();
    tables.scan(&file(artifact, tables)?, &filter.columns(), &mut |position, row| {
        if !is_of_task(&row, filter.task.as_deref()) {
            return Ok(());
        }
        if let Some(domain) = row.get("domain").and_then(Value::as_str)
            && found.domains.len() < MAX_DOMAINS
            && !found.domains.contains(domain)
        {
            found.domains.insert(domain.to_owned());
        }
        if filter.fits(&row, search.as_deref()) {
            let judged = Judged::of(row.get("correct").and_then(Value::as_bool));
            found.counts.add(judged);
            if filter.judged.is_none_or(|wanted| wanted == judged) {
                found.positions.push(position);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Tells of every document its position, its task and how it was graded.
///
/// # Errors
/// As [`find`].
pub(crate) fn graded(
    artifact: &Artifact,
    tables: &dyn Tables,
    visit: &mut dyn FnMut(usize, &str, Judged),
) -> Result<()> {
    tables.scan(&file(artifact, tables)?, &["task", "correct"], &mut |position, row| {
        let task = row.get("task").and_then(Value::as_str).unwrap_or_default();
        visit(position, task, Judged::of(row.get("correct").and_then(Value::as_bool)));
        Ok(())
    })?;
    Ok(())
}

/// Finds a document by its id, if it is there.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_document(
    artifact: &Artifact,
    tables: &dyn Tables,
    task: Option<&str>,
    id: &str,
) -> Result<Option<usize>> {
    let mut found = None;
    tables.scan(&file(artifact, tables)?, &["task", "id"], &mut |position, row| {
        let is_it = || row.get("id").and_then(Value::as_str) == Some(id) && is_of_task(&row, task);
        if found.is_none() && is_it() {
            found = Some(position);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads the documents at some positions, in the order in which these are given.
///
/// # Errors
/// As [`find`].
pub(crate) fn samples_at(
    artifact: &Artifact,
    tables: &dyn Tables,
    positions: &[usize],
) -> Result<Vec<Sample>> {
    let rows = tables.rows_at(&file(artifact, tables)?, &positions.iter().copied().collect())?;
    let mut by_position: BTreeMap<usize, Sample> =
        rows.iter().map(|(position, row)| (*position, Sample::of_row(*position, row))).collect();
    Ok(positions.iter().filter_map(|position| by_position.remove(position)).collect())
}

/// Reads one document by its number, from 1.
///
/// # Errors
/// As [`find`], and when there is no such row.
pub(crate) fn sample_at(artifact: &Artifact, tables: &dyn Tables, number: &str) -> Result<Sample> {
    let position = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let found = match position {
        Some(position) => samples_at(artifact, tables, &[position])?.pop(),
        None => None,
    };
    found.ok_or_else(|| {
        let hint = Some("samples are counted from 1".to_owned());
        let name = format!("{number} of {}", artifact.id());
        Error::Core(nexa_core::Error::NotFound { what: "sample", name, hint })
    })
}

/// The table of predictions: `predictions.parquet` or, whatever the format, the main table.
pub(super) fn file(artifact: &Artifact, tables: &dyn Tables) -> Result<PathBuf> {
    let mut names = artifact.manifest.files.iter().map(|file| file.name.as_str());
    let named = names.find(|name| name.starts_with("predictions."));
    let name = named.or_else(|| nexa_core::table::main_table(artifact, tables));
    Ok(artifact.file(name.unwrap_or("predictions.parquet"))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: &Value) -> Row {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_filter_looks_at_grade_text_domain_and_metric() {
        let one = row(&json!({
            "task": "t", "id": "d1", "domain": "add", "prompt": "What is ONE?", "correct": false,
            "metrics": "{\"acc,none\": 0.5, \"f1,strict\": 1.0}",
        }));
        let check = |filter: SampleFilter, expected: bool| {
            let search = filter.search.as_ref().map(|text| text.to_lowercase());
            assert_eq!(filter.fits(&one, search.as_deref()), expected, "{filter:?}");
        };
        let text = |text: &str| Some(text.to_owned());
        check(SampleFilter::default(), true);
        check(SampleFilter { search: text("is one"), ..SampleFilter::default() }, true);
        check(SampleFilter { search: text("two"), ..SampleFilter::default() }, false);
        check(SampleFilter { domain: text("sub"), ..SampleFilter::default() }, false);
        let between = |metric: &str, min, max| SampleFilter {
            metric: text(metric),
            min,
            max,
            ..SampleFilter::default()
        };
        check(between("acc", Some(0.5), None), true);
        check(between("acc", Some(0.51), None), false);
        check(between("f1,strict", None, Some(0.9)), false);
        check(between("bleu", None, None), false);
    }

    #[test]
    fn probabilities_sum_to_one_however_improbable_choices_are() {
        let choice = |logprob_nats| ChoiceScore { text: String::new(), logprob_nats, tokens: 1 };
        let sample =
            Sample { choices: vec![choice(-1000.0), choice(-1000.0 - 2.0_f64.ln())], ..Sample::default() };
        let found = sample.probabilities();
        assert!((found[0] - 2.0 / 3.0).abs() < 1e-12 && (found[1] - 1.0 / 3.0).abs() < 1e-12, "{found:?}");
        assert!(Sample::default().probabilities().is_empty());
    }

    #[test]
    fn rows_of_any_version_are_read() {
        let early =
            Sample::of_row(3, &row(&json!({"id": "a", "prompt": "p", "output": "o", "correct": true})));
        assert_eq!((early.number, early.said(), early.correct), (4, "o", Some(true)));
        let own = json!({
            "task": "t", "id": "a", "choices": "[{\"text\": \"x\", \"logprob_nats\": -1.0, \"tokens\": 2}]",
            "answers": "{\"none\": [1]}", "metrics": null,
        });
        let own = Sample::of_row(0, &row(&own));
        assert_eq!((own.choices[0].text.as_str(), &own.answers["none"]), ("x", &json!([1])));
    }
}
