//! Lines as Python's `str.splitlines` makes them, on which datatrove's rules are stated.

use super::classes::{self, SPACE};

/// The lines of a text: every mandatory break of Unicode ends one, and a break at the very end begins no new one.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, behind) = match rest.char_indices().find(|&(_, c)| is_break(c)) {
            Some((at, '\r')) if rest[at + 1..].starts_with('\n') => (&rest[..at], &rest[at + 2..]),
            Some((at, c)) => (&rest[..at], &rest[at + c.len_utf8()..]),
            None => (rest, ""),
        };
        rest = behind;
        Some(line)
    })
}

fn is_break(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is white space to Python.
pub(crate) fn is_space(c: char) -> bool {
    classes::of(c) & SPACE != 0
}

/// Whether a character ends a sentence.
pub(crate) fn is_terminal(c: char) -> bool {
    classes::is_terminal(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mandatory_break_ends_a_line() {
        let check = |text: &str, expected: &[&str]| assert_eq!(lines(text).collect::<Vec<_>>(), expected);
        check("", &[]);
        check("a", &["a"]);
        check("a\n", &["a"]);
        check("\na\n\nb", &["", "a", "", "b"]);
        check("a\r\nb\rc\r\n", &["a", "b", "c"]);
        check("a\u{b}b\u{c}c\u{1c}d\u{85}e\u{2028}f\u{2029}g", &["a", "b", "c", "d", "e", "f", "g"]);
        check("é\n漢", &["é", "漢"]);
    }
}
