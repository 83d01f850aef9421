//! What task files take for granted because the reference is written in Python: its random numbers, regular expressions,
//! literals, and how it prints and cuts text.

mod literal;
mod mersenne;
mod print;
mod regex;

pub(crate) use literal::literal;
pub use mersenne::MersenneTwister;
pub(crate) use print::{repr, text};
pub(crate) use regex::PythonRegex;

/// Whether `str.isspace` holds for a character: white space of Unicode, and the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `len(re.split(r"\s+", text))`: a blank at either end begins an empty word, which counts.
pub(crate) fn words(text: &str) -> usize {
    let mut count = 1;
    let mut was_space = false;
    for c in text.chars() {
        let space = is_space(c);
        count += usize::from(space && !was_space);
        was_space = space;
    }
    count
}

/// `str.capitalize()`: the first character upper, all others lower.
pub(crate) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn words_are_counted_as_by_a_split() {
        let check = |text: &str, expected: usize| assert_eq!(words(text), expected, "{text:?}");
        check("", 1);
        check("one", 1);
        check("one  two\nthree", 3);
        check(" one two ", 4);
        check("\u{3000}a\u{1f}b", 3);
    }

    #[test]
    fn text_is_capitalized() {
        assert_eq!(capitalize("hELLO World"), "Hello world");
        assert_eq!(capitalize(""), "");
    }
}
