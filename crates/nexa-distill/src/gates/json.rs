//! Finds answers that are no JSON although JSON was asked for.
//!
//! Asked for is JSON where a prompt tells to answer in it, not where it tells to write a program about it. One block of
//! code that holds it counts as JSON; text around it is a fault of its own.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::{Answer, Measure, fences};

pub(super) const VERSION: u32 = 1;

/// Text around JSON: half a fault.
const WITH_TEXT: f64 = 0.5;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    if !is_asked_for(&answer.prompt) && !is_asked_for(&answer.system_prompt) {
        return None;
    }
    Some(match read(answer.output) {
        Ok(Found { has_text: false, .. }) => Measure::clean(),
        Ok(Found { has_text: true, .. }) => Measure::new(WITH_TEXT, "text stands around the JSON"),
        Err(message) => Measure::new(1.0, message),
    })
}

/// JSON in an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) value: Value,
    /// Whether more than JSON was said.
    pub(super) has_text: bool,
}

/// Reads the JSON of an answer: the whole of it, or its only block of code.
pub(super) fn read(output: &str) -> Result<Found, String> {
    let whole = serde_json::from_str(output.trim());
    let error = match whole {
        Ok(value) => return Ok(Found { value, has_text: false }),
        Err(error) => error,
    };
    let blocks = fences::blocks(output);
    let [block] = blocks.as_slice() else { return Err(format!("no JSON: {error}")) };
    let value =
        serde_json::from_str(block.code.trim()).map_err(|e| format!("no JSON in the block of code: {e}"))?;
    let around = [&output[..block.start], &output[block.end..]];
    Ok(Found { value, has_text: around.iter().any(|text| !text.trim().is_empty()) })
}

fn is_asked_for(prompt: &str) -> bool {
    static ASKS: OnceLock<Regex> = OnceLock::new();
    static WRITES_CODE: OnceLock<Regex> = OnceLock::new();
    let asks = ASKS.get_or_init(|| {
        Regex::new(
            r"(?i)\b(?:return|respond|answer|output|reply|give|produce|provide|format|generate|emit|antworte|gib|réponds|répondez|responde|devuelve)\b[^.!?\n]{0,80}?\b(?:as|in|into|with|only|valid|strict|raw|a|an|one|single|the following|this|als|im|en|au format|formato)\s+(?:valid |strict |raw |single |minified )?json\b|(?:以|用|返回|输出)\s*json",
        )
        .expect("the literal is a pattern")
    });
    let writes_code = WRITES_CODE.get_or_init(|| {
        Regex::new(r"(?i)\b(?:function|script|program|class|parser|method|endpoint|example of|code)\b")
            .expect("the literal is a pattern")
    });
    asks.find(prompt).is_some_and(|found| !writes_code.is_match(found.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    #[test]
    fn json_is_wanted_where_it_is_asked_for() {
        let check = |prompt: &str, expected: bool| assert_eq!(is_asked_for(prompt), expected, "{prompt:?}");
        check("Return the result as JSON.", true);
        check("List three colours. Respond only with valid JSON.", true);
        check("Answer with a JSON object with the keys a and b.", true);
        check("Give your reply in the following JSON format: {}", true);
        check("Antworte nur als JSON.", true);
        check("Réponds en JSON.", true);
        check("请用JSON回答。", true);
        check("What is JSON?", false);
        check("Give me a function that parses a JSON file.", false);
        check("Return the number of keys. The file is JSON.", false);
    }

    #[test]
    fn what_is_said_around_json_is_half_a_fault() {
        let check = |output: &str, expected: f64| {
            assert_eq!(score(measure, "Answer as JSON.", output), expected, "{output:?}");
        };
        check(r#"{"a": [1, 2]}"#, 0.0);
        check(" 12 ", 0.0);
        check("```json\n{\"a\": 1}\n```", 0.0);
        check("Here it is:\n```json\n{\"a\": 1}\n```", 0.5);
        check(r#"{"a": 1,}"#, 1.0);
        check("Here it is: {\"a\": 1}", 1.0);
        check("{\"a\": 1", 1.0);
        assert!(score(measure, "How many?", "Four.").is_nan());
    }
}
