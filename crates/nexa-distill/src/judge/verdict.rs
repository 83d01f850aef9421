//! Reads verdicts: the last JSON object of a text that is one, whatever stands around it.

use std::borrow::Cow;
use std::ops::Range;

use nexa_core::judging::{FIRST_BETTER, SECOND_BETTER, TIE};
use serde_json::{Map, Value, json};

use super::config::Mode;
use super::rubric::{LEVELS, Rubric};

/// A verdict as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    /// On the judge's scale; of two answers, 5 where the first shown one is better, 1 where the second is, 3 for a tie.
    pub(super) score: f64,
    /// What was decided, by name.
    pub(super) decisions: Value,
    /// Why.
    pub(super) explanation: String,
    /// Where the decisions stand in the text, as [`visible`] shows it.
    pub(super) decided: Vec<Decided>,
}

/// Where one decision stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    /// How much it counts.
    pub(super) weight: f64,
    /// The score that it stands for.
    pub(super) score: f64,
    /// Where its value begins, in bytes.
    pub(super) offset: usize,
    /// What it is on.
    pub(super) scale: Scale,
}

/// What a decision can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// A whole number from 1 to this.
    Levels(f64),
    /// Whether something holds; on the scale of scores 1 or 5.
    Truth,
    /// Which answer is better.
    Winner,
}

impl Scale {
    /// The score that a word stands for, if it stands for one.
    pub(super) fn score(self, word: &str) -> Option<f64> {
        match self {
            Self::Levels(highest) => {
                word.parse::<u32>().ok().map(f64::from).filter(|level| (1.0..=highest).contains(level))
            }
            Self::Truth => match word.to_lowercase().as_str() {
                "true" => Some(held(true)),
                "false" => Some(held(false)),
                _ => None,
            },
            Self::Winner => match word.to_lowercase().as_str() {
                "a" => Some(FIRST_BETTER),
                "b" => Some(SECOND_BETTER),
                "c" | "tie" | "t" => Some(TIE),
                _ => None,
            },
        }
    }
}

/// A text without the characters that nobody sees: they neither hide nor break a verdict.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let is_invisible =
        |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    if text.contains(is_invisible) { text.replace(is_invisible, "").into() } else { text.into() }
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
    let text = visible(text);
    let mut problem = "no JSON object".to_owned();
    for (place, object) in objects(&text) {
        // A judge that leaves the outer object out still says what it decided.
        let scores = object.get("scores").and_then(Value::as_object).unwrap_or(&object);
        match weighted(scores, rubric) {
            Ok((score, decisions)) => {
                let scale =
                    if rubric.criteria().is_empty() { Scale::Truth } else { Scale::Levels(LEVELS as f64) };
                let decided = rubric.parts().into_iter().filter_map(|(name, weight)| {
                    let score = part(scores.get(name)?, rubric)?;
                    Some(Decided { weight, score, offset: value_of(&text, &place, name)?, scale })
                });
                let decided = decided.collect();
                return Ok(Read { score, decisions, explanation: explanation(&object), decided });
            }
            Err(message) => problem = message,
        }
    }
    Err(problem)
}

/// Reads a verdict on two answers.
pub(super) fn winner(text: &str) -> Result<Read, String> {
    let text = visible(text);
    let mut problem = "no JSON object".to_owned();
    for (place, object) in objects(&text) {
        let word = object.get("winner").and_then(Value::as_str).unwrap_or_default().trim().to_lowercase();
        let score = match word.as_str() {
            "a" | "answer_a" | "answer a" => FIRST_BETTER,
            "b" | "answer_b" | "answer b" => SECOND_BETTER,
            "tie" | "draw" | "equal" | "both" => TIE,
            _ => {
                problem = format!("`winner` is `{word}`");
                continue;
            }
        };
        let offset = value_of(&text, &place, "winner");
        let decided = offset
            .map(|offset| Decided { weight: 1.0, score, offset, scale: Scale::Winner })
            .into_iter()
            .collect();
        return Ok(Read {
            score,
            decisions: Value::String(word),
            explanation: explanation(&object),
            decided,
        });
    }
    Err(problem)
}

/// Where the value of a name begins in an object, behind a quotation mark where it has one.
fn value_of(text: &str, place: &Range<usize>, name: &str) -> Option<usize> {
    let object = &text[place.clone()];
    let quoted = format!("\"{name}\"");
    // Of two values of a name the last one counts, for JSON as well.
    object.rmatch_indices(&quoted).find_map(|(at, _)| {
        let rest = &object[at + quoted.len()..];
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let value = value.strip_prefix('"').unwrap_or(value);
        Some(place.end - value.len())
    })
}

fn explanation(object: &Map<String, Value>) -> String {
    let named = |name: &str| object.get(name).and_then(Value::as_str);
    named("explanation").or(named("reasoning")).unwrap_or_default().trim().to_owned()
}

/// The weighted mean of what was decided, on the scale from 1 to 5.
fn weighted(scores: &Map<String, Value>, rubric: &Rubric) -> Result<(f64, Value), String> {
    let (mut sum, mut weights) = (0.0, 0.0);
    let mut decisions = Map::new();
    for (name, weight) in rubric.parts() {
        let given = scores.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        let score = part(given, rubric).ok_or_else(|| format!("`{name}` is {given}"))?;
        sum += weight * score;
        weights += weight;
        decisions.insert(name.to_owned(), given.clone());
    }
    Ok((sum / weights, Value::Object(decisions)))
}

/// The score of one part of a rubric.
fn part(given: &Value, rubric: &Rubric) -> Option<f64> {
    if rubric.criteria().is_empty() { truth(given).map(held) } else { level(given) }
}

/// What a point of a checklist counts on the scale of scores.
fn held(holds: bool) -> f64 {
    if holds { LEVELS as f64 } else { 1.0 }
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

/// The objects that stand in a text and where, outermost ones only, the last one first.
fn objects(text: &str) -> Vec<(Range<usize>, Map<String, Value>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Map<String, Value>>();
        from = match values.next() {
            Some(Ok(object)) => {
                let end = at + values.byte_offset();
                found.push((at..end, object));
                end
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

    #[test]
    fn what_nobody_sees_breaks_no_verdict() {
        let text = "{\"win\u{200b}ner\": \"\u{feff}B\"}";
        assert_eq!(winner(text).unwrap().score, 1.0);
        assert_eq!(
            scores("{\"unit\": true\u{200b}, \"steps\": true}", &rubric(CHECKLIST).unwrap()).unwrap().score,
            5.0
        );
    }

    #[test]
    fn the_place_of_each_decision_is_known() {
        let text = r#"First {"clarity": 1}; then {"explanation": "the \"clarity\": 9", "scores": {"correctness" : 4, "clarity": "2"}}"#;
        let read = scores(text, &rubric(CRITERIA).unwrap()).unwrap();
        let found: Vec<_> =
            read.decided.iter().map(|one| (one.weight, &text[one.offset..=one.offset])).collect();
        assert_eq!(found, [(3.0, "4"), (1.0, "2")]);
        let text = r#"{"winner": "tie"}"#;
        assert_eq!(&text[winner(text).unwrap().decided[0].offset..], "tie\"}");
    }
}
