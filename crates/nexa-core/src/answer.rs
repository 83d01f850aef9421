//! Final answers of worked solutions, by the rule of GSM8K.
//!
//! Gates and evaluation must agree on what counts as a right answer, so the rule stands here.
//!
//! # Source
//! The `strict-match` filter and the `exact_match` normalisation of lm-evaluation-harness, task `gsm8k` version 3.0:
//! the first `#### ` followed by an optional minus and a run of digits, dots and commas; commas and dollar signs
//! are deleted, then one final dot.

/// Finds the final answer of a worked solution: the number after the first `#### `, normalised.
pub fn final_answer(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find("#### ") {
        rest = &rest[at + "#### ".len()..];
        let bytes = rest.as_bytes();
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let digits =
            bytes[sign..].iter().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
        if digits > 0 {
            return Some(normalise(&rest[..sign + digits]));
        }
    }
    None
}

/// Deletes what does not change a number: commas, dollar signs, one final dot.
pub fn normalise(answer: &str) -> String {
    let plain: String = answer.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let plain = plain.rsplit_once("#### ").map_or(plain.as_str(), |(_, last)| last);
    plain.strip_suffix('.').unwrap_or(plain).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marked_number_counts() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(final_answer(text).as_deref(), expected, "{text:?}");
        };
        check("2 + 2 = 4\n#### 4", Some("4"));
        check("#### 1,234.", Some("1234"));
        check("#### -7 apples\n#### 8", Some("-7"));
        check("#### four\n#### 4", Some("4"));
        check("####4", None);
        check("#### $5", None);
        check("the answer is 4", None);
        check("", None);
    }
}
