//! The embedded teacher as a judge: rules, no model, and it says so in its name and in every explanation.
//!
//! It holds the final answer of what is graded against the reference, or against the solution where it knows one; what
//! it can tell nothing about gets the middle of the scale. That is enough to try judging without a key or a network, and
//! no measure of quality.

use std::sync::LazyLock;

use nexa_core::answer::{final_answer, normalise};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::families::solve;

/// The parts of a rubric, as the form at the end of a prompt names them.
static PARTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""(\w+)": (1 to 5|true or false)"#).expect("the literal is a pattern"));

/// From 1 to 5, and why.
struct Found {
    score: u8,
    why: &'static str,
}

/// The verdict that a prompt asks for; none where it asks for no verdict.
pub(super) fn verdict(prompt: &str) -> Option<String> {
    let is_rating = prompt.contains("\"[[rating]]\"");
    if let Some(answer) = last(prompt, "answer") {
        let found = grade(prompt, answer);
        if is_rating {
            return Some(format!("By rule: {}.\n\nRating: [[{}]]", found.why, 2 * found.score));
        }
        let score = |form: &str| if form == "1 to 5" { json!(found.score) } else { json!(found.score > 3) };
        let scores: Map<String, Value> =
            PARTS.captures_iter(prompt).map(|part| (part[1].to_owned(), score(&part[2]))).collect();
        if scores.is_empty() {
            return None;
        }
        return Some(
            json!({"explanation": format!("By rule: {}.", found.why), "scores": scores}).to_string(),
        );
    }
    let (a, b) = (grade(prompt, last(prompt, "answer_a")?), grade(prompt, last(prompt, "answer_b")?));
    let (word, letter) = match a.score.cmp(&b.score) {
        std::cmp::Ordering::Greater => ("A", "A"),
        std::cmp::Ordering::Less => ("B", "B"),
        std::cmp::Ordering::Equal => ("tie", "C"),
    };
    let why = format!("By rule: of A, {}; of B, {}.", a.why, b.why);
    if prompt.contains("\"[[C]]\"") {
        return Some(format!("{why}\n\n[[{letter}]]"));
    }
    Some(json!({"explanation": why, "winner": word}).to_string())
}

fn grade(prompt: &str, answer: &str) -> Found {
    let reference = last(prompt, "reference");
    let solved = || solve(last(prompt, "question")?).and_then(|solution| final_answer(&solution.text()));
    let right = match reference {
        Some(reference) => Some(final_answer(reference).unwrap_or_else(|| normalise(reference))),
        None => solved(),
    };
    let shows_steps = answer.lines().filter(|line| !line.trim().is_empty()).count() > 1;
    let found = |score, why| Found { score, why };
    if answer.trim().is_empty() {
        return found(1, "there is no answer");
    }
    let Some(right) = right else { return found(3, "nothing is known to compare with") };
    match (final_answer(answer).is_some_and(|given| given == right), shows_steps) {
        (true, true) => found(5, "the final answer is right and steps are shown"),
        (true, false) => found(4, "the final answer is right"),
        (false, true) => found(2, "the final answer is not the right one, though steps are shown"),
        (false, false) => found(1, "the final answer is not the right one"),
    }
}

/// What stands between the last marks of a name, or those of its last turn.
fn last<'p>(prompt: &'p str, mark: &str) -> Option<&'p str> {
    let turns = (1..=9).rev().map(|turn| format!("{mark}_{turn}"));
    turns.chain([mark.to_owned()]).find_map(|mark| {
        let (open, close) = (format!("<{mark}>\n"), format!("\n</{mark}>"));
        let end = prompt.rfind(&close)?;
        let begin = prompt[..end].rfind(&open)? + open.len();
        Some(&prompt[begin..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str =
        "Ava has 12 apples. Ava buys 7 more and gives 5 away. How many apples does Ava have now?";

    fn marked(parts: &[(&str, &str)], form: &str) -> String {
        let parts: String =
            parts.iter().map(|(mark, text)| format!("<{mark}>\n{text}\n</{mark}>\n\n")).collect();
        format!("# Material\n\n{parts}{form}")
    }

    const SCORES: &str = r#"{"explanation": "…", "scores": {"right": 1 to 5, "unit": true or false}}"#;

    #[test]
    fn an_answer_is_graded_by_what_is_right() {
        let check = |parts: &[(&str, &str)], expected: u8| {
            let said: Value = serde_json::from_str(&verdict(&marked(parts, SCORES)).unwrap()).unwrap();
            assert_eq!(said["scores"], json!({"right": expected, "unit": expected > 3}), "{parts:?}");
            assert!(said["explanation"].as_str().unwrap().starts_with("By rule: "), "{said}");
        };
        check(&[("question", "?"), ("reference", "14"), ("answer", "12 + 2 = 14\n#### 14")], 5);
        check(&[("question", "?"), ("reference", "x\n#### 14"), ("answer", "#### 14")], 4);
        check(&[("question", QUESTION), ("answer", "12 + 7 = 19\n#### 19")], 2);
        check(&[("question", QUESTION), ("answer", "#### 14")], 4);
        check(&[("question", "Who are you?"), ("answer", "A judge.")], 3);
        check(&[("question", "?"), ("reference", "14"), ("answer", "  ")], 1);
    }

    #[test]
    fn ratings_and_winners_are_said_in_the_form_that_is_asked_for() {
        let answers =
            [("question", "?"), ("reference", "14"), ("answer_a", "#### 13"), ("answer_b", "#### 14")];
        let said = verdict(&marked(&answers, r#""winner": "A", "B" or "tie""#)).unwrap();
        assert!(said.contains(r#""winner":"B""#), "{said}");
        assert!(verdict(&marked(&answers, r#""[[A]]" "[[C]]""#)).unwrap().ends_with("[[B]]"));
        let talk = [
            ("question_1", "?"),
            ("answer_1", "#### 1"),
            ("question_2", "?"),
            ("reference_2", "2"),
            ("answer_2", "#### 2"),
        ];
        assert!(verdict(&marked(&talk, r#""[[rating]]""#)).unwrap().ends_with("Rating: [[8]]"));
        assert_eq!(verdict(QUESTION), None);
    }
}
