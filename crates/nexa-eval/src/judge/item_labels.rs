//! Which item each label belongs to, among those that were judged.
//!
//! Items of several models and tasks may have one id, and two models may be compared from either side. A label fits what has
//! its id and every name that it gives; one that fits more than one item is an error, never the label of them all.

use std::collections::{BTreeSet, HashMap, HashSet};

use nexa_core::judging::Verdict;

use super::labels::{Label, LabelKind, Labels, NAMES, Names};
use super::verdicts::{Comparison, ItemScore, UNNAMED, Verdicts};
use crate::{Error, Result};

/// Labels that each belong to one item that was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemLabels {
    /// What they are.
    pub kind: LabelKind,
    /// Where they come from, for people.
    pub source: String,
    /// The label of each item: the mean, where several people gave one.
    by_subject: HashMap<Subject, f64>,
}

/// What is judged: an item of a model, or two answers from the side of the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    id: String,
    names: Names,
}

impl Labels {
    /// Finds the item of each label among all that judges were asked about; the labels of other items are left out.
    ///
    /// A preference says which answer is better of the first model and the other. Which is the first it says by `model`;
    /// else it is the one that comes first in the verdicts.
    ///
    /// # Errors
    /// Fails where a label fits several items, with what would tell them apart.
    pub fn on(&self, verdicts: &Verdicts) -> Result<ItemLabels> {
        let subjects = subjects(verdicts, self.kind);
        let mut by_id: HashMap<&str, Vec<&Subject>> = HashMap::new();
        for subject in &subjects {
            by_id.entry(&subject.id).or_default().push(subject);
            if let Some(other_id) = subject.names.other_id.as_deref().filter(|id| *id != subject.id) {
                by_id.entry(other_id).or_default().push(subject);
            }
        }
        let candidates = |id: &str| by_id.get(id).map(Vec::as_slice).unwrap_or_default();
        let (mut exact, mut with_sample) = (Vec::new(), Vec::new());
        for label in &self.all {
            if let Some(found) = self.find(label, &label.id, candidates(&label.id))? {
                exact.push(found);
            } else if let Some(id) = without_sample(&label.id) {
                with_sample.extend(self.find(label, id, candidates(id))?);
            }
        }
        // Reviewers see the sample behind the id of a row, which verdicts do not: where there is no label of the id itself,
        // that of a sample is meant.
        let labelled: HashSet<&Subject> = exact.iter().map(|(subject, _)| *subject).collect();
        with_sample.retain(|(subject, _)| !labelled.contains(subject));
        let mut sums: HashMap<&Subject, (f64, f64)> = HashMap::new();
        for (subject, value) in exact.into_iter().chain(with_sample) {
            let (sum, count) = sums.entry(subject).or_default();
            *sum += value;
            *count += 1.0;
        }
        let by_subject =
            sums.into_iter().map(|(subject, (sum, count))| (subject.clone(), sum / count)).collect();
        Ok(ItemLabels { kind: self.kind, source: self.source.clone(), by_subject })
    }

    /// The one item that a label fits by an id, with the label from its side.
    fn find<'a>(
        &self,
        label: &Label,
        id: &str,
        candidates: &[&'a Subject],
    ) -> Result<Option<(&'a Subject, f64)>> {
        let fitting: Vec<(&'a Subject, bool)> = candidates
            .iter()
            .filter_map(|&subject| Some((subject, label.is_from_the_other_side(id, subject)?)))
            .collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [(subject, false)] => Ok(Some((*subject, label.value))),
            [(subject, true)] => Ok(Some((*subject, 1.0 - label.value))),
            several => Err(self.ambiguous(label, id, several)),
        }
    }

    /// The error of a label that fits several items.
    fn ambiguous(&self, label: &Label, id: &str, fitting: &[(&Subject, bool)]) -> Error {
        let from_its_side: Vec<Subject> = fitting
            .iter()
            .map(|(subject, is_turned)| if *is_turned { subject.turned() } else { (*subject).clone() })
            .collect();
        let apart = NAMES.iter().enumerate().find_map(|(at, (column, what))| {
            let names: BTreeSet<&str> =
                from_its_side.iter().map(|subject| subject.names.cells()[at].unwrap_or("none")).collect();
            let is_open = label.names.cells()[at].is_none() && names.len() > 1;
            is_open.then(|| (*column, *what, names.into_iter().collect::<Vec<_>>().join(", ")))
        });
        let message = match (apart, label.row) {
            (Some((column, what, names)), Some(row)) => format!(
                "row {row}: `{id}` fits verdicts of several {what} ({names}); say which in the column `{column}`"
            ),
            (Some((_, what, names)), None) => {
                format!("`{id}` fits verdicts of several {what} ({names}); report on those of one at a time")
            }
            (None, _) => format!("`{id}` fits several pairs of answers, which nothing tells apart"),
        };
        Error::Core(nexa_core::Error::malformed(&self.source, message))
    }
}

impl Label {
    /// Whether it is about an item as it stands, or, where it names a side, from the other one; about neither, `None`.
    fn is_from_the_other_side(&self, id: &str, subject: &Subject) -> Option<bool> {
        if self.fits(id, subject) {
            return Some(false);
        }
        let Names { model, other_model, other_id, .. } = &self.names;
        let has_side = model.is_some() || other_model.is_some() || other_id.is_some();
        (has_side && subject.is_pair() && self.fits(id, &subject.turned())).then_some(true)
    }

    /// Whether an item has an id, and every name that the label gives.
    fn fits(&self, id: &str, subject: &Subject) -> bool {
        let is_same = |(wanted, found): (Option<&str>, Option<&str>)| wanted.is_none() || wanted == found;
        id == subject.id && self.names.cells().into_iter().zip(subject.names.cells()).all(is_same)
    }
}

impl ItemLabels {
    /// The label of what was judged, from its side.
    pub(super) fn get(&self, subject: &Subject) -> Option<f64> {
        let from_the_other_side = || self.by_subject.get(&subject.turned()).map(|label| 1.0 - label);
        self.by_subject.get(subject).copied().or_else(from_the_other_side)
    }
}

impl Subject {
    fn of(verdict: &Verdict) -> Self {
        let is_pair = verdict.order.is_some();
        let named = |model: &Option<String>| model.clone().or_else(|| is_pair.then(|| UNNAMED.to_owned()));
        let other_id = || verdict.other_id.clone().unwrap_or_else(|| verdict.id.clone());
        Self {
            id: verdict.id.clone(),
            names: Names {
                task: verdict.task.clone(),
                model: named(&verdict.model),
                other_model: is_pair.then(|| named(&verdict.other_model)).flatten(),
                other_id: is_pair.then(other_id),
            },
        }
    }

    pub(super) fn of_item(item: &ItemScore) -> Self {
        let names = Names { task: item.task.clone(), model: item.model.clone(), ..Names::default() };
        Self { id: item.id.clone(), names }
    }

    pub(super) fn of_comparison(comparison: &Comparison) -> Self {
        Self {
            id: comparison.id.clone(),
            names: Names {
                task: comparison.task.clone(),
                model: Some(comparison.model.clone()),
                other_model: Some(comparison.other_model.clone()),
                other_id: Some(comparison.other_id.clone()),
            },
        }
    }

    fn is_pair(&self) -> bool {
        self.names.other_id.is_some()
    }

    /// The same two answers from the other side; one answer has no other side.
    fn turned(&self) -> Self {
        let Some(other_id) = self.names.other_id.clone() else { return self.clone() };
        Self {
            id: other_id,
            names: Names {
                task: self.names.task.clone(),
                model: self.names.other_model.clone(),
                other_model: self.names.model.clone(),
                other_id: Some(self.id.clone()),
            },
        }
    }
}

/// What was judged and can have labels of a kind, each once: pairs of two models from the side of the one that comes first.
fn subjects(verdicts: &Verdicts, kind: LabelKind) -> Vec<Subject> {
    let mut sides: HashSet<(&Option<String>, &Option<String>)> = HashSet::new();
    let mut known: HashSet<Subject> = HashSet::new();
    let mut subjects = Vec::new();
    let is_of_pairs = kind == LabelKind::Preference;
    for verdict in verdicts.all.iter().filter(|verdict| verdict.order.is_some() == is_of_pairs) {
        let (one, other) = (&verdict.model, &verdict.other_model);
        let mut subject = Subject::of(verdict);
        if one != other && sides.contains(&(other, one)) {
            subject = subject.turned();
        } else {
            sides.insert((one, other));
        }
        if known.insert(subject.clone()) {
            subjects.push(subject);
        }
    }
    subjects
}

/// The id before the sample that it ends with, if it does: `a` of `a#1`.
fn without_sample(row_id: &str) -> Option<&str> {
    let (id, sample) = row_id.rsplit_once('#')?;
    sample.parse::<u32>().is_ok().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::{both, verdicts};
    use super::*;

    fn single(id: &str, model: &str, task: &str, score: Option<f64>) -> Verdict {
        Verdict {
            id: id.to_owned(),
            model: Some(model.to_owned()),
            task: Some(task.to_owned()),
            judge: "j".to_owned(),
            score,
            ..Verdict::default()
        }
    }

    /// Labels of ids and of what stands before each: `task=t`, `model=x`, `other_model=y`.
    fn labels(kind: LabelKind, rows: &[(&str, &str, f64)]) -> Labels {
        let label = |(position, (names, id, value)): (usize, &(&str, &str, f64))| {
            let name = |column: &str| {
                let mut named = names.split_whitespace().filter_map(|name| name.split_once('='));
                named.find(|(name, _)| *name == column).map(|(_, value)| value.to_owned())
            };
            let [task, model, other_model, other_id] = NAMES.map(|(column, _)| name(column));
            let names = Names { task, model, other_model, other_id };
            Label { id: (*id).to_owned(), names, value: *value, row: Some(position + 1) }
        };
        Labels { kind, source: "labels.csv".to_owned(), all: rows.iter().enumerate().map(label).collect() }
    }

    #[test]
    fn a_label_that_fits_two_models_or_tasks_is_an_error() {
        let of_models = [single("0", "x", "sums", Some(5.0)), single("0", "y", "sums", None)];
        let of_tasks = [single("0", "x", "sums", Some(5.0)), single("0", "x", "rates", Some(1.0))];
        let check = |all: &[Verdict], names: &str, expected: &str| {
            let labels = labels(LabelKind::Score, &[("", "9", 1.0), (names, "0", 4.0)]);
            let found = labels.on(&verdicts(all.to_vec())).map_err(|error| error.to_string());
            match found {
                Err(error) => assert_eq!(error, format!("labels.csv: row 2: `0` {expected}")),
                Ok(found) => {
                    let labelled: Vec<_> =
                        all.iter().map(|verdict| found.get(&Subject::of(verdict))).collect();
                    assert_eq!(format!("{labelled:?}"), expected);
                }
            }
        };
        let models = "fits verdicts of several models (x, y); say which in the column `model`";
        check(&of_models, "", models);
        check(&of_models, "task=sums", models);
        check(&of_models, "model=x", "[Some(4.0), None]");
        check(&of_models, "model=y", "[None, Some(4.0)]");
        check(&of_models, "model=z", "[None, None]");
        check(&of_models[..1], "", "[Some(4.0)]");
        let tasks = "fits verdicts of several tasks (rates, sums); say which in the column `task`";
        check(&of_tasks, "model=x", tasks);
        check(&of_tasks, "task=rates", "[None, Some(4.0)]");
        let review =
            Labels { source: "review".to_owned(), ..labels(LabelKind::Acceptance, &[("", "0", 1.0)]) };
        let review = Labels { all: vec![Label { row: None, ..review.all[0].clone() }], ..review };
        let error = review.on(&verdicts(of_models)).unwrap_err().to_string();
        assert_eq!(
            error,
            "review: `0` fits verdicts of several models (x, y); report on those of one at a time"
        );
    }

    #[test]
    fn a_preference_is_read_from_its_side() {
        let between = |id: &str, one: &str, other: &str| {
            let mut pair = both(id, 5.0, 1.0);
            for verdict in &mut pair {
                (verdict.model, verdict.other_model) = (Some(one.to_owned()), Some(other.to_owned()));
            }
            pair
        };
        let all = [between("a", "x", "y"), between("b", "y", "x"), between("a", "x", "z")].concat();
        let check = |names: &str, id: &str, expected: Result<[Option<f64>; 3], &str>| {
            let found = labels(LabelKind::Preference, &[(names, id, 1.0)]).on(&verdicts(all.clone()));
            let found = found.map_err(|error| error.to_string());
            let found = found.map(|found| [0, 2, 4].map(|at| found.get(&Subject::of(&all[at]))));
            let expected = expected.map_err(|message| format!("labels.csv: row 1: `a` {message}"));
            assert_eq!(found, expected, "{names} {id}");
        };
        let others = "fits verdicts of several other models (y, z); say which in the column `other_model`";
        check("", "a", Err(others));
        check("model=x", "a", Err(others));
        check("other_model=y", "a", Ok([Some(1.0), None, None]));
        check("model=z", "a", Ok([None, None, Some(0.0)]));
        check("model=y other_model=x", "a", Ok([Some(0.0), None, None]));
        // Of all verdicts `x` comes first, though those on `b` begin with `y`.
        check("", "b", Ok([None, Some(0.0), None]));
        check("model=y", "b", Ok([None, Some(1.0), None]));
    }

    /// Two answers of one model to one prompt have ids of their own.
    #[test]
    fn answers_of_one_table_are_told_apart_by_both_ids() {
        let mut all = [both("a", 5.0, 1.0), both("a", 5.0, 1.0)].concat();
        for (verdict, other) in all.iter_mut().zip(["b", "b", "c", "c"]) {
            verdict.other_id = Some(other.to_owned());
            (verdict.model, verdict.other_model) = (None, None);
        }
        let on = |names: &str, id: &str| {
            let found = labels(LabelKind::Preference, &[(names, id, 1.0)]).on(&verdicts(all.clone()));
            found
                .map(|found| [0, 2].map(|at| found.get(&Subject::of(&all[at]))))
                .map_err(|error| error.to_string())
        };
        let error = "labels.csv: row 1: `a` fits verdicts of several other answers (b, c); say which in the column `other_id`";
        assert_eq!(on("", "a"), Err(error.to_owned()));
        assert_eq!(on("other_id=c", "a"), Ok([None, Some(1.0)]));
        assert_eq!(on("other_id=a", "b"), Ok([Some(0.0), None]));
    }

    #[test]
    fn people_are_averaged_and_samples_are_found_behind_ids() {
        let rows = [("", "a", 4.0), ("", "a", 5.0), ("", "b#2", 1.0), ("", "c", 2.0), ("", "c#1", 5.0)];
        let all = ["a", "b", "c", "d"].map(|id| single(id, "x", "sums", Some(3.0)));
        let found = labels(LabelKind::Score, &rows).on(&verdicts(all.clone())).unwrap();
        let found = all.map(|verdict| found.get(&Subject::of(&verdict)));
        assert_eq!(found, [Some(4.5), Some(1.0), Some(2.0), None]);
    }
}
