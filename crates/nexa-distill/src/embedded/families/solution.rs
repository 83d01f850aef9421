//! Worked solutions, in the form of GSM8K: an equation a line, and the answer after `#### `.

use super::{Family, Operation, Step, Term};

/// A question as it was understood: enough to work out every step.
#[derive(Debug, Clone)]
pub struct Solution {
    pub(super) family: &'static Family,
    pub(super) numbers: Vec<i64>,
    pub(super) thing: String,
}

/// A slip of the pen: the result of one step is off, and everything after it goes on from there.
#[derive(Debug, Clone, Copy)]
pub struct Slip {
    /// Which step, counted from 0.
    pub step: usize,
    /// By how much its result is off.
    pub by: i64,
}

impl Solution {
    /// The right answer.
    pub fn answer(&self) -> i64 {
        self.work(None).and_then(|(results, _)| results.last().copied()).unwrap_or_default()
    }

    /// The worked solution.
    pub fn text(&self) -> String {
        self.work(None).map(|(_, text)| text).unwrap_or_default()
    }

    /// The worked solution with a slip in it, which ends in a wrong answer. `None` where the slip would lead to a
    /// negative number, to a division that is not exact, or to the right answer after all.
    pub fn text_with(&self, slip: Slip) -> Option<String> {
        let (results, text) = self.work(Some(slip))?;
        (results.last() != Some(&self.answer())).then_some(text)
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.family.steps.len()
    }

    /// Works out every step: the results, and the text.
    pub(super) fn work(&self, slip: Option<Slip>) -> Option<(Vec<i64>, String)> {
        let mut results: Vec<i64> = Vec::new();
        let mut text = String::new();
        for (position, step) in self.family.steps.iter().enumerate() {
            let value = |term: Term| match term {
                Term::Given(place) => self.numbers.get(place).copied(),
                Term::Result(earlier) => results.get(earlier).copied(),
            };
            let (left, right) = (value(step.left)?, value(step.right)?);
            let off = slip.filter(|slip| slip.step == position).map_or(0, |slip| slip.by);
            let result = step.apply(left, right)?.checked_add(off).filter(|result| *result >= 0)?;
            let tail = step.tail.replace("{thing}", &self.thing);
            text.push_str(&format!("{left} {} {right} = {result} {tail}\n", step.operation.sign()));
            results.push(result);
        }
        text.push_str(&format!("#### {}", results.last()?));
        Some((results, text))
    }
}

impl Step {
    fn apply(&self, left: i64, right: i64) -> Option<i64> {
        match self.operation {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Multiply => left.checked_mul(right),
            Operation::Divide => (left.checked_rem(right)? == 0).then(|| left / right),
        }
    }
}

impl Operation {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::solve;
    use super::*;

    const QUESTION: &str =
        "Ava has 12 apples. Ava buys 7 more and gives 5 away. How many apples does Ava have now?";

    #[test]
    fn a_solution_shows_its_steps() {
        let text = solve(QUESTION).unwrap().text();
        assert_eq!(text, "12 + 7 = 19 apples.\n19 - 5 = 14 apples are left.\n#### 14");
    }

    #[test]
    fn a_slip_carries_on_to_the_answer() {
        let solution = solve(QUESTION).unwrap();
        let check = |step, by, expected: Option<&str>| {
            assert_eq!(solution.text_with(Slip { step, by }).as_deref(), expected, "{step} {by}");
        };
        check(0, 2, Some("12 + 7 = 21 apples.\n21 - 5 = 16 apples are left.\n#### 16"));
        check(1, -1, Some("12 + 7 = 19 apples.\n19 - 5 = 13 apples are left.\n#### 13"));
        check(1, -15, None);
        check(1, 0, None);
    }
}
