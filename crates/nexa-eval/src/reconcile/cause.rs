//! The first thing in which two items differ, on the way from document to number.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prompt::{self, Beginnings};
use super::samples::{Asked, Item};

/// Log-likelihoods that are nearer than this, and a share of their size, differ by rounding: other number formats, other
/// kernels, other batches.
const NOISE_NATS: f64 = 0.05;
const NOISE_SHARE: f64 = 0.01;

/// Numbers that are nearer than this are equal.
const EQUAL: f64 = 1e-6;

/// Why two items differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Only one side has the document.
    Documents,
    /// One prompt begins with the text of a token that begins texts.
    BeginningOfText,
    /// A blank at the end of the context or the beginning of what follows.
    Delimiter,
    /// Other white space in the prompt.
    WhiteSpace,
    /// The chat template was applied on one side, or another one.
    ChatTemplate,
    /// Other numbers of examples.
    ExampleCount,
    /// The same examples in another order.
    ExampleOrder,
    /// Other examples.
    Examples,
    /// The text before everything: description or system instruction.
    Description,
    /// A prompt without its front.
    Truncated,
    /// The question itself is written differently.
    Question,
    /// Other choices or continuations, or another number of them.
    Continuation,
    /// Other settings of generation: stops, length, sampling.
    Settings,
    /// Log-likelihoods that differ by rounding.
    Noise,
    /// Log-likelihoods that differ by more, where context and continuation meet without a blank in its usual place: a
    /// tokenizer may join there what the other divides.
    Border,
    /// Log-likelihoods that differ by more than rounding: other weights, other tokens, or a prompt that was cut.
    Likelihoods,
    /// One answer is the beginning of the other: it ended earlier.
    Length,
    /// Other answers to the same prompt.
    Answers,
    /// The same answer, of which a filter finds something else.
    Filter,
    /// What is taken for right.
    Target,
    /// The same finding, which the metric grades differently.
    Metric,
}

impl Cause {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Documents => "documents that one side lacks",
            Self::BeginningOfText => "a beginning-of-text token in the prompt",
            Self::Delimiter => "a blank where context and continuation meet",
            Self::WhiteSpace => "white space in the prompt",
            Self::ChatTemplate => "the chat template",
            Self::ExampleCount => "the number of examples",
            Self::ExampleOrder => "the order of examples",
            Self::Examples => "the choice of examples",
            Self::Description => "the description or system instruction",
            Self::Truncated => "a prompt that was cut at the front",
            Self::Question => "the words of the question",
            Self::Continuation => "the choices or continuations",
            Self::Settings => "settings of generation",
            Self::Noise => "rounding of log-likelihoods",
            Self::Border => "log-likelihoods, perhaps of other tokens at the border",
            Self::Likelihoods => "log-likelihoods of the same prompt",
            Self::Length => "where answers end",
            Self::Answers => "answers to the same prompt",
            Self::Filter => "what a filter finds in the same answer",
            Self::Target => "what is right",
            Self::Metric => "how the metric grades",
        }
    }
}

/// A cause with the place that shows it: their text and ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) cause: Cause,
    pub(super) theirs: String,
    pub(super) ours: String,
}

impl Found {
    fn new(cause: Cause, theirs: impl Into<String>, ours: impl Into<String>) -> Self {
        Self { cause, theirs: theirs.into(), ours: ours.into() }
    }
}

/// Finds the first difference of two items; none where they are the same to the last number.
pub(super) fn of(theirs: &Item, ours: &Item, usual: &Beginnings) -> Option<Found> {
    of_requests(theirs, ours, usual).or_else(|| of_said(theirs, ours)).or_else(|| of_grades(theirs, ours))
}

fn of_requests(theirs: &Item, ours: &Item, usual: &Beginnings) -> Option<Found> {
    let pairs = || theirs.asked.iter().zip(&ours.asked);
    for (their, our) in pairs() {
        let whole =
            |asked: &Asked| format!("{}{}", asked.context, asked.continuation.as_deref().unwrap_or_default());
        let (their_text, our_text) = (whole(their), whole(our));
        let found = prompt::context(&their.context, &our.context, usual);
        let is_same_continuation = match (&their.continuation, &our.continuation) {
            (Some(their), Some(our)) => their.trim() == our.trim(),
            (their, our) => their == our,
        };
        let cause = match found {
            Some(cause) => cause,
            None if their.continuation == our.continuation => continue,
            None if is_same_continuation => Cause::Delimiter,
            None => Cause::Continuation,
        };
        // The same text that is divided elsewhere is a matter of its seam.
        let cause = if their_text == our_text { Cause::Delimiter } else { cause };
        let mark = |asked: &Asked| match &asked.continuation {
            Some(continuation) => format!("{}¦{continuation}", asked.context),
            None => asked.context.clone(),
        };
        return Some(Found::new(cause, mark(their), mark(our)));
    }
    if theirs.asked.len() != ours.asked.len() {
        let count = |item: &Item| format!("{} requests", item.asked.len());
        return Some(Found::new(Cause::Continuation, count(theirs), count(ours)));
    }
    let other = pairs().find(|(their, our)| !is_same_settings(&their.settings, &our.settings));
    other
        .map(|(their, our)| Found::new(Cause::Settings, their.settings.to_string(), our.settings.to_string()))
}

/// Whether two settings say the same, as far as both say something.
fn is_same_settings(theirs: &Value, ours: &Value) -> bool {
    match (theirs.as_object(), ours.as_object()) {
        (Some(theirs), Some(ours)) => {
            theirs.iter().all(|(key, value)| ours.get(key).is_none_or(|own| is_equal(own, value)))
        }
        _ => true,
    }
}

fn of_said(theirs: &Item, ours: &Item) -> Option<Found> {
    if is_equal(&theirs.said, &ours.said) {
        return None;
    }
    let found = |cause| Some(Found::new(cause, theirs.said.to_string(), ours.said.to_string()));
    let is_scored = ours.asked.iter().all(|asked| asked.settings.is_null());
    if is_scored && let (Some(their), Some(our)) = (numbers(&theirs.said), numbers(&ours.said)) {
        let is_noise = |(their, our): (&f64, &f64)| {
            (their - our).abs() <= NOISE_NATS + NOISE_SHARE * their.abs().max(our.abs())
        };
        return found(if their.len() == our.len() && their.iter().zip(&our).all(is_noise) {
            Cause::Noise
        } else if ours.asked.iter().any(is_open_border) {
            Cause::Border
        } else {
            Cause::Likelihoods
        });
    }
    let texts = |said: &Value| {
        let mut texts = Vec::new();
        collect(said, &mut texts);
        texts
    };
    let (their, our) = (texts(&theirs.said), texts(&ours.said));
    let is_beginning = |(one, other): (&String, &String)| {
        let (one, other) = (one.trim_end(), other.trim_end());
        one.starts_with(other) || other.starts_with(one)
    };
    let is_longer = their.len() == our.len() && their.iter().zip(&our).all(is_beginning);
    let (their, our) = (their.join("\u{b6}"), our.join("\u{b6}"));
    Some(Found::new(if is_longer { Cause::Length } else { Cause::Answers }, their, our))
}

/// Whether a continuation begins without a blank, or stands after one: there tokenizers may join.
fn is_open_border(asked: &Asked) -> bool {
    let Some(continuation) = &asked.continuation else { return false };
    let is_blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
    !asked.context.is_empty()
        && (!is_blank(continuation.chars().next()) || asked.context.ends_with(char::is_whitespace))
}

fn of_grades(theirs: &Item, ours: &Item) -> Option<Found> {
    for (filter, their) in &theirs.filtered {
        let Some(our) = ours.filtered.get(filter) else { continue };
        let place = |value: &dyn std::fmt::Display| format!("{filter}: {value}");
        let is_scored = ours.asked.iter().all(|asked| asked.settings.is_null());
        if !is_scored && !is_equal(&their.found, &our.found) {
            return Some(Found::new(Cause::Filter, place(&their.found), place(&our.found)));
        }
        for (metric, value) in &their.metrics {
            let Some(own) = our.metrics.get(metric).filter(|own| !is_equal(own, value)) else { continue };
            if theirs.target != ours.target {
                return Some(Found::new(Cause::Target, theirs.target.clone(), ours.target.clone()));
            }
            let place = |value: &Value| format!("{metric},{filter}: {value}");
            return Some(Found::new(Cause::Metric, place(value), place(own)));
        }
    }
    None
}

/// The log-likelihoods in what was said: numbers, as such or as text, and truth values beside them.
fn numbers(said: &Value) -> Option<Vec<f64>> {
    let mut texts = Vec::new();
    collect(said, &mut texts);
    let is_flag = |text: &&String| matches!(text.as_str(), "True" | "False" | "true" | "false");
    let values: Option<Vec<f64>> =
        texts.iter().filter(|text| !is_flag(text)).map(|text| text.parse().ok()).collect();
    values.filter(|values| !values.is_empty())
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::String(text) => texts.push(text.clone()),
        other => texts.push(other.to_string()),
    }
}

/// Whether two values are the same, numbers within rounding; also where numbers, truth values and arrays of numbers are
/// written as text.
pub(super) fn is_equal(one: &Value, other: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::String(text) if text == "True" => Some(1.0),
        Value::String(text) if text == "False" => Some(0.0),
        other => other.as_f64().or_else(|| other.as_str()?.parse().ok()),
    };
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_equal(one, other))
        }
        (Value::Array(numbers), Value::String(text)) | (Value::String(text), Value::Array(numbers)) => {
            printed(text).is_some_and(|printed| {
                let mut pairs = numbers.iter().zip(&printed);
                numbers.len() == printed.len() && pairs.all(|(one, other)| is_equal(one, other))
            })
        }
        _ => match (number(one), number(other)) {
            (Some(one), Some(other)) => (one - other).abs() <= EQUAL * one.abs().max(1.0),
            _ => one == other,
        },
    }
}

/// The numbers of an array as numpy prints it, between brackets and without commas: so probabilities stand in samples.
fn printed(text: &str) -> Option<Vec<Value>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let numbers = inside.split_whitespace().map(|number| number.parse::<f64>().ok().map(Value::from));
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::samples::Filtered;
    use super::*;

    fn item(context: &str, continuation: Option<&str>, said: Value, found: Value, grade: f64) -> Item {
        let settings =
            if continuation.is_some() { Value::Null } else { json!({"until": ["x"], "temperature": 0}) };
        let metrics = BTreeMap::from([("acc".to_owned(), json!(grade))]);
        Item {
            id: "0".to_owned(),
            document: Default::default(),
            target: "t".to_owned(),
            asked: vec![Asked {
                context: context.to_owned(),
                continuation: continuation.map(str::to_owned),
                settings,
            }],
            said,
            filtered: BTreeMap::from([("none".to_owned(), Filtered { found, metrics })]),
        }
    }

    #[test]
    fn arrays_that_numpy_printed_are_numbers() {
        let check = |printed: &str, expected: bool| {
            let (theirs, ours) = (json!([1, printed]), json!([1, [0.531_209_37, 0.468_790_63]]));
            assert_eq!(
                (is_equal(&theirs, &ours), is_equal(&ours, &theirs)),
                (expected, expected),
                "{printed}"
            );
        };
        check("[0.53120937 0.46879063]", true);
        check("[0.53120937\n 0.46879063]", true);
        check("[0.53120937 0.46880063]", false);
        check("[0.53120937]", false);
        check("0.53120937 0.46879063", false);
    }

    #[test]
    fn the_first_difference_is_the_cause() {
        let check = |theirs: &Item, ours: &Item, expected: Option<Cause>| {
            let found = of(theirs, ours, &Beginnings::default());
            assert_eq!(found.map(|found| found.cause), expected, "{theirs:?}");
        };
        let scored = |context: &str, continuation: &str, nats: &str, grade: f64| {
            let said = json!([[[nats, "False"]]]);
            item(context, Some(continuation), said.clone(), said, grade)
        };
        let ours = scored("Q:", " a", "-3.0", 1.0);
        check(&scored("Q:", " a", "-3.0000000001", 1.0), &ours, None);
        let mut typed = ours.clone();
        typed.said = json!([[[-3.0, false]]]);
        check(&typed, &ours, None);
        check(&scored("Q: ", "a", "-9.0", 0.0), &ours, Some(Cause::Delimiter));
        check(&scored("Q:", "a", "-9.0", 0.0), &ours, Some(Cause::Delimiter));
        check(&scored("Q:", " b", "-9.0", 0.0), &ours, Some(Cause::Continuation));
        check(&scored("Q:", " a", "-3.07", 0.0), &ours, Some(Cause::Noise));
        check(&scored("Q:", " a", "-4.0", 0.0), &ours, Some(Cause::Likelihoods));
        check(&scored("Q:", "a", "-4.0", 0.0), &scored("Q:", "a", "-3.0", 1.0), Some(Cause::Border));
        check(&scored("Q:", " a", "-3.0", 0.0), &ours, Some(Cause::Metric));

        let answered =
            |text: &str, found: &str, grade: f64| item("Q:", None, json!([[text]]), json!([found]), grade);
        let ours = answered(" 18 apples", "18", 1.0);
        check(&answered(" 18 apples", "18", 1.0), &ours, None);
        check(&answered(" 18", "18", 1.0), &ours, Some(Cause::Length));
        check(&answered(" 17", "17", 0.0), &ours, Some(Cause::Answers));
        check(&answered(" 18 apples", "apples", 0.0), &ours, Some(Cause::Filter));
        check(&answered(" 18 apples", "18", 0.0), &ours, Some(Cause::Metric));
        let mut other = ours.clone();
        other.asked[0].settings = json!({"until": ["y"]});
        check(&other, &ours, Some(Cause::Settings));
        other.asked[0].settings = json!({"temperature": 0.0, "max_gen_toks": 256});
        check(&other, &ours, None);
        other = answered(" 18 apples", "18", 0.0);
        other.target = "19".to_owned();
        check(&other, &ours, Some(Cause::Target));
    }
}
