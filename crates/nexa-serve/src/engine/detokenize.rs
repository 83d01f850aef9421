//! Tokens to text, one token at a time, without ever showing half a character.

use std::sync::Arc;

use nexa_core::lm::{Error, Tokenizer};

/// How a decoder shows bytes that are no UTF-8, or not yet.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Bytes that a character may still lack its last one for; decoders show each as one replacement or all as one.
const MAX_INCOMPLETE: usize = 3;

/// Decodes a growing answer. The concatenated pieces equal the text of all tokens decoded at once.
///
/// Each piece is the difference between two decodings of a short window, because the text of a token may depend on the
/// token before it (a leading space) and a character may be spread over several tokens.
pub(super) struct Detokenizer {
    tokenizer: Arc<dyn Tokenizer>,
    /// Tokens whose text is not yet all shown, after some whose text is, for context.
    window: Vec<u32>,
    /// How many tokens of the window are context.
    context: usize,
    /// Bytes of the window's text that were shown.
    shown: usize,
}

impl Detokenizer {
    pub(super) fn new(tokenizer: Arc<dyn Tokenizer>) -> Self {
        Self { tokenizer, window: Vec::new(), context: 0, shown: 0 }
    }

    /// Takes a token and returns the text that is certain now.
    pub(super) fn push(&mut self, token_id: u32) -> Result<String, Error> {
        self.window.push(token_id);
        let text = self.tokenizer.decode(&self.window)?;
        let certain = certain_length(&text);
        let piece = text.get(self.shown..certain).unwrap_or_default().to_owned();
        if certain == text.len() && !piece.is_empty() {
            self.window.drain(..self.context);
            self.context = self.window.len();
            self.shown = self.tokenizer.decode(&self.window)?.len();
        } else {
            self.shown = self.shown.max(certain);
        }
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
    use nexa_core::lm::{ChatMessage, EncodedChat};

    use super::*;

    /// Ids below 256 are bytes, 256 is special, 257 is ` the`, whose space is dropped at the start of a text.
    struct Bytes;

    impl Tokenizer for Bytes {
        fn vocab_size(&self) -> usize {
            258
        }
        fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
            Ok(text.bytes().map(u32::from).collect())
        }
        fn decode(&self, token_ids: &[u32]) -> Result<String, Error> {
            let mut bytes = Vec::new();
            for (position, &id) in token_ids.iter().enumerate() {
                match id {
                    256 => {}
                    257 if position == 0 => bytes.extend(b"the"),
                    257 => bytes.extend(b" the"),
                    byte => bytes.push(byte as u8),
                }
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        fn token_bytes(&self, _: u32) -> Option<Vec<u8>> {
            None
        }
        fn is_special(&self, token_id: u32) -> bool {
            token_id == 256
        }
        fn encode_prompt(&self, _: &[ChatMessage]) -> Result<Vec<u32>, Error> {
            Err(Error::Tokenizer("no template".to_owned()))
        }
        fn encode_chat(&self, _: &[ChatMessage]) -> Result<EncodedChat, Error> {
            Err(Error::Tokenizer("no template".to_owned()))
        }
        fn prefix_token(&self) -> u32 {
            256
        }
        fn stop_tokens(&self) -> &[u32] {
            &[256]
        }
    }

    #[test]
    fn pieces_add_up_to_the_whole_and_are_never_half_a_character() {
        let check = |ids: &[u32], expected: &[&str]| {
            let mut detokenizer = Detokenizer::new(Arc::new(Bytes));
            let mut pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
            pieces.push(detokenizer.finish().unwrap());
            assert_eq!(pieces, expected, "{ids:?}");
            assert_eq!(pieces.concat(), Bytes.decode(ids).unwrap(), "{ids:?}");
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
        check(&[], &[""]);
    }
}
