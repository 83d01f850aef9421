//! The filter `regex`.

use serde::Deserialize;

use crate::harness::filter::INVALID;
use crate::harness::python::{self, PythonRegex};

/// What it is set to.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    regex_pattern: String,
    /// Which match counts; negative from the last.
    group_select: i64,
    fallback: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            regex_pattern: r"#### (\-?[0-9\.\,]+)".to_owned(),
            group_select: 0,
            fallback: INVALID.to_owned(),
        }
    }
}

/// Keeps one match of a pattern: its first group that is not empty, without blanks around it.
#[derive(Debug)]
pub(super) struct RegexFilter {
    regex: PythonRegex,
    select: i64,
    fallback: String,
}

impl RegexFilter {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let regex = PythonRegex::new(&settings.regex_pattern)?;
        Ok(Self { regex, select: settings.group_select, fallback: settings.fallback.clone() })
    }

    pub(super) fn apply(&self, text: &str) -> Result<String, String> {
        let found = select(&self.regex.find_all(text)?, self.select)?;
        Ok(found.map_or_else(|| self.fallback.clone(), |found| python::strip(found).to_owned()))
    }
}

/// The match that counts. One without groups counts even where it is empty; of several groups one must not be.
pub(super) fn select<'t>(matches: &[Vec<&'t str>], select: i64) -> Result<Option<&'t str>, String> {
    if matches.is_empty() {
        return Ok(None);
    }
    let count = i64::try_from(matches.len()).unwrap_or(i64::MAX);
    let at = if select < 0 { count + select } else { select };
    let chosen = usize::try_from(at).ok().and_then(|at| matches.get(at));
    let chosen = chosen.ok_or_else(|| format!("`group_select`: there is no match {select} of {count}"))?;
    Ok(match chosen.as_slice() {
        [only] => Some(only),
        groups => groups.iter().copied().find(|group| !group.is_empty()),
    })
}
