//! How texts are compared: normalised, as words, and by the numbers that stand in them.

use std::collections::BTreeSet;

/// Lower-cases a text and makes every run of white space one space.
pub(crate) fn normalise(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The words of a text, lower-cased; numbers and punctuation are left out.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| word.chars().any(char::is_alphabetic))
        .map(str::to_lowercase)
}

/// The numbers of a text, without thousands separators, sorted; a number that stands twice is there twice.
pub(crate) fn numbers(text: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut number = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let continues = chars.peek().is_some_and(char::is_ascii_digit);
        match c {
            '0'..='9' => number.push(c),
            '.' if continues && !number.is_empty() => number.push('.'),
            ',' if continues && !number.is_empty() => {}
            _ if !number.is_empty() => numbers.push(std::mem::take(&mut number)),
            _ => {}
        }
    }
    if !number.is_empty() {
        numbers.push(number);
    }
    numbers.sort();
    numbers
}

/// The share of two sets' words that they have in common (Jaccard); two empty sets are equal.
pub(crate) fn jaccard(one: &BTreeSet<String>, other: &BTreeSet<String>) -> f64 {
    let common = one.intersection(other).count();
    let all = one.len() + other.len() - common;
    if all == 0 { 1.0 } else { common as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_whatever_stands_around_them() {
        let check = |text: &str, expected: &[&str]| assert_eq!(numbers(text), expected, "{text:?}");
        check("He pays $1,200.50, then 3.", &["1200.50", "3"]);
        check("7 of 12 and 7", &["12", "7", "7"]);
        check("no number, none.", &[]);
        check("2,a 3.b", &["2", "3"]);
    }

    #[test]
    fn words_are_compared_as_sets() {
        let check = |one: &str, other: &str, expected: f64| {
            let similarity = jaccard(&words(one).collect(), &words(other).collect());
            assert!((similarity - expected).abs() < 1e-12, "{one:?} {other:?}: {similarity}");
        };
        check("Ava has 3 apples", "ava HAS 9 apples.", 1.0);
        check("a b c", "b c d", 0.5);
        check("", "12", 1.0);
        check("Ava's", "ava", 0.0);
    }

    #[test]
    fn white_space_and_case_do_not_count() {
        assert_eq!(normalise("  One\n two\tTHREE "), "one two three");
    }
}
