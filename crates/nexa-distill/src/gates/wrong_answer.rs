//! Rejects answers that come to another result than the reference.

use nexa_core::answer::final_answer;

use super::{Answer, Gate};

/// The gate. Rows without a reference pass: nothing is known about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrongAnswer;

impl Gate for WrongAnswer {
    fn name(&self) -> &'static str {
        "wrong_answer"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        let reference = answer.reference?;
        match final_answer(answer.output) {
            None => Some("no final answer".to_owned()),
            Some(found) if found != reference => Some(format!("final answer {found}, not {reference}")),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_answer_is_compared_where_a_reference_is_known() {
        let check = |output: &str, reference: Option<&str>, expected: Option<&str>| {
            let answer = Answer { prompt: "", output, finish_reason: None, reference };
            assert_eq!(WrongAnswer.reject(&answer).as_deref(), expected, "{output:?}");
        };
        check("1,000 + 200\n#### 1,200", Some("1200"), None);
        check("#### 14", Some("15"), Some("final answer 14, not 15"));
        check("It is 15.", Some("15"), Some("no final answer"));
        check("It is 15.", None, None);
    }
}
