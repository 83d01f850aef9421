//! Counts marks of chat templates that leaked into answers, and thoughts that are not closed.
//!
//! Marks in code or in the question do not count: there are answers about templates.

use std::sync::OnceLock;

use regex::Regex;

use super::{Answer, Measure, fences};

pub(super) const VERSION: u32 = 1;

/// What only a template writes: marks of ChatML, Llama, Mistral, Gemma, DeepSeek, Alpaca and of tokenizers.
const MARKS: [&str; 7] = [
    r"<\|[A-Za-z][A-Za-z0-9_]*\|>",
    r"<｜[^｜\n]{1,40}｜>",
    r"\[/?INST\]",
    r"<</?SYS>>",
    r"<(?:start|end)_of_turn>",
    r"<(?:bos|eos|pad|unk)>",
    r"(?m)^###\s?(?:Instruction|Response|Human|Assistant):",
];

/// Pairs of which one half alone is a leak: the ends of a sequence are also HTML's, and thoughts may be closed.
const PAIRS: [(&str, &str); 4] = [
    ("<s>", "</s>"),
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let prose = fences::prose(answer.output);
    let is_asked = |mark: &str| answer.prompt.contains(mark) || answer.system_prompt.contains(mark);
    let marks = pattern().find_iter(&prose).map(|found| found.as_str()).filter(|mark| !is_asked(mark));
    let halves =
        PAIRS.iter().flat_map(|(open, close)| halves(&prose, open, close)).filter(|mark| !is_asked(mark));
    let leaked: Vec<&str> = marks.chain(halves).collect();
    let found = leaked.first().map(|first| format!("holds `{}`", first.trim()));
    Some(Measure::new(leaked.len() as f64, found.unwrap_or_default()))
}

/// The halves of a pair that stand without the other.
fn halves<'a>(text: &str, open: &'a str, close: &'a str) -> Vec<&'a str> {
    let opened = text.matches(open).count();
    let closed = text.matches(close).count();
    let is_reversed = text.find(close).is_some_and(|at| text.find(open).is_none_or(|open| open > at));
    let alone = if is_reversed { vec![close] } else { Vec::new() };
    let more = opened.abs_diff(closed).saturating_sub(alone.len());
    let missing = if opened > closed { open } else { close };
    alone.into_iter().chain(std::iter::repeat_n(missing, more)).collect()
}

fn pattern() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(&MARKS.join("|")).expect("the marks are a pattern"))
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    #[test]
    fn marks_of_templates_are_counted() {
        let check = |output: &str, expected: f64| {
            assert_eq!(score(measure, "How many?", output), expected, "{output:?}")
        };
        check("Four.", 0.0);
        check("Four.<|im_end|>", 1.0);
        check("<|im_start|>assistant\nFour.<|im_end|>", 2.0);
        check("Four. <|eot_id|><|start_header_id|>user<|end_header_id|>", 3.0);
        check("[INST] How many? [/INST] Four.", 2.0);
        check("Four.</s>", 1.0);
        check("</s><s>Four.", 1.0);
        check("<s>struck</s> out", 0.0);
        check("Four.<end_of_turn>", 1.0);
        check("<｜end▁of▁sentence｜>", 1.0);
        check("### Response:\nFour.", 1.0);
        check("### Responses\nFour.", 0.0);
        check("<think>2 + 2\nFour.", 1.0);
        check("2 + 2</think>Four.", 1.0);
        check("<think>2 + 2</think>Four.", 0.0);
        check("ChatML ends a turn with `<|im_end|>`.", 0.0);
        check("```\n<|im_start|>user\n```", 0.0);
        check("a <| b |> c, x < y | z > w", 0.0);
    }

    #[test]
    fn what_was_asked_about_is_no_leak() {
        assert_eq!(score(measure, "What is <|im_end|>?", "<|im_end|> ends a turn."), 0.0);
    }
}
