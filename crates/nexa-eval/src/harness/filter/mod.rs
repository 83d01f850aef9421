//! Filters: what is read out of answers before they are graded.
//!
//! A chain starts from the list of all answers to a document and ends, as a rule, with one text. Patterns are those of
//! Python's `re`.

mod choice;
mod regex;
mod span;

use std::collections::HashMap;

use nexa_core::table::Row;
use serde::Deserialize;
use serde_json::Value;

use crate::Result;
use crate::harness::python;
use crate::harness::spec::{FilterList, Spec};

use choice::ChoiceRegex;
use regex::RegexFilter;

/// The name of the chain where a task has none of its own.
pub(crate) const NONE: &str = "none";

/// What stands for an answer in which nothing was found.
const INVALID: &str = "[invalid]";

/// A chain of filters.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Its name.
    pub(crate) name: String,
    filters: Vec<Filter>,
}

#[derive(Debug)]
enum Filter {
    TakeFirst,
    TakeFirstK(usize),
    MajorityVote,
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { by: HashMap<String, Value>, default: Value },
    Regex(RegexFilter),
    MultiChoiceRegex(ChoiceRegex),
    PartsOfSpeech { fallback: Value },
    FormatSpan,
}

impl Chain {
    /// The chains of a task; one that takes the first answer where it has none.
    ///
    /// # Errors
    /// Fails with task and filter where one is unknown, wrongly set, or of Python.
    pub(crate) fn of(spec: &Spec) -> Result<Vec<Self>> {
        let Some(lists) = &spec.filter_list else {
            return Ok(vec![Self { name: NONE.to_owned(), filters: vec![Filter::TakeFirst] }]);
        };
        lists.iter().map(|list| Self::new(list).map_err(|error| spec.error("filter_list", error))).collect()
    }

    fn new(list: &FilterList) -> Result<Self, String> {
        let named = |error: String| format!("`{}`: {error}", list.name);
        let filters = list.filter.iter().map(Filter::new).collect::<Result<_, _>>().map_err(named)?;
        Ok(Self { name: list.name.clone(), filters })
    }

    /// Whether it does nothing but take the first answer, which is all that can be done to probabilities.
    pub(crate) fn takes_first_only(&self) -> bool {
        self.filters.iter().all(|filter| matches!(filter, Filter::TakeFirst))
    }

    /// Filters all answers to a document.
    ///
    /// # Errors
    /// Says which filter failed, and why.
    pub(crate) fn apply(&self, answers: &[String], document: &Row) -> Result<Value, String> {
        let mut value = Value::Array(answers.iter().map(|answer| Value::from(answer.as_str())).collect());
        for filter in &self.filters {
            value =
                filter.apply(value, document).map_err(|error| format!("filter `{}`: {error}", self.name))?;
        }
        Ok(value)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeFirstK {
    k: usize,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct MapSettings {
    mapping_dict: serde_json::Map<String, Value>,
    default_value: Value,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Fallback {
    #[serde(rename = "regex_pattern")]
    _regex_pattern: Option<String>,
    #[serde(rename = "group_select")]
    _group_select: Option<i64>,
    fallback: Option<Value>,
}

impl Filter {
    fn new(value: &Value) -> Result<Self, String> {
        let mut settings = value.as_object().cloned().ok_or_else(|| format!("{value} has no `function`"))?;
        let function = settings.remove("function").and_then(|name| name.as_str().map(str::to_owned));
        let function = function.ok_or_else(|| format!("{value} has no `function`"))?;
        let bare = |filter: Self, settings| read::<Bare>(&function, settings).map(|_| filter);
        match function.as_str() {
            "take_first" => bare(Self::TakeFirst, settings),
            "majority_vote" => bare(Self::MajorityVote, settings),
            "remove_whitespace" => bare(Self::RemoveWhitespace, settings),
            "lowercase" => bare(Self::Lowercase, settings),
            "uppercase" => bare(Self::Uppercase, settings),
            "format_span" => bare(Self::FormatSpan, settings),
            "take_first_k" => read::<TakeFirstK>(&function, settings).map(|set| Self::TakeFirstK(set.k)),
            "map" => {
                let set: MapSettings = read(&function, settings)?;
                Ok(Self::Map { by: set.mapping_dict.into_iter().collect(), default: set.default_value })
            }
            "regex" => RegexFilter::new(&read(&function, settings)?).map(Self::Regex),
            "multi_choice_regex" => ChoiceRegex::new(&read(&function, settings)?).map(Self::MultiChoiceRegex),
            "regex_pos" => {
                let set: Fallback = read(&function, settings)?;
                let fallback = set.fallback.unwrap_or_else(|| Value::from(vec!["invalid"]));
                Ok(Self::PartsOfSpeech { fallback })
            }
            "custom" | "decontaminate" => Err(format!("`{function}` needs Python")),
            _ => {
                let nearest = nexa_core::config::nearest(&function, FUNCTIONS);
                let hint = nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
                Err(format!("there is no filter `{function}`{hint}"))
            }
        }
    }

    fn apply(&self, value: Value, document: &Row) -> Result<Value, String> {
        let Value::Array(answers) = value else {
            return Err("an earlier filter has left one answer, and this one wants a list".to_owned());
        };
        match self {
            Self::TakeFirst => {
                answers.into_iter().next().ok_or_else(|| "there is no answer to take".to_owned())
            }
            Self::TakeFirstK(k) if answers.len() < *k => {
                Err(format!("{k} answers are wanted of {}: raise `repeats`", answers.len()))
            }
            Self::TakeFirstK(k) => Ok(Value::Array(answers.into_iter().take(*k).collect())),
            Self::MajorityVote => Ok(Value::Array(majority(answers).into_iter().collect())),
            other => answers
                .iter()
                .map(|answer| other.one(answer, document))
                .collect::<Result<_, _>>()
                .map(Value::Array),
        }
    }

    /// Filters one answer.
    fn one(&self, answer: &Value, document: &Row) -> Result<Value, String> {
        let text = answer.as_str().unwrap_or_default();
        Ok(match self {
            Self::RemoveWhitespace => python::strip(text).into(),
            Self::Lowercase => text.to_lowercase().into(),
            Self::Uppercase => text.to_uppercase().into(),
            Self::Map { by, default } => by.get(&python::text(answer)).unwrap_or(default).clone(),
            Self::Regex(regex) => regex.apply(text)?.into(),
            Self::MultiChoiceRegex(regex) => regex.apply(text, document)?.into(),
            Self::PartsOfSpeech { fallback } => {
                span::parts_of_speech(text).unwrap_or_else(|| fallback.clone())
            }
            Self::FormatSpan => span::format(text)?.into(),
            Self::TakeFirst | Self::TakeFirstK(_) | Self::MajorityVote => answer.clone(),
        })
    }
}

/// Every filter that there is.
const FUNCTIONS: [&str; 11] = [
    "take_first",
    "take_first_k",
    "majority_vote",
    "remove_whitespace",
    "lowercase",
    "uppercase",
    "map",
    "regex",
    "multi_choice_regex",
    "regex_pos",
    "format_span",
];

fn read<T: serde::de::DeserializeOwned>(function: &str, settings: Row) -> Result<T, String> {
    nexa_core::config::from_value(Value::Object(settings), &format!("filter `{function}`"))
        .map_err(|error| error.to_string())
}

/// The answer that is there most often; of several such, the one that came first.
fn majority(answers: Vec<Value>) -> Option<Value> {
    let mut counts: Vec<(Value, usize)> = Vec::new();
    for answer in answers {
        match counts.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, count)) => *count += 1,
            None => counts.push((answer, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(answer, _)| answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(filters: Value, answers: &[&str], document: Value) -> Result<Value, String> {
        let Value::Array(filter) = filters else { unreachable!("filters are a list") };
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let document = document.as_object().cloned().unwrap_or_default();
        Chain::new(&FilterList { name: "x".to_owned(), filter })?.apply(&answers, &document)
    }

    /// Expected: the filters of lm-evaluation-harness 0.4.13.dev0 on the same answers.
    #[test]
    fn chains_filter_as_the_harness_does() {
        let check = |filters: Value, answers: &[&str], expected: Value| {
            assert_eq!(apply(filters.clone(), answers, json!({})), Ok(expected), "{filters}");
        };
        let strict = json!([{"function": "regex", "regex_pattern": r"#### (\-?[0-9\.\,]+)"}, {"function": "take_first"}]);
        check(strict.clone(), &["a\n#### 1,234."], json!("1,234."));
        check(strict, &["none"], json!("[invalid]"));
        let flexible = json!([
            {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
            {"function": "take_first"}
        ]);
        check(flexible.clone(), &["It costs 12 or 7"], json!("7"));
        check(flexible.clone(), &["I have 5 apples, ok..."], json!("..."));
        check(flexible, &[""], json!("[invalid]"));
        let vote = json!([
            {"function": "lowercase"}, {"function": "remove_whitespace"}, {"function": "majority_vote"},
            {"function": "take_first"}
        ]);
        check(vote, &["B ", "a", "b", "A", "c"], json!("b"));
        check(json!([{"function": "take_first_k", "k": 2}]), &["a", "b", "c"], json!(["a", "b"]));
        let map = json!([{"function": "map", "mapping_dict": {"A": 1}, "default_value": -1}, {"function": "take_first"}]);
        check(map.clone(), &["A"], json!(1));
        check(map, &["Z"], json!(-1));
        check(json!([{"function": "uppercase"}, {"function": "take_first"}]), &["straße"], json!("STRASSE"));
    }

    #[test]
    fn a_bad_filter_is_named() {
        let check = |filters: Value, expected: &str| {
            let error = apply(filters, &["a"], json!({})).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(json!([{"function": "custom", "filter_fn": "f"}]), "`x`: `custom` needs Python");
        check(json!([{"function": "take_frist"}]), "did you mean `take_first`?");
        check(json!([{"function": "regex", "regex_pattern": "(a"}]), "pattern `(a`");
        check(json!([{"function": "regex", "patern": "a"}]), "unknown key `patern`");
        check(json!([{"function": "take_first_k", "k": 2}]), "2 answers are wanted of 1: raise `repeats`");
        check(
            json!([{"function": "take_first"}, {"function": "lowercase"}]),
            "an earlier filter has left one answer",
        );
    }
}
