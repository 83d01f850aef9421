//! How well guard rules tell what should be blocked from what should not.
//!
//! The rows are labelled texts, in the layout of XSTest among others: `text` or `prompt`, and `label`.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::guard::{Guard, Place};
use nexa_core::table::{Row, Tables};
use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::statistics::{Estimate, proportion};

/// Columns that hold the text, in the order in which they are looked for.
const TEXTS: [&str; 2] = ["text", "prompt"];
const LABEL: &str = "label";
const PLACE: &str = "place";
/// Labels of what should be blocked, and of what should not.
const BLOCKED: [&str; 3] = ["unsafe", "block", "blocked"];
const ALLOWED: [&str; 3] = ["safe", "allow", "allowed"];

/// A text of which it is known whether it should be blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The text.
    pub text: String,
    /// Where it would stand.
    pub place: Place,
    /// Whether rules should be against it.
    pub is_blocked: bool,
}

/// What rules did on labelled texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardReport {
    /// The share of what should be blocked that a rule found.
    pub recall: Option<Estimate>,
    /// The share of what should not be blocked that a rule found all the same: over-refusal.
    pub false_positive_rate: Option<Estimate>,
    /// The share of what rules found that should be blocked.
    pub precision: Option<Estimate>,
    /// What each rule found.
    pub rules: BTreeMap<String, RuleCounts>,
    /// What should have been blocked, by rows that count from 1.
    pub missed: Vec<usize>,
    /// What should not have been blocked.
    pub false_positives: Vec<usize>,
}

/// Texts in which a rule found something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Those that should be blocked.
    pub right: usize,
    /// Those that should not.
    pub wrong: usize,
}

/// Reads labelled texts.
///
/// # Errors
/// Names file and row where there is no text, or a label that says nothing.
pub fn read(tables: &dyn Tables, path: &Path) -> Result<Vec<Labelled>> {
    let rows = tables.read(path)?;
    let labelled = rows.iter().enumerate().map(|(at, row)| {
        labelled(row)
            .map_err(|message| nexa_core::Error::malformed(path, format!("row {}: {message}", at + 1)))
    });
    let labelled = labelled.collect::<nexa_core::Result<Vec<_>>>()?;
    if labelled.is_empty() {
        return Err(nexa_core::Error::malformed(path, "there is no row").into());
    }
    Ok(labelled)
}

fn labelled(row: &Row) -> std::result::Result<Labelled, String> {
    let text = TEXTS.into_iter().find_map(|column| row.get(column).and_then(Value::as_str));
    let text = text.ok_or_else(|| format!("neither `{}` nor `{}` holds a text", TEXTS[0], TEXTS[1]))?;
    let label = match row.get(LABEL) {
        Some(Value::Bool(is_blocked)) => Some(*is_blocked),
        Some(Value::String(label)) => {
            let label = label.to_lowercase();
            let is_blocked = BLOCKED.contains(&label.as_str());
            (is_blocked || ALLOWED.contains(&label.as_str())).then_some(is_blocked)
        }
        _ => None,
    };
    let is_blocked = label
        .ok_or_else(|| format!("`{LABEL}` is none of {}, {}", BLOCKED.join(", "), ALLOWED.join(", ")))?;
    let place = match row.get(PLACE).and_then(Value::as_str) {
        None => Place::Prompt,
        Some(word) => Place::ALL
            .into_iter()
            .find(|place| place.as_str() == word)
            .ok_or_else(|| format!("`{PLACE}` is `{word}`, not `prompt` or `completion`"))?,
    };
    Ok(Labelled { text: text.to_owned(), place, is_blocked })
}

/// Holds texts against rules.
pub fn measure(guard: &dyn Guard, texts: &[Labelled]) -> GuardReport {
    let mut rules: BTreeMap<String, RuleCounts> = BTreeMap::new();
    let (mut caught, mut alarms, mut right) = (Vec::new(), Vec::new(), Vec::new());
    let (mut missed, mut false_positives) = (Vec::new(), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        let mut found: Vec<String> =
            guard.find(&text.text, text.place).into_iter().map(|finding| finding.rule).collect();
        found.sort();
        found.dedup();
        let is_found = !found.is_empty();
        for rule in found {
            let counts = rules.entry(rule).or_default();
            *(if text.is_blocked { &mut counts.right } else { &mut counts.wrong }) += 1;
        }
        if is_found {
            right.push(text.is_blocked);
        }
        if text.is_blocked {
            caught.push(is_found);
            missed.extend((!is_found).then_some(at + 1));
        } else {
            alarms.push(is_found);
            false_positives.extend(is_found.then_some(at + 1));
        }
    }
    GuardReport {
        recall: proportion(&caught),
        false_positive_rate: proportion(&alarms),
        precision: proportion(&right),
        rules,
        missed,
        false_positives,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexa_core::guard::{Action, Finding};
    use nexa_core::table::JsonLines;

    /// Is against `knife` in prompts.
    #[derive(Debug)]
    struct Knives;

    impl Guard for Knives {
        fn find(&self, text: &str, place: Place) -> Vec<Finding> {
            let places = text.match_indices("knife").filter(|_| place == Place::Prompt);
            let finding = |(at, word): (usize, &str)| Finding {
                range: at..at + word.len(),
                rule: "knives".to_owned(),
                action: Action::Refuse,
            };
            places.map(finding).collect()
        }

        fn hold_back(&self) -> usize {
            5
        }
    }

    fn read_lines(lines: &str) -> std::result::Result<Vec<Labelled>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, lines).unwrap();
        read(&JsonLines, &path).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_right_or_wrong_on_labelled_texts() {
        let rows = read_lines(
            r#"{"prompt": "stab with a knife, any knife", "label": "unsafe"}
{"prompt": "hurt someone", "label": "unsafe"}
{"prompt": "which knife for bread?", "label": "safe"}
{"prompt": "bake bread", "label": "Safe"}
{"text": "a knife", "label": false, "place": "completion"}
"#,
        )
        .unwrap();
        let report = measure(&Knives, &rows);
        let value = |estimate: Option<Estimate>| estimate.map(|estimate| (estimate.value, estimate.n));
        assert_eq!(value(report.recall), Some((0.5, 2)));
        assert_eq!(value(report.false_positive_rate), Some((1.0 / 3.0, 3)));
        assert_eq!(value(report.precision), Some((0.5, 2)));
        assert_eq!((report.missed, report.false_positives), (vec![2], vec![3]));
        assert_eq!(report.rules["knives"], RuleCounts { right: 1, wrong: 1 });
    }

    #[test]
    fn rows_that_say_nothing_are_named() {
        let check = |lines: &str, expected: &str| {
            let error = read_lines(lines).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", "there is no row");
        check(r#"{"label": "safe"}"#, "row 1: neither `text` nor `prompt`");
        check(r#"{"text": "x", "label": "perhaps"}"#, "row 1: `label` is none of unsafe");
        check(r#"{"text": "x", "label": "safe", "place": "middle"}"#, "row 1: `place` is `middle`");
    }
}
