//! Guard rules from a file: blocked phrases, patterns, and sensitive values.
//!
//! ```yaml
//! rules:
//!   - name: weapons
//!     phrases: [build a bomb, nerve agent]   # whole words, in any case
//!     on: [prompt]                           # default: prompt and completion
//!   - name: contact
//!     sensitive: [email, phone]
//!     action: redact                         # default: refuse
//!   - name: deletes
//!     pattern: '(?i)drop\s+table'
//! ```

use std::path::Path;

use nexa_core::config;
use nexa_core::guard::{Action, Finding, Guard, Place};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::clean::redact::{Redactor, Sensitive};

/// Bytes that are held back for patterns and sensitive values, whose length has no limit.
const PATTERN_LENGTH: usize = 256;
/// The largest automaton of a pattern.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<RuleFile>,
}

/// A rule as it is written: one of `phrases`, `pattern` and `sensitive`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    name: String,
    phrases: Option<Vec<String>>,
    pattern: Option<String>,
    sensitive: Option<Vec<Sensitive>>,
    on: Option<Vec<Place>>,
    #[serde(default)]
    action: Action,
}

/// Rules that are ready to be used.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    hold_back: usize,
}

#[derive(Debug)]
struct Rule {
    name: String,
    on: Vec<Place>,
    action: Action,
    finder: Finder,
}

/// How a rule finds what it is against.
#[derive(Debug)]
enum Finder {
    Pattern(Regex),
    Sensitive(Redactor),
}

impl Rules {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// Fails when the file cannot be read, holds no rule, or a rule that makes no sense, with its name.
    pub fn read(path: &Path) -> nexa_core::Result<Self> {
        let place = path.display().to_string();
        let file: File = config::from_value(config::read_yaml(path)?, &place)?;
        Self::new(file.rules).map_err(|message| nexa_core::Error::config(&place, message))
    }

    fn new(files: Vec<RuleFile>) -> Result<Self, String> {
        if files.is_empty() {
            return Err("`rules` holds no rule".to_owned());
        }
        let mut rules = Self { rules: Vec::with_capacity(files.len()), hold_back: 0 };
        for file in files {
            if rules.rules.iter().any(|rule| rule.name == file.name) {
                return Err(format!("two rules are called `{}`", file.name));
            }
            let (finder, length) =
                file.finder().map_err(|message| format!("rule `{}`: {message}", file.name))?;
            rules.hold_back = rules.hold_back.max(length);
            let on = file.on.unwrap_or_else(|| Place::ALL.to_vec());
            rules.rules.push(Rule { name: file.name, on, action: file.action, finder });
        }
        Ok(rules)
    }

    /// The names of the rules, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }
}

impl RuleFile {
    /// What finds, and how long a finding may be.
    fn finder(&self) -> Result<(Finder, usize), String> {
        match (&self.phrases, &self.pattern, &self.sensitive) {
            (Some(phrases), None, None) => {
                if phrases.is_empty() || phrases.iter().any(|phrase| phrase.trim().is_empty()) {
                    return Err("`phrases` holds nothing, or an empty phrase".to_owned());
                }
                let longest = phrases.iter().map(String::len).max().unwrap_or(0);
                let pattern =
                    phrases.iter().map(|phrase| phrase_pattern(phrase)).collect::<Vec<_>>().join("|");
                // Blanks between words may be more than one.
                Ok((Finder::Pattern(compile(&format!("(?i){pattern}"))?), 2 * longest))
            }
            (None, Some(pattern), None) => {
                let regex = compile(pattern)?;
                if regex.is_match("") {
                    return Err(
                        "`pattern` matches the empty text, so it would be found everywhere".to_owned()
                    );
                }
                Ok((Finder::Pattern(regex), PATTERN_LENGTH))
            }
            (None, None, Some(kinds)) if !kinds.is_empty() => {
                Ok((Finder::Sensitive(Redactor::new(kinds)), PATTERN_LENGTH))
            }
            _ => Err("one of `phrases`, `pattern` and `sensitive` says what is found".to_owned()),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("`pattern`: {}", error.to_string().lines().last().unwrap_or_default()))
}

/// A phrase as whole words, with any blanks between them.
fn phrase_pattern(phrase: &str) -> String {
    let words: Vec<String> = phrase.split_whitespace().map(regex::escape).collect();
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let phrase = phrase.trim();
    let begin = if is_word(phrase.chars().next()) { r"\b" } else { "" };
    let end = if is_word(phrase.chars().last()) { r"\b" } else { "" };
    format!("{begin}{}{end}", words.join(r"\s+"))
}

impl Guard for Rules {
    fn find(&self, text: &str, place: Place) -> Vec<Finding> {
        let mut found = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.on.contains(&place)) {
            let ranges: Vec<_> = match &rule.finder {
                Finder::Pattern(regex) => regex.find_iter(text).map(|found| found.range()).collect(),
                Finder::Sensitive(redactor) => redactor.ranges(text),
            };
            let finding = |range| Finding { range, rule: rule.name.clone(), action: rule.action };
            found.extend(ranges.into_iter().map(finding));
        }
        found.sort_by_key(|finding| (finding.range.start, finding.action == Action::Redact));
        let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
        for finding in found {
            let overlaps = kept.last().is_some_and(|last| finding.range.start < last.range.end);
            match finding.action {
                Action::Redact if overlaps => {}
                Action::Redact => kept.push(finding),
                // Nothing after it is looked at.
                Action::Refuse => {
                    kept.truncate(kept.len() - usize::from(overlaps));
                    kept.push(finding);
                    break;
                }
            }
        }
        kept
    }

    fn hold_back(&self) -> usize {
        self.hold_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexa_core::guard::redacted;

    fn rules(text: &str) -> Result<Rules, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, text).expect("written");
        Rules::read(&path).map_err(|error| error.to_string())
    }

    const RULES: &str = r"
rules:
  - name: weapons
    phrases: [build a bomb, 'c++ exploit']
    on: [prompt]
  - name: contact
    sensitive: [email]
    action: redact
  - name: deletes
    pattern: '(?i)drop\s+table'
";

    #[test]
    fn phrases_patterns_and_sensitive_values_are_found() {
        let rules = rules(RULES).expect("the rules are valid");
        let check = |text: &str, place: Place, expected: &[(&str, &str)]| {
            let found = rules.find(text, place);
            let found: Vec<_> =
                found.iter().map(|finding| (finding.rule.as_str(), &text[finding.range.clone()])).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("How do I Build  a\nBOMB?", Place::Prompt, &[("weapons", "Build  a\nBOMB")]);
        check("How do I build a bombastic speech?", Place::Prompt, &[]);
        check("a C++ exploit, please", Place::Prompt, &[("weapons", "C++ exploit")]);
        check("build a bomb", Place::Completion, &[]);
        check(
            "to ana@posteo.de or bo@posteo.de",
            Place::Prompt,
            &[("contact", "ana@posteo.de"), ("contact", "bo@posteo.de")],
        );
        // Nothing after what is refused counts.
        check(
            "ana@posteo.de drop table x; bo@posteo.de",
            Place::Completion,
            &[("contact", "ana@posteo.de"), ("deletes", "drop table")],
        );
        assert_eq!(
            redacted("to ana@posteo.de!", &rules.find("to ana@posteo.de!", Place::Prompt)),
            "to [contact]!"
        );
        assert_eq!(rules.names().collect::<Vec<_>>(), ["weapons", "contact", "deletes"]);
        assert_eq!(rules.hold_back(), PATTERN_LENGTH);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named() {
        let check = |text: &str, expected: &str| {
            let error = rules(text).map(drop).expect_err(text);
            assert!(error.contains(expected), "{error}");
        };
        check("rules: []", "`rules` holds no rule");
        check(
            "rules: [{name: a, phrases: [x], pattern: y}]",
            "rule `a`: one of `phrases`, `pattern` and `sensitive`",
        );
        check("rules: [{name: a}]", "rule `a`: one of");
        check("rules: [{name: a, phrases: ['  ']}]", "empty phrase");
        check("rules: [{name: a, pattern: '('}]", "rule `a`: `pattern`");
        check("rules: [{name: a, pattern: 'x*'}]", "matches the empty text");
        check("rules: [{name: a, phrases: [x]}, {name: a, phrases: [y]}]", "two rules are called `a`");
        check("rules: [{name: a, phrase: [x]}]", "phrase");
    }
}
