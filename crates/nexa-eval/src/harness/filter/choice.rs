//! The filter `multi_choice_regex`: the letter of a choice, its text, or a letter after a colon.

use std::sync::LazyLock;

use ::regex::Regex;
use nexa_core::table::Row;
use serde::Deserialize;
use serde_json::Value;

use crate::harness::filter::{INVALID, regex};
use crate::harness::python::{self, PythonRegex};

static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{P}").expect("the pattern is valid"));

/// What it is set to.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    regex_pattern: String,
    group_select: i64,
    fallback: String,
    ignore_case: bool,
    ignore_punctuation: bool,
    regexes_to_ignore: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            regex_pattern: r"#### (\-?[0-9\.\,]+)".to_owned(),
            group_select: 0,
            fallback: INVALID.to_owned(),
            ignore_case: false,
            ignore_punctuation: false,
            regexes_to_ignore: None,
        }
    }
}

/// Finds the choice that an answer names.
#[derive(Debug)]
pub(super) struct ChoiceRegex {
    regex: PythonRegex,
    select: i64,
    fallback: String,
    ignore_case: bool,
    ignore_punctuation: bool,
    ignored: Vec<PythonRegex>,
}

impl ChoiceRegex {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let ignored = settings.regexes_to_ignore.iter().flatten().map(|pattern| PythonRegex::new(pattern));
        Ok(Self {
            regex: PythonRegex::new(&settings.regex_pattern)?,
            select: settings.group_select,
            fallback: settings.fallback.clone(),
            ignore_case: settings.ignore_case,
            ignore_punctuation: settings.ignore_punctuation,
            ignored: ignored.collect::<Result<_, _>>()?,
        })
    }

    /// The letter in parentheses, or what the task's own pattern found.
    pub(super) fn apply(&self, text: &str, document: &Row) -> Result<String, String> {
        let Some(Value::Array(choices)) = document.get("choices") else {
            return Err("`multi_choice_regex` wants a list in the field `choices`".to_owned());
        };
        if let Some(found) = self.find(&self.regex, text)? {
            return Ok(found);
        }
        let letters: Vec<String> = ('A'..).take(choices.len()).map(String::from).collect();
        let mut texts = Vec::new();
        for choice in choices {
            texts.push(self.plain(python::strip(&python::text(choice)))?);
        }
        let by_text = PythonRegex::new(&texts.iter().map(|text| escape(text)).collect::<Vec<_>>().join("|"))?;
        if let Some(found) = self.find(&by_text, &self.plain(text)?)? {
            // Where two choices read the same, the last one's letter stands for both.
            let at = texts.iter().rposition(|text| *text == found);
            return Ok(at.map_or(found, |at| format!("({})", letters[at])));
        }
        let by_letter = PythonRegex::new(&format!(r":[\s]*({})", letters.join("|")))?;
        let found = self.find(&by_letter, text)?.filter(|found| !found.is_empty());
        Ok(found.map_or_else(|| self.fallback.clone(), |letter| format!("({letter})")))
    }

    fn find(&self, regex: &PythonRegex, text: &str) -> Result<Option<String>, String> {
        let found = regex::select(&regex.find_all(text)?, self.select)?;
        Ok(found.map(|found| python::strip(found).to_owned()).filter(|found| !found.is_empty()))
    }

    /// A text without what is ignored.
    fn plain(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for regex in &self.ignored {
            text = regex.replace(&text, "", 0)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text = PUNCTUATION.replace_all(&text, "").into_owned();
        }
        Ok(text)
    }
}

/// `re.escape`, as far as letters and digits matter.
fn escape(text: &str) -> String {
    let escape = |c: char| {
        let plain = c.is_alphanumeric() || matches!(c, '_' | ' ' | '\n' | '\t' | '<' | '>') || !c.is_ascii();
        if plain { String::from(c) } else { format!("\\{c}") }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: by hand from the rule: own pattern, then the text of a choice, then a letter after a colon.
    #[test]
    fn a_choice_is_found_by_letter_or_text() {
        let filter = |settings: Value| ChoiceRegex::new(&serde_json::from_value(settings).unwrap()).unwrap();
        let plain = filter(json!({"regex_pattern": r"(\([A-Z]\))"}));
        let document = json!({"choices": ["The cat.", "A dog", "Both"]});
        let check = |filter: &ChoiceRegex, text: &str, expected: &str| {
            assert_eq!(filter.apply(text, document.as_object().unwrap()).unwrap(), expected, "{text}");
        };
        check(&plain, "It is (B), I think", "(B)");
        check(&plain, "It must be A dog", "(B)");
        check(&plain, "answer: C", "(C)");
        check(&plain, "no idea", "[invalid]");
        check(&plain, "the cat", "[invalid]");
        let loose =
            filter(json!({"regex_pattern": r"(\([A-Z]\))", "ignore_case": true, "ignore_punctuation": true}));
        check(&loose, "the cat", "(A)");
        assert!(plain.apply("x", &Row::new()).is_err());
    }
}
