//! Texts as words that can be compared: lower case, without punctuation and diacritics.
//!
//! # Source
//! The steps are those of datatrove's `simplify_text` (lower case, numbers, punctuation, white space, diacritics).
//!
//! # Departures
//! Words end where punctuation or white space does; no tokenizer of a language is asked. Ideographs and kana, which are
//! written without spaces, are words one by one.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The words of a text, in one buffer with a space between each two.
#[derive(Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Words {
    /// Reads the words of a text, in place of those that it held. With `mask_numbers` every number is `0`.
    pub fn read(&mut self, text: &str, mask_numbers: bool) {
        self.bytes.clear();
        self.starts.clear();
        if text.is_ascii() {
            self.read_chars(text.bytes().map(char::from), mask_numbers);
        } else {
            let without_marks = text.nfd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
            self.read_chars(without_marks.flat_map(char::to_lowercase), mask_numbers);
        }
        if self.bytes.last() == Some(&b' ') {
            self.bytes.pop();
        }
    }

    /// How many words there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// All words, with a space between each two.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The words from one on, with a space between each two.
    ///
    /// # Panics
    /// Panics when there are not so many.
    #[inline]
    pub fn span(&self, first: usize, count: usize) -> &[u8] {
        let end = self.starts.get(first + count).map_or(self.bytes.len(), |next| next - 1);
        &self.bytes[self.starts[first]..end]
    }

    fn read_chars(&mut self, chars: impl Iterator<Item = char>, mask_numbers: bool) {
        let mut chars = chars.peekable();
        let mut inside = false;
        let mut in_number = false;
        while let Some(c) = chars.next() {
            if mask_numbers && c.is_ascii_digit() {
                if !in_number {
                    self.push(&mut inside, '0');
                }
                // A separator between digits belongs to the number.
                if matches!(chars.peek(), Some('.' | ',')) {
                    chars.next();
                    in_number = chars.peek().is_some_and(char::is_ascii_digit);
                    if !in_number {
                        self.end(&mut inside);
                    }
                } else {
                    in_number = true;
                }
                continue;
            }
            in_number = false;
            if is_word_of_its_own(c) {
                self.end(&mut inside);
                self.push(&mut inside, c);
                self.end(&mut inside);
            } else if c.is_alphanumeric() || (inside && is_combining_mark(c)) {
                self.push(&mut inside, c.to_ascii_lowercase());
            } else {
                self.end(&mut inside);
            }
        }
    }

    #[inline]
    fn push(&mut self, inside: &mut bool, c: char) {
        if !*inside {
            self.starts.push(self.bytes.len());
            *inside = true;
        }
        if c.is_ascii() {
            self.bytes.push(c as u8);
        } else {
            self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    #[inline]
    fn end(&mut self, inside: &mut bool) {
        if std::mem::take(inside) {
            self.bytes.push(b' ');
        }
    }
}

fn is_word_of_its_own(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_taken_out() {
        let check = |text: &str, mask_numbers: bool, expected: &[&str]| {
            let mut words = Words::default();
            words.read("left over from before", false);
            words.read(text, mask_numbers);
            let found: Vec<_> =
                (0..words.len()).map(|at| str::from_utf8(words.span(at, 1)).unwrap()).collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(str::from_utf8(&words.bytes).unwrap(), expected.join(" "));
        };
        check("  The CAT,\tsat.\n", false, &["the", "cat", "sat"]);
        check("It's 3.5 km, or 1,200 m; x2y.", true, &["it", "s", "0", "km", "or", "0", "m", "x0y"]);
        check("It's 3.5 km. 7. a", true, &["it", "s", "0", "km", "0", "a"]);
        check("It's 3.5 km", false, &["it", "s", "3", "5", "km"]);
        check("Crème BRÛLÉE – naïve", false, &["creme", "brulee", "naive"]);
        check("日本 in カナ", false, &["日", "本", "in", "カ", "ナ"]);
        check("... !", true, &[]);
        check("", true, &[]);
    }

    #[test]
    fn a_span_is_words_with_spaces_between() {
        let mut words = Words::default();
        words.read("One, two: three", false);
        assert_eq!(words.span(0, 2), b"one two");
        assert_eq!(words.span(1, 2), b"two three");
        assert_eq!(words.span(0, 3), b"one two three");
    }
}
