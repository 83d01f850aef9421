//! How two texts differ, word by word.

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

/// Longer pairs are shown without marks: telling words apart grows with the product of the lengths.
const MAX_BYTES: usize = 40_000;

/// A part of a text, and whether only this one of two texts has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) is_own: bool,
}

/// Both texts in parts, with what only one of them has marked in it.
pub(crate) fn differences(a: &str, b: &str) -> (Vec<Part>, Vec<Part>) {
    if a.len() + b.len() > MAX_BYTES {
        let whole = |text: &str| vec![Part { text: text.to_owned(), is_own: false }];
        return (whole(a), whole(b));
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for change in TextDiff::from_words(a, b).iter_all_changes() {
        let is_own = change.tag() != ChangeTag::Equal;
        if change.tag() != ChangeTag::Insert {
            append(&mut first, change.value(), is_own);
        }
        if change.tag() != ChangeTag::Delete {
            append(&mut second, change.value(), is_own);
        }
    }
    (first, second)
}

fn append(parts: &mut Vec<Part>, text: &str, is_own: bool) {
    match parts.last_mut() {
        Some(last) if last.is_own == is_own => last.text.push_str(text),
        _ => parts.push(Part { text: text.to_owned(), is_own }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_text_has_is_marked_in_it() {
        let (a, b) = differences("the answer is 12 apples", "the answer is 13 apples");
        let marked = |parts: &[Part]| -> Vec<String> {
            parts.iter().filter(|part| part.is_own).map(|part| part.text.clone()).collect()
        };
        assert_eq!((marked(&a), marked(&b)), (vec!["12".to_owned()], vec!["13".to_owned()]));
        let joined: String = a.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(joined, "the answer is 12 apples");
        let long = "x ".repeat(MAX_BYTES);
        assert_eq!(differences(&long, "y").0.len(), 1);
        assert_eq!(differences("", ""), (Vec::new(), Vec::new()));
    }
}
