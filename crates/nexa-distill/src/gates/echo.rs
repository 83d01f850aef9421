//! Measures how much of an answer copies the question.

use std::collections::HashSet;

use super::{Answer, Measure, percent, share};
use crate::text;

pub(super) const VERSION: u32 = 1;

/// Words of a run that counts as copied; shorter ones are shared by any two texts on one subject.
const RUN: usize = 5;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let (prompt, output) = (text::normalise(&answer.prompt), text::normalise(answer.output));
    if prompt.is_empty() || output.is_empty() {
        return None;
    }
    let copied = if prompt == output { 1.0 } else { copied(&prompt, &output) };
    Some(Measure::new(copied, format!("{} of the words copy the question", percent(copied))))
}

/// The share of the words of a text that lie in runs which the other has as well.
fn copied(prompt: &str, output: &str) -> f64 {
    let prompt: Vec<&str> = prompt.split(' ').collect();
    let output: Vec<&str> = output.split(' ').collect();
    let runs: HashSet<&[&str]> = prompt.windows(RUN).collect();
    let (mut words, mut counted_to) = (0, 0);
    for (start, run) in output.windows(RUN).enumerate() {
        if runs.contains(run) {
            let end = start + RUN;
            words += end - start.max(counted_to);
            counted_to = end;
        }
    }
    share(words, output.len())
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    const QUESTION: &str = "Ava has 12 apples and buys 7 more. How many apples does she have?";

    #[test]
    fn copies_are_counted_in_runs_of_words() {
        let check = |output: &str, expected: f64| {
            let found = score(measure, QUESTION, output);
            assert!((found - expected).abs() < 1e-3, "{output:?}: {found}");
        };
        check(QUESTION, 1.0);
        check(&QUESTION.to_uppercase(), 1.0);
        check(&format!("{QUESTION} {QUESTION}"), 1.0);
        check("Ava has 12 apples and buys 7 more. That makes 19 in all.", 8.0 / 13.0);
        check("12 + 7 = 19\n#### 19", 0.0);
        check("She has 19 apples.", 0.0);
        assert!(score(measure, "", "Four.").is_nan());
        assert_eq!(score(measure, "Why?", "why?"), 1.0);
    }
}
