//! What the embedded teacher says to a question, in each of its manners.

use nexa_core::lm::FinishReason;

use super::families::{Slip, Solution, solve};
use super::faults::Manner;
use super::{JUDGE, MODEL, judge};
use crate::draw;

const REFUSAL: &str = "I'm sorry, but I can't help with that.";
const UNKNOWN: &str = "I only know a few kinds of word problems, and this is none of them.";
/// How often a looping answer says its first line.
const LOOPS: usize = 8;

/// A text and why it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Who answers.
    pub(super) model: &'static str,
    pub(super) text: String,
    pub(super) finish_reason: FinishReason,
}

/// What decides what the question and the manner leave open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance<'a> {
    pub(super) seed: u64,
    /// What tells one call from the others.
    pub(super) words: &'a [&'a str],
}

/// Answers a question in a manner.
pub(super) fn reply(question: &str, manner: Manner, max_tokens: usize, chance: Chance<'_>) -> Reply {
    if let Some(text) = judge::verdict(question) {
        return cut(JUDGE, text, max_tokens);
    }
    let solution = solve(question);
    let draw =
        |purpose: &str, count: usize| draw::below(count, chance.seed, &[&[purpose], chance.words].concat());
    let text = match (&solution, manner) {
        (_, Manner::Refusing) => REFUSAL.to_owned(),
        (None, _) => UNKNOWN.to_owned(),
        (Some(solution), Manner::Right | Manner::Truncated) => solution.text(),
        (Some(solution), Manner::Wrong) => {
            wrong(solution, draw("step", solution.steps()), draw("by", 9) as i64 + 1)
        }
        (Some(solution), Manner::Repetitive) => looped(&solution.text()),
    };
    let tokens = count_tokens(&text);
    let allowed = match manner {
        // Somewhere after the first word and before the last.
        Manner::Truncated => max_tokens.min(1 + draw("cut", tokens.saturating_sub(1))),
        _ => max_tokens,
    };
    cut(MODEL, text, allowed)
}

/// A text that is no longer than it may be.
fn cut(model: &'static str, text: String, allowed: usize) -> Reply {
    if count_tokens(&text) > allowed {
        Reply { model, text: first_tokens(&text, allowed).to_owned(), finish_reason: FinishReason::Length }
    } else {
        Reply { model, text, finish_reason: FinishReason::Stop }
    }
}

/// Counts tokens as the embedded teacher does: pieces between white space.
pub(super) fn count_tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

fn first_tokens(text: &str, count: usize) -> &str {
    match text.split_whitespace().nth(count) {
        // The piece is a part of the text, so the difference of the addresses is its place.
        Some(piece) => text[..piece.as_ptr() as usize - text.as_ptr() as usize].trim_end(),
        None => text,
    }
}

/// A slip in the drawn step; where that leads nowhere, one in the last step, upwards, which always can be.
fn wrong(solution: &Solution, step: usize, by: i64) -> String {
    let last = Slip { step: solution.steps() - 1, by };
    [Slip { step, by: -by }, Slip { step, by }, last]
        .into_iter()
        .find_map(|slip| solution.text_with(slip))
        .unwrap_or_else(|| solution.text())
}

fn looped(text: &str) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    format!("{}{rest}", format!("{first}\n").repeat(LOOPS))
}

#[cfg(test)]
mod tests {
    use nexa_core::answer::final_answer;

    use super::*;

    const QUESTION: &str =
        "Ava has 12 apples. Ava buys 7 more and gives 5 away. How many apples does Ava have now?";

    fn ask(manner: Manner, max_tokens: usize) -> Reply {
        reply(QUESTION, manner, max_tokens, Chance { seed: 3, words: &["question", "0"] })
    }

    #[test]
    fn each_manner_is_what_it_says() {
        let right = ask(Manner::Right, 100);
        assert_eq!(final_answer(&right.text).as_deref(), Some("14"));
        assert_eq!(right.finish_reason, FinishReason::Stop);

        let wrong = final_answer(&ask(Manner::Wrong, 100).text);
        assert!(wrong.is_some() && wrong.as_deref() != Some("14"), "{wrong:?}");

        let cut = ask(Manner::Truncated, 100);
        assert!(right.text.starts_with(&cut.text) && cut.text.len() < right.text.len(), "{cut:?}");
        assert_eq!(cut.finish_reason, FinishReason::Length);

        let looped = ask(Manner::Repetitive, 100).text;
        assert_eq!(looped.matches("12 + 7 = 19 apples.").count(), LOOPS);
        assert_eq!(final_answer(&looped).as_deref(), Some("14"));

        assert_eq!(ask(Manner::Refusing, 100).text, REFUSAL);
        let chance = Chance { seed: 3, words: &[] };
        assert_eq!(reply("Who are you?", Manner::Wrong, 100, chance).text, UNKNOWN);
    }

    #[test]
    fn an_answer_is_no_longer_than_asked_for() {
        let check = |max_tokens, expected: &str| assert_eq!(ask(Manner::Right, max_tokens).text, expected);
        check(3, "12 + 7");
        check(0, "");
        check(8, "12 + 7 = 19 apples.\n19 -");
    }
}
