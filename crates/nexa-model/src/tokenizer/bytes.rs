//! The bytes that a token adds to a text.

use std::collections::HashMap;

use tokenizers::{DecoderWrapper, PreTokenizerWrapper};

use super::ChatTokenizer;

/// How a vocabulary spells bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// One character stands for each byte, as in GPT-2.
    Characters,
    /// As text, in which `▁` is a blank and `<0x0A>` a byte that is no character.
    Text,
}

impl ChatTokenizer {
    /// Returns the bytes that a token adds to a text; of a special token, its name. `None` where the vocabulary has no
    /// such token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.tokenizer.id_to_token(id)?;
        if self.tokenizer.get_added_tokens_decoder().contains_key(&id) {
            return Some(token.into_bytes());
        }
        Some(match self.spelling() {
            Spelling::Characters => bytes_of_characters(&token),
            Spelling::Text => bytes_of_text(&token),
        })
    }

    /// Every token by the bytes that it adds to a text. Where several add the same, it is the first that is no special
    /// token and no single byte.
    pub fn tokens_by_bytes(&self) -> HashMap<Vec<u8>, u32> {
        let is_last_resort =
            |id: u32| self.is_special(id) || self.token_text(id).is_some_and(|token| byte(&token).is_some());
        let (last, first): (Vec<u32>, Vec<u32>) =
            (0..self.vocab_size as u32).partition(|&id| is_last_resort(id));
        let mut tokens = HashMap::with_capacity(self.vocab_size);
        for id in first.into_iter().chain(last) {
            if let Some(bytes) = self.token_bytes(id) {
                tokens.entry(bytes).or_insert(id);
            }
        }
        tokens
    }

    fn spelling(&self) -> Spelling {
        let decodes = self.tokenizer.get_decoder().is_some_and(|decoder| match decoder {
            DecoderWrapper::Sequence(parts) => {
                parts.get_decoders().iter().any(|part| matches!(part, DecoderWrapper::ByteLevel(_)))
            }
            decoder => matches!(decoder, DecoderWrapper::ByteLevel(_)),
        });
        let splits = matches!(self.tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(_)));
        if decodes || splits { Spelling::Characters } else { Spelling::Text }
    }
}

/// Bytes that are printable characters of Latin-1 stand for themselves, the others in their order for the characters
/// from U+0100 on. A character that stands for no byte is text.
fn bytes_of_characters(token: &str) -> Vec<u8> {
    let is_printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        let code = u32::from(character);
        let byte = match u8::try_from(code) {
            Ok(byte) => is_printable(&byte).then_some(byte),
            Err(_) => (0..=u8::MAX).filter(|byte| !is_printable(byte)).nth((code - 0x100) as usize),
        };
        match byte {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

fn bytes_of_text(token: &str) -> Vec<u8> {
    byte(token).map_or_else(|| token.replace('▁', " ").into_bytes(), |byte| vec![byte])
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::Tokenizer as _;

    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_bytes_of_the_tokens_are_those_of_the_text() {
        let tokenizer = sample();
        for text in ["Ava has 12 apples.\n\t", "żółć 漢字 🦀", "\u{0}\u{7f}\u{ad}"] {
            let ids = tokenizer.encode(text).expect("encodes");
            let bytes = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).expect("a token"));
            assert_eq!(bytes.collect::<Vec<_>>(), text.as_bytes());
        }
        assert_eq!(tokenizer.token_bytes(290), None);
        let end = tokenizer.eos_token().expect("has one");
        assert_eq!(tokenizer.token_bytes(end).as_deref(), Some(&b"<|im_end|>"[..]));
    }

    #[test]
    fn every_token_is_found_by_its_bytes() {
        let tokenizer = sample();
        let tokens = tokenizer.tokens_by_bytes();
        for id in 0..tokenizer.vocab_size() as u32 {
            assert_eq!(tokens[&tokenizer.token_bytes(id).expect("a token")], id);
        }
    }

    #[test]
    fn vocabularies_of_text_spell_blanks_and_bytes() {
        let check = |token: &str, expected: &[u8]| assert_eq!(bytes_of_text(token), expected);
        check("▁the", b" the");
        check("<0x0A>", b"\n");
        check("<0xZZ>", b"<0xZZ>");
        check("é", "é".as_bytes());
    }
}
