//! Tells answers that were cut off or withheld from those that end.
//!
//! The provider's word is certain. Without it the end of the text tells: some marks and words cannot be the last ones.

use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, Gate, Measure};

pub(super) const VERSION: u32 = 2;

/// An end that no text has.
const NO_END: f64 = 0.8;
/// An end that is unusual for a text whose other sentences are closed.
const ODD_END: f64 = 0.4;

/// How a whole answer is told from a part of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Truncation {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// The highest score: 1 is the provider's word or a missing `end_marker`, 0.8 an end that no text has, 0.4 a last
    /// sentence without its mark. Default 0.5.
    pub max: f64,
    /// Text that every whole answer holds, such as `####`. Default: none.
    pub end_marker: Option<String>,
}

impl Default for Truncation {
    fn default() -> Self {
        Self { enabled: true, max: 0.5, end_marker: None }
    }
}

pub(super) fn gate(settings: &Truncation) -> Option<Gate> {
    let marker = settings.end_marker.clone();
    settings.enabled.then(|| {
        Gate::of_each("truncation", VERSION, Bounds::at_most(settings.max), move |answer| {
            Some(measure(answer, marker.as_deref()))
        })
    })
}

fn measure(answer: &Answer<'_>, marker: Option<&str>) -> Measure {
    match (answer.finish_reason, marker) {
        (Some(reason @ ("length" | "content_filter")), _) => {
            return Measure::new(1.0, format!("finish reason `{reason}`"));
        }
        (_, Some(marker)) if !answer.output.contains(marker) => {
            return Measure::new(1.0, format!("no `{marker}`"));
        }
        _ => {}
    }
    let text = answer.output.trim_end();
    let Some(last) = text.chars().next_back() else { return Measure::clean() };
    let word = text.rsplit(|c: char| !c.is_alphabetic() && c != '\'').next().unwrap_or_default();
    if matches!(last, ',' | ';' | '(' | '[' | '{' | '，' | '；' | '、' | '（' | '「' | '“' | '«') {
        Measure::new(NO_END, format!("ends in `{last}`"))
    } else if NEVER_LAST.contains(&word.to_lowercase().as_str()) && ends_in_prose(text) {
        Measure::new(NO_END, format!("ends in \"{word}\""))
    } else if last.is_alphabetic() && closed_sentences(text) >= 2 && ends_in_prose(text) {
        Measure::new(ODD_END, "the last sentence has no mark")
    } else {
        Measure::clean()
    }
}

/// Words that lead to a further one, in English, German, French and Spanish; none that can also end a sentence.
const NEVER_LAST: [&str; 36] = [
    "the", "an", "and", "or", "of", "because", "than", "if", "although", "whose", "und", "oder", "der",
    "den", "dem", "ein", "eine", "weil", "wenn", "dass", "et", "ou", "le", "les", "des", "du", "une",
    "parce", "y", "o", "el", "los", "las", "del", "porque", "para",
];

/// Whether the last line is a sentence rather than a title, an item of a list or code.
fn ends_in_prose(text: &str) -> bool {
    let line = text.lines().next_back().unwrap_or_default().trim();
    let is_item = line.starts_with(['-', '*', '#', '|', '`', '<', '•', '+', '$', '\\']);
    !is_item && line.split_whitespace().count() >= 4
}

fn closed_sentences(text: &str) -> usize {
    let marks = text.char_indices().filter(|(_, c)| matches!(c, '.' | '!' | '?'));
    marks.filter(|(at, _)| text[at + 1..].starts_with(char::is_whitespace)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test::row;
    use super::*;

    fn of(output: &str, finish_reason: Option<&str>, marker: Option<&str>) -> Measure {
        let mut row = row("", output);
        row.insert("finish_reason".to_owned(), json!(finish_reason));
        measure(&Answer::of(&row), marker)
    }

    #[test]
    fn the_finish_reason_or_a_marker_tells() {
        let check = |finish_reason: Option<&str>, marker: Option<&str>, expected: &str| {
            assert_eq!(of("1 + 1 = 2\n#### 2", finish_reason, marker).found, expected);
        };
        check(Some("stop"), None, "");
        check(None, Some("####"), "");
        check(Some("length"), Some("####"), "finish reason `length`");
        check(Some("content_filter"), None, "finish reason `content_filter`");
        check(Some("stop"), Some("</answer>"), "no `</answer>`");
    }

    #[test]
    fn the_end_of_a_text_tells_where_nothing_else_does() {
        let check = |output: &str, expected: f64| {
            assert_eq!(of(output, Some("stop"), None).score, expected, "{output:?}");
        };
        check("She has 19 apples.", 0.0);
        check("19 apples", 0.0);
        check("It takes three steps. First you mix. Then you bake and wait for the", 0.8);
        check("Sie kauft Brot und Milch und", 0.8);
        check("One, two,", 0.8);
        check("f(x) = (", 0.8);
        check("It takes three steps. First you mix. Then you bake it at two hundred", 0.4);
        check("It takes three steps. First you mix. Then:\n- bake", 0.0);
        check("Answer: A or", 0.0);
        check("```\nfor x in the\n```", 0.0);
        check("", 0.0);
    }
}
