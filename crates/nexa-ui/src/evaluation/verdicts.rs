//! What judges said of an evaluation.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::judging::{FILE, Verdict};
use nexa_core::lab::Lab;
use nexa_core::table::{Row, Tables};
use serde::Serialize;
use serde_json::Value;

use crate::Result;

/// Which verdicts are looked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct VerdictFilter {
    pub(crate) judge: Option<String>,
    pub(crate) criterion: Option<String>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Only those that could not be read.
    pub(crate) unreadable: bool,
    /// A text in the explanation, the id or what is wrong.
    pub(crate) search: Option<String>,
}

/// Verdicts that fit, by position, and what there is to choose from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Verdicts {
    #[serde(skip)]
    pub(crate) positions: Vec<usize>,
    pub(crate) total: usize,
    pub(crate) unreadable: usize,
    pub(crate) judges: BTreeMap<String, usize>,
    pub(crate) criteria: BTreeSet<String>,
}

/// What a text is looked for in.
const SEARCHED: [&str; 4] = ["id", "explanation", "problem", "text"];

impl Verdicts {
    /// Finds the verdicts that fit.
    ///
    /// # Errors
    /// Fails when the artifact has no verdicts, or they cannot be read.
    pub(crate) fn find(artifact: &Artifact, tables: &dyn Tables, filter: &VerdictFilter) -> Result<Self> {
        artifact.expect_kind(Kind::Verdicts)?;
        let mut columns = vec!["judge", "score", "decisions", "problem"];
        if filter.search.is_some() {
            columns.extend(["id", "explanation", "text"]);
        }
        let search = filter.search.as_ref().map(|search| search.to_lowercase());
        let mut found = Self::default();
        tables.scan(&artifact.file(FILE)?, &columns, &mut |position, row| {
            found.count(&row);
            if filter.fits(&row, search.as_deref()) {
                found.positions.push(position);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn count(&mut self, row: &Row) {
        self.total += 1;
        self.unreadable += usize::from(text(row, "problem").is_some());
        *self.judges.entry(text(row, "judge").unwrap_or_default().to_owned()).or_default() += 1;
        for criterion in criteria(row).into_keys() {
            self.criteria.insert(criterion);
        }
    }
}

impl VerdictFilter {
    fn fits(&self, row: &Row, search: Option<&str>) -> bool {
        let score = match &self.criterion {
            Some(criterion) => criteria(row).get(criterion).copied(),
            None => row.get("score").and_then(Value::as_f64),
        };
        let is_wanted = self.criterion.is_some() || self.min.is_some() || self.max.is_some();
        let is_between = score.is_some_and(|score| {
            self.min.is_none_or(|min| score >= min) && self.max.is_none_or(|max| score <= max)
        });
        let holds = |search: &str| {
            SEARCHED
                .iter()
                .any(|column| text(row, column).is_some_and(|text| text.to_lowercase().contains(search)))
        };
        self.judge.as_deref().is_none_or(|judge| text(row, "judge") == Some(judge))
            && (!self.unreadable || text(row, "problem").is_some())
            && (!is_wanted || is_between)
            && search.is_none_or(holds)
    }
}

fn text<'r>(row: &'r Row, column: &str) -> Option<&'r str> {
    row.get(column).and_then(Value::as_str)
}

/// What was decided for each criterion; a point of a checklist counts 1 where it is met. Two answers that are compared have
/// none.
fn criteria(row: &Row) -> BTreeMap<String, f64> {
    text(row, "decisions").map(criteria_of).unwrap_or_default()
}

/// The same, of the text in which verdicts keep it.
pub(crate) fn criteria_of(decisions: &str) -> BTreeMap<String, f64> {
    let decisions: BTreeMap<String, Value> = serde_json::from_str(decisions).unwrap_or_default();
    let number =
        |value: &Value| value.as_f64().or_else(|| value.as_bool().map(|met| f64::from(u8::from(met))));
    decisions.into_iter().filter_map(|(name, value)| Some((name, number(&value)?))).collect()
}

/// The artifacts of verdicts on an evaluation, newest first.
///
/// # Errors
/// Fails when the lab cannot be listed.
pub(crate) fn of_evaluation(lab: &Lab, evaluation: &ArtifactId) -> Result<Vec<Artifact>> {
    let id = evaluation.to_string();
    let mut found = Store::new(lab).of_kind(&evaluation.project, Kind::Verdicts)?;
    found.retain(|artifact| artifact.manifest.parents.iter().any(|parent| parent.id == id));
    found.sort_by_key(|artifact| std::cmp::Reverse(artifact.manifest.created_at));
    Ok(found)
}

/// The verdicts of an artifact on a document of a task.
///
/// # Errors
/// Fails when they cannot be read.
pub(crate) fn on_document(
    artifact: &Artifact,
    tables: &dyn Tables,
    task: &str,
    id: &str,
) -> Result<Vec<Verdict>> {
    let path = artifact.file(FILE)?;
    let mut positions = Vec::new();
    tables.scan(&path, &["id", "task"], &mut |position, row| {
        if text(&row, "id") == Some(id) && text(&row, "task").is_none_or(|own| own == task) {
            positions.push(position);
        }
        Ok(())
    })?;
    at(artifact, tables, &positions)
}

/// The verdicts at some positions, in the order of the file.
///
/// # Errors
/// Fails when they cannot be read.
pub(crate) fn at(artifact: &Artifact, tables: &dyn Tables, positions: &[usize]) -> Result<Vec<Verdict>> {
    let path = artifact.file(FILE)?;
    let rows = tables.rows_at(&path, &positions.iter().copied().collect())?;
    let read = |(position, row): (usize, Row)| Ok(Verdict::from_row(row, position, &path)?);
    rows.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_looks_at_judge_criterion_score_and_text() {
        let row = json!({
            "judge": "a", "score": 3.5, "decisions": "{\"clear\": 2, \"unit\": true}", "explanation": "The Unit is missing.",
            "problem": null,
        });
        let row = row.as_object().cloned().unwrap_or_default();
        let check = |filter: VerdictFilter, expected: bool| {
            let search = filter.search.as_ref().map(|text| text.to_lowercase());
            assert_eq!(filter.fits(&row, search.as_deref()), expected, "{filter:?}");
        };
        let all = VerdictFilter::default;
        let text = |text: &str| Some(text.to_owned());
        check(all(), true);
        check(VerdictFilter { judge: text("b"), ..all() }, false);
        check(VerdictFilter { min: Some(3.0), max: Some(4.0), ..all() }, true);
        check(VerdictFilter { criterion: text("clear"), min: Some(3.0), ..all() }, false);
        check(VerdictFilter { criterion: text("unit"), min: Some(1.0), ..all() }, true);
        check(VerdictFilter { criterion: text("other"), ..all() }, false);
        check(VerdictFilter { search: text("unit is"), ..all() }, true);
        check(VerdictFilter { unreadable: true, ..all() }, false);
    }

    #[test]
    fn what_was_decided_of_two_answers_is_no_criterion() {
        assert!(criteria_of("\"a\"").is_empty() && criteria_of("").is_empty());
    }
}
