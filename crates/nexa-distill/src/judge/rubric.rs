//! Rubrics: what judges are to look at.
//!
//! ```yaml
//! name: tutoring
//! criteria:                    # each is scored from 1 to 5 by what its level says
//!   - name: correctness
//!     question: Is every step right?
//!     weight: 2
//!     levels: [wrong throughout, …, right throughout]
//! checklist:                   # or this: each is true or not
//!   - {name: unit, text: The answer names its unit., weight: 1}
//! ```
//!
//! The form of BiGGen-Bench is read as well: `criteria` as one text with `score1_description` to `score5_description`, for
//! all items, or in a list of objects with an `id` and a `score_rubric`, each for its item.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::config;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// What is judged: by criteria or by a checklist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// Its name, for records.
    name: String,
    /// What a judge must know besides. Default: nothing.
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    criteria: Vec<Criterion>,
    #[serde(default)]
    checklist: Vec<Item>,
}

/// Something that is scored from 1 to 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its name, a word.
    pub name: String,
    /// What is asked.
    pub question: String,
    /// What each score means, from 1 to 5.
    pub levels: Vec<String>,
    /// How much it counts. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Something that holds or does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its name, a word.
    pub name: String,
    /// What must hold.
    pub text: String,
    /// How much it counts. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// How many levels a criterion has.
pub(super) const LEVELS: usize = 5;

/// One rubric for all items, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rubrics {
    /// The same for all.
    Shared(Rubric),
    /// By the ids of items.
    ById {
        /// Their name, for records.
        name: String,
        /// The rubrics.
        by_id: BTreeMap<String, Rubric>,
    },
}

/// A rubric as BiGGen-Bench writes it.
#[derive(Debug, Clone, Deserialize)]
struct Described {
    criteria: String,
    score1_description: String,
    score2_description: String,
    score3_description: String,
    score4_description: String,
    score5_description: String,
}

impl Described {
    /// The criterion of such a rubric has no name of its own.
    const CRITERION: &'static str = "score";

    fn rubric(self, name: &str) -> Rubric {
        let levels = vec![
            self.score1_description,
            self.score2_description,
            self.score3_description,
            self.score4_description,
            self.score5_description,
        ];
        let name_of_criterion = Self::CRITERION.to_owned();
        let criterion = Criterion { name: name_of_criterion, question: self.criteria, levels, weight: one() };
        Rubric { name: name.to_owned(), context: None, criteria: vec![criterion], checklist: Vec::new() }
    }
}

impl Rubrics {
    /// Reads a file of rubrics.
    ///
    /// # Errors
    /// Fails with the file, and the key, the item or the criterion that cannot be used.
    pub fn read(file: &Path) -> Result<Self> {
        let place = file.display().to_string();
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let rubrics = Self::of(config::read_yaml(file)?, &name, &place)?;
        rubrics.check().map_err(|message| Error::BadRubric { place, message })?;
        Ok(rubrics)
    }

    fn of(value: Value, name: &str, place: &str) -> Result<Self> {
        let is_described = |value: &Value| value.get("criteria").is_some_and(Value::is_string);
        let described = |value: Value, place: &str| -> Result<Rubric> {
            Ok(config::from_value::<Described>(value, place)?.rubric(name))
        };
        if is_described(&value) {
            return Ok(Self::Shared(described(value, place)?));
        }
        let Value::Array(items) = value else {
            return Ok(Self::Shared(config::from_value(value, place)?));
        };
        let mut by_id = BTreeMap::new();
        for (position, mut item) in items.into_iter().enumerate() {
            let bad = |message: &str| Error::BadRubric {
                place: place.to_owned(),
                message: format!("item {}: {message}", position + 1),
            };
            let id = item.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            let id = id.ok_or_else(|| bad("it has no `id`"))?;
            let rubric = item.get_mut("score_rubric").map(Value::take);
            let rubric = rubric.ok_or_else(|| bad("it has no `score_rubric`"))?;
            let rubric = described(rubric, &format!("{place}: item {}", position + 1))?;
            if by_id.insert(id.clone(), rubric).is_some() {
                return Err(bad(&format!("`id` is `{id}`, as that of another one is")));
            }
        }
        Ok(Self::ById { name: name.to_owned(), by_id })
    }

    /// Says what cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Shared(rubric) => rubric.check(),
            Self::ById { by_id, .. } if by_id.is_empty() => Err("it holds no rubric".to_owned()),
            Self::ById { by_id, .. } => by_id.values().try_for_each(Rubric::check),
        }
    }

    /// Their name.
    pub fn name(&self) -> &str {
        match self {
            Self::Shared(rubric) => &rubric.name,
            Self::ById { name, .. } => name,
        }
    }

    /// The rubric of an item, if it has one.
    pub(super) fn get(&self, id: &str) -> Option<&Rubric> {
        match self {
            Self::Shared(rubric) => Some(rubric),
            Self::ById { by_id, .. } => by_id.get(id),
        }
    }

    /// A rubric with the parts that all of them have.
    pub(super) fn any(&self) -> Option<&Rubric> {
        match self {
            Self::Shared(rubric) => Some(rubric),
            Self::ById { by_id, .. } => by_id.values().next(),
        }
    }
}

impl Rubric {
    fn check(&self) -> Result<(), String> {
        if self.criteria.is_empty() == self.checklist.is_empty() {
            return Err("it needs either `criteria` or a `checklist`".to_owned());
        }
        for (position, criterion) in self.criteria.iter().enumerate() {
            let levels = criterion.levels.len();
            if levels != LEVELS {
                return Err(format!("`criteria[{position}].levels` has {levels} texts, not {LEVELS}"));
            }
        }
        let list = if self.criteria.is_empty() { "checklist" } else { "criteria" };
        let parts = self.parts();
        for (position, (name, weight)) in parts.iter().enumerate() {
            let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !is_word {
                return Err(format!("`{list}[{position}].name` is `{name}`, but it must be one word"));
            }
            if parts[..position].iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("`{list}[{position}].name` is `{name}`, as another one is"));
            }
            if !weight.is_finite() || *weight <= 0.0 {
                return Err(format!("`{list}[{position}].weight` is {weight}, but a weight is above 0"));
            }
        }
        Ok(())
    }

    /// What a judge must know besides.
    pub(super) fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What is scored; empty where there is a checklist.
    pub(super) fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// What is ticked off; empty where there are criteria.
    pub(super) fn checklist(&self) -> &[Item] {
        &self.checklist
    }

    /// Names and weights of what it consists of.
    pub(super) fn parts(&self) -> Vec<(&str, f64)> {
        let criteria = self.criteria.iter().map(|criterion| (criterion.name.as_str(), criterion.weight));
        criteria.chain(self.checklist.iter().map(|item| (item.name.as_str(), item.weight))).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const CRITERIA: &str = "\
name: tutoring
criteria:
  - {name: correctness, question: Is it right?, weight: 3, levels: [a, b, c, d, e]}
  - {name: clarity, question: Is it clear?, levels: [a, b, c, d, e]}
";
    pub(in super::super) const CHECKLIST: &str = "\
name: form
checklist:
  - {name: unit, text: It names the unit.}
  - {name: steps, text: It shows steps., weight: 3}
";

    pub(in super::super) fn rubric(text: &str) -> Result<Rubric> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rubric.yaml");
        std::fs::write(&file, text).unwrap();
        match Rubrics::read(&file)? {
            Rubrics::Shared(rubric) => Ok(rubric),
            Rubrics::ById { .. } => panic!("one rubric was written"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_rubric_is_named_with_its_place() {
        let check = |text: &str, expected: &str| {
            let error = rubric(text).unwrap_err().to_string();
            assert!(
                error.contains("rubric.yaml") && error.contains(expected) && !error.contains('\n'),
                "{error}"
            );
        };
        check("name: a", "either `criteria` or a `checklist`");
        check(&format!("{CRITERIA}checklist: [{{name: a, text: b}}]"), "either `criteria` or a `checklist`");
        check(
            "name: a\ncriteria: [{name: b, question: c, levels: [d, e]}]",
            "`criteria[0].levels` has 2 texts, not 5",
        );
        check("name: a\nchecklist: [{name: b c, text: d}]", "`checklist[0].name` is `b c`");
        check("name: a\nchecklist: [{name: b, text: d}, {name: b, text: e}]", "`checklist[1].name` is `b`");
        check("name: a\nchecklist: [{name: b, text: d, weight: 0}]", "`checklist[0].weight` is 0");
        check("name: a\nchecklist: [{nam: b, text: d}]", "nam");
        check("criteria: []", "name");
        check("name: [", "line");
    }

    #[test]
    fn a_rubric_in_the_form_of_biggen_bench_is_for_all_items_or_for_each() {
        let described = |what: &str| {
            let levels: Vec<String> =
                (1..=5).map(|level| format!("\"score{level}_description\": \"{what} {level}\"")).collect();
            format!("{{\"criteria\": \"{what}?\", {}}}", levels.join(", "))
        };
        let shared = rubric(&described("grounded")).unwrap();
        assert_eq!(shared.criteria[0].levels[4], "grounded 5");
        assert_eq!((shared.name.as_str(), shared.criteria[0].question.as_str()), ("rubric", "grounded?"));

        let read = |text: &str| Rubrics::of(config::parse_yaml(text, "t").unwrap(), "t", "t.json");
        let item =
            |id: &str| format!("{{\"id\": {id}, \"input\": \"q\", \"score_rubric\": {}}}", described("safe"));
        let each = read(&format!("[{}, {}]", item("\"a\""), item("7"))).unwrap();
        assert!(each.get("a").is_some() && each.get("7").is_some() && each.get("b").is_none());
        let check = |text: String, expected: &str| {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains("t.json") && error.contains(expected), "{error}");
        };
        check(format!("[{}, {}]", item("a"), item("a")), "item 2: `id` is `a`");
        check("[{id: a}]".to_owned(), "item 1: it has no `score_rubric`");
        check("[{id: a, score_rubric: {criteria: b}}]".to_owned(), "score1_description");
    }
}
