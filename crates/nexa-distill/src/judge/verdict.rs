//! Reads verdicts: the last JSON object of a text that is one, whatever stands around it.

use serde_json::{Map, Value, json};

use super::Mode;
use super::rubric::{LEVELS, Rubric};

/// A verdict as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    /// From 1 to 5; of two answers, 5 where the first shown one is better, 1 where the second is, 3 for a tie.
    pub(super) score: f64,
    /// What was decided, by name.
    pub(super) decisions: Value,
    /// Why.
    pub(super) explanation: String,
}

/// The shape of verdicts, for APIs that keep to one.
pub(super) fn schema(rubric: &Rubric, mode: Mode) -> Map<String, Value> {
    let object = |properties: Map<String, Value>| {
        let names: Vec<&String> = properties.keys().collect();
        let required = json!(names);
        Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), Value::Object(properties)),
            ("required".to_owned(), required),
            ("additionalProperties".to_owned(), json!(false)),
        ])
    };
    let decision = match mode {
        Mode::Pairs => ("winner", json!({"type": "string", "enum": ["A", "B", "tie"]})),
        Mode::Single => {
            let one = if rubric.criteria().is_empty() {
                json!({"type": "boolean"})
            } else {
                json!({"type": "integer", "enum": (1..=LEVELS).collect::<Vec<_>>()})
            };
            let parts = rubric.parts().into_iter().map(|(name, _)| (name.to_owned(), one.clone()));
            ("scores", Value::Object(object(parts.collect())))
        }
    };
    // What comes first is written first: a judge explains, then decides.
    object(Map::from_iter([
        ("explanation".to_owned(), json!({"type": "string"})),
        (decision.0.to_owned(), decision.1),
    ]))
}

/// Reads a verdict on one answer.
pub(super) fn scores(text: &str, rubric: &Rubric) -> Result<Read, String> {
    let mut problem = "no JSON object".to_owned();
    for object in objects(text) {
        // A judge that leaves the outer object out still says what it decided.
        let scores = object.get("scores").and_then(Value::as_object).unwrap_or(&object);
        match weighted(scores, rubric) {
            Ok((score, decisions)) => {
                return Ok(Read { score, decisions, explanation: explanation(&object) });
            }
            Err(message) => problem = message,
        }
    }
    Err(problem)
}

/// Reads a verdict on two answers.
pub(super) fn winner(text: &str) -> Result<Read, String> {
    let mut problem = "no JSON object".to_owned();
    for object in objects(text) {
        let word = object.get("winner").and_then(Value::as_str).unwrap_or_default().trim().to_lowercase();
        let score = match word.as_str() {
            "a" | "answer_a" | "answer a" => 5.0,
            "b" | "answer_b" | "answer b" => 1.0,
            "tie" | "draw" | "equal" | "both" => 3.0,
            _ => {
                problem = format!("winner `{word}`");
                continue;
            }
        };
        return Ok(Read { score, decisions: Value::String(word), explanation: explanation(&object) });
    }
    Err(problem)
}

fn explanation(object: &Map<String, Value>) -> String {
    let named = |name: &str| object.get(name).and_then(Value::as_str);
    named("explanation").or(named("reasoning")).unwrap_or_default().trim().to_owned()
}

/// The weighted mean of what was decided, on the scale from 1 to 5.
fn weighted(scores: &Map<String, Value>, rubric: &Rubric) -> Result<(f64, Value), String> {
    let is_checklist = rubric.criteria().is_empty();
    let (mut sum, mut weights) = (0.0, 0.0);
    let mut decisions = Map::new();
    for (name, weight) in rubric.parts() {
        let given = scores.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        let score = if is_checklist {
            1.0 + (LEVELS - 1) as f64 * f64::from(u8::from(truth(given).ok_or_else(|| wrong(name, given))?))
        } else {
            level(given).ok_or_else(|| wrong(name, given))?
        };
        sum += weight * score;
        weights += weight;
        decisions.insert(name.to_owned(), given.clone());
    }
    Ok((sum / weights, Value::Object(decisions)))
}

fn wrong(name: &str, given: &Value) -> String {
    format!("`{name}` is {given}")
}

/// A score from 1 to 5: a number, a number as text, or `4/5`.
fn level(given: &Value) -> Option<f64> {
    let number = match given {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => {
            let text = text.trim();
            text.strip_suffix("/5").unwrap_or(text).trim().parse().ok()?
        }
        _ => return None,
    };
    (1.0..=LEVELS as f64).contains(&number).then_some(number)
}

fn truth(given: &Value) -> Option<bool> {
    match given {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) if number.as_u64() == Some(1) => Some(true),
        Value::Number(number) if number.as_u64() == Some(0) => Some(false),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" => Some(true),
            "false" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The objects that stand in a text, outermost ones only, the last one first.
fn objects(text: &str) -> Vec<Map<String, Value>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Map<String, Value>>();
        from = match values.next() {
            Some(Ok(object)) => {
                found.push(object);
                at + values.byte_offset()
            }
            _ => at + 1,
        };
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::super::rubric::tests::{CHECKLIST, CRITERIA, rubric};
    use super::*;

    #[test]
    fn the_last_readable_verdict_counts() {
        let check = |text: &str, expected: Result<f64, &str>| {
            let found = scores(text, &rubric(CRITERIA).unwrap()).map(|read| read.score);
            assert_eq!(found, expected.map_err(str::to_owned), "{text:?}");
        };
        check(r#"{"explanation": "x", "scores": {"correctness": 4, "clarity": 2}}"#, Ok(3.5));
        check(r#"{"correctness": "5/5", "clarity": "1"}"#, Ok(4.0));
        check(
            "So:\n```json\n{\"scores\": {\"correctness\": 5, \"clarity\": 5}}\n```\nDone {really}.",
            Ok(5.0),
        );
        let first = r#"{"scores": {"correctness": 5, "clarity": 5}}"#;
        check(&format!("{first} no: {}", first.replace('5', "1")), Ok(1.0));
        check(&format!("{first} {{\"scores\": {{\"correctness\": 1}}}}"), Ok(5.0));
        check("It is good: 5 of 5.", Err("no JSON object"));
        check(r#"{"scores": {"correctness": 5}}"#, Err("`clarity` is missing"));
        check(r#"{"scores": {"correctness": 6, "clarity": 5}}"#, Err("`correctness` is 6"));
        check(r#"{"scores": {"correctness": null, "clarity": 5}}"#, Err("`correctness` is null"));
        check(r#"{"scores": {"correctness": 5, "clarity""#, Err("no JSON object"));
    }

    #[test]
    fn a_checklist_is_scored_by_what_holds() {
        let check = |text: &str, expected: f64| {
            assert_eq!(scores(text, &rubric(CHECKLIST).unwrap()).unwrap().score, expected);
        };
        check(r#"{"explanation": "x", "scores": {"unit": true, "steps": true}}"#, 5.0);
        check(r#"{"scores": {"unit": false, "steps": "yes"}}"#, 4.0);
        check(r#"{"scores": {"unit": 0, "steps": 0}}"#, 1.0);
    }

    #[test]
    fn a_winner_is_read() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(winner(text).ok().map(|read| read.score), expected)
        };
        check(r#"{"explanation": "x", "winner": "A"}"#, Some(5.0));
        check(r#"{"winner": "answer_b"}"#, Some(1.0));
        check(r#"{"winner": "A"} or rather {"winner": "tie"}"#, Some(3.0));
        check(r#"{"winner": "C"}"#, None);
    }
}
