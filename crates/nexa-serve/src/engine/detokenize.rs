//! Tokens to text, one token at a time, without ever showing half a character.

use std::sync::Arc;

use nexa_core::lm::{Error, Tokenizer};

use super::tools::CallMarks;

/// How a decoder shows bytes that are no UTF-8, or not yet.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Bytes that a character may still lack its last one for; decoders show each as one replacement or all as one.
const MAX_INCOMPLETE: usize = 3;

/// Tokens whose text may stay open. A character that is not complete has at most three bytes, and a token at least one: what is
/// open for longer is broken.
const MAX_OPEN: usize = 8;

/// Decodes a growing answer. The concatenated pieces equal the text of all tokens decoded at once, but for the marks of calls,
/// which are special tokens and yet written.
///
/// Each piece is the difference between two decodings of a short window, because the text of a token may depend on the
/// token before it (a leading space) and a character may be spread over several tokens.
pub(super) struct Detokenizer {
    tokenizer: Arc<dyn Tokenizer>,
    /// Special tokens that are written.
    marks: Arc<CallMarks>,
    /// Tokens whose text is not yet all shown, after some whose text is, for context.
    window: Vec<u32>,
    /// How many tokens of the window are context.
    context: usize,
    /// Bytes of the window's text that were shown.
    shown: usize,
}

impl Detokenizer {
    pub(super) fn new(tokenizer: Arc<dyn Tokenizer>, marks: Arc<CallMarks>) -> Self {
        Self { tokenizer, marks, window: Vec::new(), context: 0, shown: 0 }
    }

    /// Takes a token and returns the text that is certain now. The window is never longer than a few tokens, so that the
    /// next token takes as long however many stand before it.
    pub(super) fn push(&mut self, token_id: u32) -> Result<String, Error> {
        if let Some(&mark) = self.marks.get(&token_id) {
            let rest = self.finish()?;
            self.window.clear();
            (self.context, self.shown) = (0, 0);
            return Ok(rest + mark);
        }
        if self.tokenizer.is_special(token_id) {
            return Ok(String::new());
        }
        self.window.push(token_id);
        let text = self.tokenizer.decode(&self.window)?;
        let certain = certain_length(&text);
        let piece = text.get(self.shown..certain).unwrap_or_default().to_owned();
        let open = self.window.len() - self.context;
        if certain == text.len() && !piece.is_empty() {
            self.window.drain(..self.context);
            self.context = self.window.len();
            self.shown = self.tokenizer.decode(&self.window)?.len();
        } else if certain == text.len() && open == 1 && self.context > 0 {
            // A token without text, which says nothing of those after it either. At the beginning of a text it may be a blank
            // that the decoder drops there, without which that of the next token would be dropped.
            self.window.pop();
        } else if open > MAX_OPEN {
            return self.cut(&text, certain);
        } else {
            self.shown = self.shown.max(certain);
        }
        Ok(piece)
    }

    /// Shows what is broken of a text that has been open for too long, and goes on with those of its last tokens that may
    /// still become a character, after one for context.
    fn cut(&mut self, text: &str, certain: usize) -> Result<String, Error> {
        let mut start = self.window.len() - MAX_INCOMPLETE;
        let (before, context) = loop {
            let before = self.tokenizer.decode(&self.window[..start])?;
            let [context, rest, both] =
                [&self.window[start - 1..start], &self.window[start..], &self.window[start - 1..]]
                    .map(|tokens| self.tokenizer.decode(tokens));
            let (context, rest, both) = (context?, rest?, both?);
            // Where the parts decoded apart give the whole, no character stands across the cut. At the end of all none can.
            let is_apart = format!("{before}{rest}") == text && format!("{context}{rest}") == both;
            if is_apart || start == self.window.len() {
                break (before, context);
            }
            start += 1;
        };
        let shown = certain.max(before.len()).max(self.shown);
        let piece = text.get(self.shown..shown).unwrap_or_default().to_owned();
        self.window.drain(..start - 1);
        (self.context, self.shown) = (1, context.len() + shown - before.len());
        Ok(piece)
    }

    /// Returns what is left at the end of the answer; a character that stayed incomplete shows as U+FFFD.
    pub(super) fn finish(&mut self) -> Result<String, Error> {
        let text = self.tokenizer.decode(&self.window)?;
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = text.len();
        Ok(rest)
    }
}

/// Bytes of a text that more tokens cannot change: all but the replacements at its end, of which those that no longer
/// fit into one incomplete character are certain too.
fn certain_length(text: &str) -> usize {
    let settled = text.trim_end_matches(REPLACEMENT).len();
    let open = (text.len() - settled) / REPLACEMENT.len_utf8();
    settled + open.saturating_sub(MAX_INCOMPLETE) * REPLACEMENT.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_tokenizer::{ByteTokenizer, CALL_MARKS};

    /// The pieces of some tokens, and how many tokens were decoded to find them.
    fn pieces(ids: &[u32]) -> (Vec<String>, usize) {
        let tokenizer = Arc::new(ByteTokenizer::default());
        let mut detokenizer = Detokenizer::new(tokenizer.clone(), Arc::default());
        let mut pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
        pieces.push(detokenizer.finish().unwrap());
        (pieces, tokenizer.decoded())
    }

    #[test]
    fn pieces_add_up_to_the_whole_and_are_never_half_a_character() {
        let check = |ids: &[u32], expected: &[&str]| {
            let (pieces, _) = pieces(ids);
            assert_eq!(pieces, expected, "{ids:?}");
            assert_eq!(pieces.concat(), ByteTokenizer::default().decode(ids).unwrap(), "{ids:?}");
        };
        check(&[0x61, 0x62], &["a", "b", ""]);
        check(&[0xE2, 0x82, 0xAC, 0x61], &["", "", "€", "a", ""]);
        check(&[0xF0, 0x9F, 0x98, 0x80], &["", "", "", "😀", ""]);
        check(&[257, 257, 256, 257], &["the", " the", "", " the", ""]);
        check(&[0xFF, 0x61], &["", "\u{FFFD}a", ""]);
        check(&[0x61, 0xE2, 0x82], &["a", "", "", "\u{FFFD}"]);
        check(
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &["", "", "", "\u{FFFD}", "\u{FFFD}", "\u{FFFD}\u{FFFD}\u{FFFD}"],
        );
        check(&[258, 257, 258, 257], &["", " the", "", " the", ""]);
        // A blank at the beginning is dropped, but the blank of what follows it is not.
        check(&[259, 257, 259, 257], &["", " the", " ", " the", ""]);
        check(&[259, 0x61], &["", "a", ""]);
        check(&[259, 259, 259, 256, 259], &["", " ", " ", "", " ", ""]);
        check(&[259, 0xE2, 0x82, 0xAC], &["", "", "", "€", ""]);
        check(&[259], &["", ""]);
        check(&[], &[""]);
    }

    #[test]
    fn marks_of_calls_are_written_where_they_are_asked_for() {
        let tokenizer: Arc<dyn Tokenizer> = Arc::new(ByteTokenizer::default());
        let check = |marks: CallMarks, expected: &[&str]| {
            let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), Arc::new(marks));
            let ids = [0x61, 0xE2, CALL_MARKS[0], 257, CALL_MARKS[1], 0x62];
            let pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
            assert_eq!(pieces, expected);
        };
        // What is open comes before a mark, and after it a text begins.
        let marks = CallMarks::from([(CALL_MARKS[0], "[X]"), (CALL_MARKS[1], "[Y]")]);
        check(marks, &["a", "", "\u{FFFD}[X]", "the", "[Y]", "b"]);
        check(CallMarks::new(), &["a", "", "", "\u{FFFD} the", "", "b"]);
    }

    #[test]
    fn what_never_becomes_a_character_is_shown_in_time_and_decoded_a_few_times() {
        const COUNT: usize = 10_000;
        let check = |pattern: &[u32], ending: &[u32]| {
            let ids: Vec<u32> = pattern.iter().copied().cycle().take(COUNT).chain(ending.to_vec()).collect();
            let (pieces, decoded) = pieces(&ids);
            assert!(
                pieces.concat() == ByteTokenizer::default().decode(&ids).unwrap(),
                "{pattern:?} {ending:?}"
            );
            assert!(decoded < 40 * COUNT, "{pattern:?}: {decoded} tokens decoded");
            // What is held back is at most as long as a character that is not complete.
            let late = pieces.iter().rev().take(ending.len() + 1).map(String::len).sum::<usize>();
            assert!(late < 64, "{pattern:?}: {late} bytes came at the end");
        };
        for ending in [&[][..], &[0x61], &[257], &[0xF0, 0x9F, 0x98, 0x80], &[0xE2, 0x82], &[256, 0x80]] {
            check(&[0x80], ending);
            check(&[0xFF], ending);
            // Two bytes of three, which show as one.
            check(&[0xE2, 0x82], ending);
            check(&[0xF0, 0x9F, 0x98], ending);
            check(&[0x80, 256], ending);
            check(&[258], ending);
            check(&[259], ending);
            check(&[256], ending);
        }
    }
}
