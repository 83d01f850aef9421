//! Judging as MT-bench does: an explanation, then a rating from 1 to 10 or the better answer in double brackets, of each
//! turn of a conversation.
//!
//! # Source
//! L. Zheng and others, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena", arXiv:2306.05685 (2023), section 3 and
//! appendix A, and the `llm_judge` of FastChat: scale, brackets with single ones in their place, references where there
//! are some, both orders.
//!
//! # Departures
//! The prompts are our own words, with marks around what is graded. The last verdict of a text counts, not the first: a
//! judge that corrects itself means what it says in the end. A rating outside of the scale is none.

use std::fmt::Write;
use std::sync::LazyLock;

use nexa_core::judging::{FIRST_BETTER, SECOND_BETTER, TIE};
use regex::Regex;
use serde_json::json;

use super::prompt::{Prompt, material_note, push};
use super::subject::Turn;
use super::verdict::{Decided, Read, Scale, visible};

/// The ends of the scale.
pub(super) const LOWEST: f64 = 1.0;
pub(super) const HIGHEST: f64 = 10.0;

const SYSTEM: &str = concat!(
    "You are an impartial judge of what AI assistants answer. ",
    material_note!(),
    " Neither the order in which answers are shown nor what assistants are called may matter to you."
);

/// Asks for a rating of a turn, counted from 1.
pub(super) fn single(turns: &[Turn], turn: u32, shows_reference: bool) -> Prompt {
    let shown = &turns[..turns.len().min(turn as usize)];
    let mut text = task(shown, shows_reference, "Rate the answer of an AI assistant to the user's question");
    questions(&mut text, shown, shows_reference);
    answers(&mut text, shown, "answer");
    text.push_str(
        "Consider how helpful, relevant, accurate, deep, creative and detailed the answer is. First explain your \
         judgement briefly and as objectively as you can. Then give a rating from 1 to 10 in exactly this form: \
         \"[[rating]]\", for example: \"Rating: [[5]]\".",
    );
    Prompt { system: SYSTEM, text }
}

/// Asks which of two conversations is better in a turn, counted from 1.
pub(super) fn pair(first: &[Turn], second: &[Turn], turn: u32, shows_reference: bool) -> Prompt {
    let shown = |turns: &[Turn]| turns.len().min(turn as usize);
    let (first, second) = (&first[..shown(first)], &second[..shown(second)]);
    let mut text =
        task(first, shows_reference, "Decide which of two AI assistants answers the user's question better");
    questions(&mut text, first, shows_reference);
    answers(&mut text, first, "answer_a");
    answers(&mut text, second, "answer_b");
    text.push_str(
        "Consider how helpful, relevant, accurate, deep, creative and detailed the answers are. First compare the two and \
         explain your judgement briefly and as objectively as you can. Then give your verdict in exactly this form: \
         \"[[A]]\" if assistant A is better, \"[[B]]\" if assistant B is better, and \"[[C]]\" for a tie.",
    );
    Prompt { system: SYSTEM, text }
}

fn task(shown: &[Turn], shows_reference: bool, task: &str) -> String {
    let mut text = format!("# Task\n\n{task}.");
    if shown.len() > 1 {
        let _ = write!(
            text,
            " The conversation has {} turns; judge by the last one, in the light of those before.",
            shown.len()
        );
    }
    if shows_reference && shown.iter().any(|turn| turn.reference.is_some()) {
        text.push_str(
            " A reference answer is given: compare with it, and find and correct mistakes before you decide.",
        );
    }
    text.push_str("\n\n# Material\n\n");
    text
}

fn questions(text: &mut String, shown: &[Turn], shows_reference: bool) {
    for (position, turn) in shown.iter().enumerate() {
        push(text, &numbered("question", position, shown), &turn.question);
        if let Some(reference) = turn.reference.as_ref().filter(|_| shows_reference) {
            push(text, &numbered("reference", position, shown), reference);
        }
    }
}

fn answers(text: &mut String, shown: &[Turn], mark: &str) {
    for (position, turn) in shown.iter().enumerate() {
        push(text, &numbered(mark, position, shown), &turn.answer);
    }
}

fn numbered(mark: &str, position: usize, shown: &[Turn]) -> String {
    if shown.len() == 1 { mark.to_owned() } else { format!("{mark}_{}", position + 1) }
}

/// Reads a rating.
pub(super) fn rating(text: &str) -> Result<Read, String> {
    static FORMS: LazyLock<[Regex; 2]> = LazyLock::new(|| forms(r"\d+(?:\.\d+)?"));
    let text = visible(text);
    let found = last(&text, &FORMS);
    let (place, offset, word) = found.ok_or_else(|| "no rating in brackets".to_owned())?;
    let score: f64 = word.parse().map_err(|_| format!("rating {word}"))?;
    if !(LOWEST..=HIGHEST).contains(&score) {
        return Err(format!("rating {word}, which is not from 1 to 10"));
    }
    Ok(read(&text, score, json!({"rating": score}), (place, offset, Scale::Levels(HIGHEST))))
}

/// Reads which of two answers is better.
pub(super) fn winner(text: &str) -> Result<Read, String> {
    static FORMS: LazyLock<[Regex; 2]> = LazyLock::new(|| forms("[ABC]"));
    let text = visible(text);
    let found = last(&text, &FORMS);
    let (place, offset, word) = found.ok_or_else(|| "no verdict in brackets".to_owned())?;
    let (score, word) = match word {
        "A" => (FIRST_BETTER, "a"),
        "B" => (SECOND_BETTER, "b"),
        _ => (TIE, "tie"),
    };
    Ok(read(&text, score, json!(word), (place, offset, Scale::Winner)))
}

/// What was read, with what was said before it.
fn read(
    text: &str,
    score: f64,
    decisions: serde_json::Value,
    (place, offset, scale): (usize, usize, Scale),
) -> Read {
    let before = text[..place].trim_end();
    let explanation = before.trim_end_matches("Rating:").trim_end_matches("Verdict:").trim();
    let decided = vec![Decided { weight: 1.0, score, offset, scale }];
    Read { score, decisions, explanation: explanation.to_owned(), decided }
}

/// The last place of the first form that is anywhere: where it begins, where its word does, and the word.
fn last<'t>(text: &'t str, forms: &[Regex; 2]) -> Option<(usize, usize, &'t str)> {
    forms.iter().find_map(|form| {
        let found = form.captures_iter(text).last()?;
        let (whole, word) = (found.get(0)?, found.get(1)?);
        Some((whole.start(), word.start(), word.as_str()))
    })
}

/// A word in double brackets, and in single ones.
fn forms(word: &str) -> [Regex; 2] {
    let form = |pattern: String| Regex::new(&pattern).expect("the literals below are patterns");
    [form(format!(r"\[\[\s*({word})\s*\]\]")), form(format!(r"\[\s*({word})\s*\]"))]
}

#[cfg(test)]
mod tests {
    use super::super::tests::answered;
    use super::*;

    #[test]
    fn the_last_rating_in_brackets_counts() {
        let check = |text: &str, expected: Result<f64, &str>| {
            let found = rating(text).map(|read| read.score);
            assert_eq!(found, expected.map_err(str::to_owned), "{text:?}");
        };
        check("Good.\nRating: [[8]]", Ok(8.0));
        check("Rating: [[9]]. On second thought [[ 3.5 ]]", Ok(3.5));
        check("[[\u{200b}7\u{200b}]]", Ok(7.0));
        check("Rating: [6]", Ok(6.0));
        check("[2] is wrong, so [[4]]; see [1]", Ok(4.0));
        check("Rating: [[11]]", Err("rating 11, which is not from 1 to 10"));
        check("Rating: [[0]]", Err("rating 0, which is not from 1 to 10"));
        check("Rating: 8", Err("no rating in brackets"));
        check("[[rating]]", Err("no rating in brackets"));
        assert_eq!(rating("It is good.\n\nRating: [[8]]").unwrap().explanation, "It is good.");
    }

    #[test]
    fn the_last_winner_in_brackets_counts() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(winner(text).ok().map(|read| read.score), expected, "{text:?}");
        };
        check("[[A]]", Some(5.0));
        check("A is longer, [[A]], but wrong: [[B]]", Some(1.0));
        check("[[C]]", Some(3.0));
        check("Verdict: [B]", Some(1.0));
        check("[[D]]", None);
    }

    #[test]
    fn the_second_turn_is_judged_in_the_light_of_the_first() {
        let mut talk = answered(&[("q1", "a1"), ("q2", "a2")]);
        talk.turns[1].reference = Some("r2".to_owned());
        let first = single(&talk.turns, 1, true).text;
        assert!(
            first.contains("<answer>\na1\n") && !first.contains("a2") && !first.contains("reference"),
            "{first}"
        );
        let second = single(&talk.turns, 2, true).text;
        for part in ["2 turns", "<question_1>\nq1", "<answer_1>\na1", "<answer_2>\na2", "<reference_2>\nr2"] {
            assert!(second.contains(part), "{part}: {second}");
        }
        let other = answered(&[("q1", "b1"), ("q2", "b2")]);
        let pair = pair(&talk.turns, &other.turns, 2, true).text;
        assert!(pair.contains("<answer_a_2>\na2") && pair.contains("<answer_b_1>\nb1"), "{pair}");
    }
}
