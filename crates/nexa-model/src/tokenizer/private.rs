//! Characters that no text of a conversation holds, to carry marks through a template.
//!
//! A message that spells `<|im_end|>` must not end its own turn. So before the template sees a message, the first
//! character of each special token in it is swapped for a private one. The template may strip, split or drop the text
//! as it likes: what it writes itself is spelled plainly and becomes a token, what came out of a message is not and
//! does not. The characters are swapped back before the text is encoded.

use serde_json::{Map, Value};

/// Private characters are taken in blocks of this size.
const BLOCK: u32 = 256;
/// The first character of the supplementary private use area.
const FIRST: u32 = 0xF_0000;
/// The last block of the plane.
const BLOCKS: u32 = 0xFFF0 / BLOCK;

/// Special tokens, and the first characters that stand for them in texts.
#[derive(Debug, Clone)]
pub(super) struct Specials {
    /// Longer ones first.
    texts: Vec<String>,
    /// The first characters of the texts.
    initials: Vec<char>,
}

impl Specials {
    pub(super) fn new(mut texts: Vec<String>) -> Self {
        texts.retain(|text| !text.is_empty());
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        let mut initials: Vec<char> = texts.iter().filter_map(|text| text.chars().next()).collect();
        initials.sort_unstable();
        initials.dedup();
        initials.truncate((BLOCK - Private::MARKS) as usize);
        Self { texts, initials }
    }

    /// Whether a text spells a special token.
    pub(super) fn occur_in(&self, text: &str) -> bool {
        text.char_indices().any(|(at, c)| self.initials.contains(&c) && self.at_start_of(&text[at..]))
    }

    fn at_start_of(&self, text: &str) -> bool {
        self.texts.iter().any(|special| text.starts_with(special.as_str()))
    }
}

/// A block of characters that the texts of one conversation do not hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Private {
    first: u32,
}

impl Private {
    /// Characters of the block that are marks; the others stand for initials of special tokens.
    const MARKS: u32 = 3;

    /// Finds a block that none of the texts uses.
    pub(super) fn unused<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        (0..BLOCKS).map(|block| Self { first: FIRST + block * BLOCK }).find(|private| {
            // Most texts hold no character of the plane at all; its first byte tells.
            texts
                .clone()
                .all(|text| !text.bytes().any(|byte| byte == 0xF3) || !text.chars().any(|c| private.holds(c)))
        })
    }

    fn holds(self, c: char) -> bool {
        (self.first..self.first + BLOCK).contains(&u32::from(c))
    }

    fn character(self, index: u32) -> char {
        char::from_u32(self.first + index).expect("the private use area holds only characters")
    }

    /// Stands in place of a message.
    pub(super) fn probe(self) -> char {
        self.character(0)
    }

    /// Opens what a generation tag holds.
    pub(super) fn open(self) -> char {
        self.character(1)
    }

    /// Closes what a generation tag holds.
    pub(super) fn close(self) -> char {
        self.character(2)
    }

    /// Hides the special tokens of a text.
    pub(super) fn hide(self, text: &str, specials: &Specials) -> String {
        let mut hidden = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            match specials.initials.iter().position(|&initial| initial == c) {
                Some(index) if specials.at_start_of(&text[at..]) => {
                    hidden.push(self.character(Self::MARKS + index as u32));
                }
                _ => hidden.push(c),
            }
        }
        hidden
    }

    /// Hides the special tokens of every text in a value; keys are left as they are.
    pub(super) fn hide_in(self, value: &Value, specials: &Specials) -> Value {
        match value {
            Value::String(text) => Value::String(self.hide(text, specials)),
            Value::Array(items) => items.iter().map(|item| self.hide_in(item, specials)).collect(),
            Value::Object(map) => Value::Object(self.hide_in_map(map, specials)),
            other => other.clone(),
        }
    }

    /// Hides the special tokens of every text in a map.
    pub(super) fn hide_in_map(self, map: &Map<String, Value>, specials: &Specials) -> Map<String, Value> {
        map.iter().map(|(key, value)| (key.clone(), self.hide_in(value, specials))).collect()
    }

    /// The character that was hidden, or the same one.
    pub(super) fn reveal(self, c: char, specials: &Specials) -> char {
        let index = u32::from(c).wrapping_sub(self.first + Self::MARKS);
        specials.initials.get(index as usize).copied().unwrap_or(c)
    }
}

/// Every text in a value.
pub(super) fn texts_of(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        Value::Object(map) => map.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_comes_back_and_nothing_else_changes() {
        let specials = Specials::new(["<|a|>", "<|a|>b", "[X]"].map(str::to_owned).to_vec());
        let used = "\u{F0003} text <|a|> [X] <|c|> [Y]";
        let private = Private::unused(std::iter::once(used)).expect("a block is free");
        let hidden = private.hide(used, &specials);
        assert!(!specials.occur_in(&hidden));
        assert_eq!(hidden.matches(['<', '[']).count(), 2);
        let back: String = hidden.chars().map(|c| private.reveal(c, &specials)).collect();
        assert_eq!(back, used);
    }
}
