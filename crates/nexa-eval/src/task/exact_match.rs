//! Exact match of final answers, by the rule of GSM8K.
//!
//! The model answers greedily. The strict answer is the first number after `#### `, [`nexa_core::answer`]; the flexible
//! one is the last thing in the text that looks like a number. Both are normalised as the reference is, then compared
//! as text.

use std::sync::LazyLock;

use nexa_core::answer;
use nexa_core::lm::{ChatReply, Sampling};
use regex::Regex;

use crate::Result;
use crate::ask::{Asker, Request, Sample};
use crate::task::item::asked;
use crate::task::{Item, Task};

/// The task.
#[derive(Debug, Clone, Copy)]
pub struct ExactMatch {
    /// Ends an answer after this many tokens.
    pub max_tokens: usize,
    /// Handed to the model with each request, though greedy decoding draws nothing.
    pub seed: u64,
}

impl ExactMatch {
    /// Asks a model for the answers to some items.
    ///
    /// # Errors
    /// As [`Asker::replies`].
    pub fn answers(&self, asker: &mut Asker<'_>, items: &[Item]) -> Result<Vec<Sample<ChatReply>>> {
        let sampling = Sampling { seed: self.seed, max_tokens: self.max_tokens, ..Sampling::default() };
        let request =
            |item: &Item| Request::Chat { messages: item.prompt().to_vec(), sampling: sampling.clone() };
        asker.replies(Task::ExactMatch.as_str(), &asked(items, request))
    }

    /// Whether an extracted answer, if there is any, is the reference.
    pub fn is_correct(answer: Option<&str>, reference: &str) -> bool {
        answer.is_some_and(|answer| answer == answer::normalise(reference))
    }
}

/// Finds the last thing in a text that looks like a number, normalised.
///
/// # Source
/// The `flexible-extract` filter of lm-evaluation-harness, task `gsm8k` version 3.0: the last of an optional minus and
/// at least two of dollar, digits, dot and comma, or an optional minus and digits. It keeps that filter's known trap:
/// three dots at the end of a text count as an answer.
pub fn flexible_answer(text: &str) -> Option<String> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("-?[$0-9.,]{2,}|-?[0-9]+").expect("the pattern is valid"));
    NUMBER.find_iter(text).last().map(|found| answer::normalise(found.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: what the two filters of the task file give on these texts under Python's `re`, normalised.
    #[test]
    fn answers_are_extracted_as_by_the_harness() {
        let check = |text: &str, strict: Option<&str>, flexible: Option<&str>| {
            assert_eq!(answer::final_answer(text).as_deref(), strict, "strict {text:?}");
            assert_eq!(flexible_answer(text).as_deref(), flexible, "flexible {text:?}");
        };
        check("9 * 2 = $18\n#### 18", Some("18"), Some("18"));
        check("#### 1,234,567", Some("1234567"), Some("1234567"));
        check("#### -12.50", Some("-12.50"), Some("-12.50"));
        check("#### 5\nLet me check: 5 + 1 = 6\n#### 6", Some("5"), Some("6"));
        check("The answer is 42.", None, Some("42"));
        check("It costs $1,250.00 in all", None, Some("1250.00"));
        check("#### $70", None, Some("70"));
        check("####7", None, Some("7"));
        check("I have 5 apples, ok...", None, Some(".."));
        check("It is 7 or so, I think", None, Some("7"));
        check("between 3-4", None, Some("-4"));
        check("ten", None, None);
        check("", None, None);
        // What the model says about the question again counts for the flexible rule alone.
        check("#### 12 apples (of 15)", Some("12"), Some("15"));
        // Digits of other scripts are no digits.
        check("#### ١٢", None, None);
    }

    #[test]
    fn references_are_normalised_and_text_is_compared() {
        let check = |answer: Option<&str>, reference: &str, expected: bool| {
            assert_eq!(ExactMatch::is_correct(answer, reference), expected, "{answer:?} for {reference:?}");
        };
        check(Some("1234"), "1,234", true);
        check(Some("18"), "9 * 2 = 18\n#### 18", true);
        check(Some("18"), "18.", true);
        // Equal numbers in other words are not equal: the rule compares text.
        check(Some("18.0"), "18", false);
        check(Some("018"), "18", false);
        check(None, "18", false);
        check(None, "", false);
    }
}
