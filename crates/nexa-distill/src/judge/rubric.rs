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

use std::path::Path;

use nexa_core::config;
use serde::{Deserialize, Serialize};

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

impl Rubric {
    /// Reads a rubric's file.
    ///
    /// # Errors
    /// Fails with the file, and the key or the criterion that cannot be used.
    pub fn read(file: &Path) -> Result<Self> {
        let place = file.display().to_string();
        let rubric: Self = config::from_value(config::read_yaml(file)?, &place)?;
        rubric.check().map_err(|message| Error::BadRubric { place, message })?;
        Ok(rubric)
    }

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

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
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
        Rubric::read(&file)
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
}
