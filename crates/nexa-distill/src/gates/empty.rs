//! Finds answers in which nothing was said: no letter, digit or other sign.

use super::{Answer, Measure};

pub(super) const VERSION: u32 = 1;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let is_empty = answer.output.chars().all(|c| c.is_whitespace() || c.is_control());
    Some(Measure::fault(is_empty.then(|| "empty".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    #[test]
    fn white_space_says_nothing() {
        let check =
            |output: &str, expected: f64| assert_eq!(score(measure, "", output), expected, "{output:?}");
        check("", 1.0);
        check(" \n\t\u{a0}", 1.0);
        check("+", 0.0);
        check("好", 0.0);
    }
}
