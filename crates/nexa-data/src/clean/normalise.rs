//! One spelling for one text: Unicode form, invisible characters, line ends, white space.
//!
//! Broken encodings (`Ã©` for `é`) are left as they are: the one library that mends them in Rust brings the whole of
//! ICU a second time, and a wrong guess changes a text for good.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// What is made alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalise {
    /// The form of composed characters.
    pub unicode: Form,
    /// Whether characters go that nobody sees: controls, zero-width spaces, byte-order marks, overrides of the
    /// direction. Joiners stay, since scripts and emoji are spelled with them.
    pub invisible: bool,
    /// Whether every line ends with one line feed.
    pub line_ends: bool,
    /// What becomes of white space.
    pub white_space: WhiteSpace,
}

impl Default for Normalise {
    fn default() -> Self {
        Self { unicode: Form::Nfc, invisible: true, line_ends: true, white_space: WhiteSpace::Keep }
    }
}

/// A form of Unicode (UAX 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it came.
    None,
    /// Composed.
    Nfc,
    /// Composed, and compatible characters made one: `ﬁ` becomes `fi`, `²` becomes `2`.
    Nfkc,
}

/// What becomes of white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhiteSpace {
    /// Stays.
    Keep,
    /// Other blanks become a space, none stands at the end of a line or the text, and no two lines in a row are empty.
    Tidy,
}

impl Normalise {
    /// Nothing at all: every text stays as it is.
    pub const NOTHING: Self =
        Self { unicode: Form::None, invisible: false, line_ends: false, white_space: WhiteSpace::Keep };

    /// Normalises a text; one that is in order is not copied.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        if self.line_ends && text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            text = Cow::Owned(line_ends(&text));
        }
        if self.invisible && text.contains(is_invisible) {
            text = Cow::Owned(text.chars().filter(|&c| !is_invisible(c)).collect());
        }
        // ASCII is in every form.
        if !text.is_ascii() {
            match self.unicode {
                Form::Nfc if is_nfc_quick(text.chars()) != IsNormalized::Yes => {
                    text = Cow::Owned(text.nfc().collect());
                }
                Form::Nfkc if is_nfkc_quick(text.chars()) != IsNormalized::Yes => {
                    text = Cow::Owned(text.nfkc().collect());
                }
                _ => {}
            }
        }
        match self.white_space {
            WhiteSpace::Keep => text,
            WhiteSpace::Tidy => tidy(text),
        }
    }
}

fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\r', '\u{85}', '\u{2028}', '\u{2029}'], "\n")
}

/// Whether a character takes no room and changes no other that is seen.
fn is_invisible(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        _ => c.is_control(),
    }
}

fn tidy(text: Cow<'_, str>) -> Cow<'_, str> {
    let mut tidied = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.split('\n') {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidied.extend(line.chars().map(|c| if c.is_whitespace() { ' ' } else { c }));
            tidied.push('\n');
        }
    }
    let tidied = tidied.trim_matches('\n');
    if tidied == text { text } else { Cow::Owned(tidied.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(normalise: Normalise, text: &str, expected: &str) {
        let found = normalise.apply(text);
        assert_eq!(found, expected, "{text:?}");
        assert_eq!(normalise.apply(&found), expected, "a normal text stays as it is: {text:?}");
    }

    #[test]
    fn forms_compose_and_make_compatible() {
        let form = |unicode| Normalise { unicode, ..Normalise::NOTHING };
        check(form(Form::None), "e\u{301} ﬁ", "e\u{301} ﬁ");
        check(form(Form::Nfc), "e\u{301} ﬁ x²", "é ﬁ x²");
        check(form(Form::Nfkc), "e\u{301} ﬁ x²", "é fi x2");
    }

    #[test]
    fn what_nobody_sees_goes_and_joiners_stay() {
        let only = Normalise { invisible: true, ..Normalise::NOTHING };
        check(only, "\u{feff}a\u{200b}b\u{0}c\u{ad}d\u{202e}e\u{7f}", "abcde");
        check(only, "tab\tline\n", "tab\tline\n");
        check(only, "👩\u{200d}🔬 می\u{200c}خواهم", "👩\u{200d}🔬 می\u{200c}خواهم");
    }

    #[test]
    fn lines_end_alike() {
        let only = Normalise { line_ends: true, ..Normalise::NOTHING };
        check(only, "a\r\nb\rc\u{2028}d\u{85}e\n", "a\nb\nc\nd\ne\n");
    }

    #[test]
    fn white_space_is_tidied_only_where_asked() {
        check(Normalise::default(), "a  b \n\n\n c", "a  b \n\n\n c");
        let tidy = Normalise { white_space: WhiteSpace::Tidy, ..Normalise::default() };
        check(tidy, "\n\na\u{a0}\tb  \n\n\n\nc\u{3000}\n", "a  b\n\nc");
        check(tidy, "  indented\n    more", "  indented\n    more");
        check(tidy, "", "");
    }

    #[test]
    fn a_text_in_order_is_not_copied() {
        assert!(matches!(Normalise::default().apply("plain é\n"), Cow::Borrowed(_)));
    }
}
