//! The probabilities of tokens, in the two forms that OpenAI's APIs have for them.

use nexa_core::lm::Tokenizer;
use serde_json::{Map, Value, json};

use super::reply::Echo;
use crate::TokenLogprob;

/// The most that one request may ask for in each place.
pub(super) const MOST: i64 = 20;

/// Goes along the tokens of a text, and tells where each stands in it: how many characters come before the one that it begins
/// in.
///
/// It counts by the bytes of the tokens, so that it is the same in however many pieces the text is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct OffsetTracker {
    /// Whole characters so far.
    characters: usize,
    /// The bytes of the character after them, as far as they have come.
    open: Vec<u8>,
    has_begun: bool,
}

impl OffsetTracker {
    /// For a text that so many characters stand before.
    pub(super) fn after(characters: usize) -> Self {
        Self { characters, ..Self::default() }
    }

    /// Takes the bytes of the next token.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let mut at = None;
        for &byte in bytes {
            let place = self.push(byte);
            at.get_or_insert(place);
        }
        at.unwrap_or(self.characters)
    }

    /// Takes a byte. What can be no character shows as one replacement, as far as it could still have been one.
    fn push(&mut self, byte: u8) -> usize {
        self.open.push(byte);
        if self.open.len() > 1 && !self.may_be_a_character() {
            self.characters += 1;
            self.open = vec![byte];
        }
        let at = self.characters;
        if std::str::from_utf8(&self.open).is_ok() || !self.may_be_a_character() {
            self.characters += 1;
            self.open.clear();
        }
        at
    }

    /// Whether the bytes are one, or are its beginning.
    fn may_be_a_character(&self) -> bool {
        std::str::from_utf8(&self.open).map_or_else(|error| error.error_len().is_none(), |_| true)
    }

    /// Takes a token of an answer. Special tokens are not in its text, nor, after some tokenizers, is the space of the first
    /// word; `text` is what of it comes with this token or later ones.
    fn place_in_answer(&mut self, token_id: u32, text: &str, tokenizer: &dyn Tokenizer) -> usize {
        if tokenizer.is_special(token_id) {
            return self.characters;
        }
        let bytes = tokenizer.token_bytes(token_id).unwrap_or_default();
        let mut shown = bytes.as_slice();
        if !self.has_begun && !text.is_empty() && !text.starts_with(' ') {
            shown = shown.strip_prefix(b" ").unwrap_or(shown);
        }
        self.has_begun |= !bytes.is_empty();
        self.place(shown)
    }
}

/// Where the tokens of a prompt stand in the text that they were read from. A token that the tokenizer has added, as the
/// beginning of a sequence, takes no room there.
pub(super) fn offsets_in(text: &str, token_ids: &[u32], tokenizer: &dyn Tokenizer) -> Vec<usize> {
    let (mut at, mut counted, mut characters) = (0, 0, 0);
    let offset = |&token_id: &u32| {
        let boundary = text.floor_char_boundary(at);
        characters += text[counted..boundary].chars().count();
        counted = boundary;
        let rest = &text.as_bytes()[at..];
        let bytes = tokenizer.token_bytes(token_id).unwrap_or_default();
        let bare = bytes.strip_prefix(b" ").unwrap_or(&bytes);
        at += if rest.starts_with(&bytes) {
            bytes.len()
        } else if rest.starts_with(bare) {
            bare.len()
        } else if tokenizer.is_special(token_id) {
            0
        } else {
            // The tokenizer has changed the text before it cut it.
            bytes.len().min(rest.len())
        };
        characters
    };
    token_ids.iter().map(offset).collect()
}

/// Where tokens stand in the text that all of them together are, special ones by their names.
pub(super) fn offsets_of(token_ids: &[u32], tokenizer: &dyn Tokenizer) -> Vec<usize> {
    let mut tracker = OffsetTracker::default();
    let offset = |&token_id: &u32| tracker.place(&tokenizer.token_bytes(token_id).unwrap_or_default());
    token_ids.iter().map(offset).collect()
}

/// Those of a chat: a list with an entry for each token.
pub(super) fn of_chat(tokens: &[TokenLogprob], tokenizer: &dyn Tokenizer) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let top: Vec<Value> = token.top.iter().map(|&(id, nats)| entry(id, nats, tokenizer)).collect();
            let mut entry = entry(token.token_id, token.logprob_nats, tokenizer);
            entry["top_logprobs"] = top.into();
            entry
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// Those of an answer: parallel lists, with places in the text. `text` is what is sent with them.
pub(super) fn of_completion(
    tokens: &[TokenLogprob],
    text: &str,
    tracker: &mut OffsetTracker,
    tokenizer: &dyn Tokenizer,
) -> Value {
    let entry = |token: &TokenLogprob| Entry {
        token_id: token.token_id,
        offset: tracker.place_in_answer(token.token_id, text, tokenizer),
        top: Some(top(token, usize::MAX, tokenizer)),
        logprob: Some(finite(token.logprob_nats)),
    };
    lists(tokens.iter().map(entry).collect(), tokenizer)
}

/// Those of an echoed prompt, in the same lists. There is none for its first token; of each other the `most` most probable are
/// told.
pub(super) fn of_echo(echo: &Echo, tokens: &[TokenLogprob], most: usize, tokenizer: &dyn Tokenizer) -> Value {
    let rated = [None].into_iter().chain(tokens.iter().map(Some));
    let entry = |((&token_id, &offset), rated): ((&u32, &usize), Option<&TokenLogprob>)| Entry {
        token_id,
        offset,
        top: rated.map(|token| top(token, most, tokenizer)),
        logprob: rated.map(|token| finite(token.logprob_nats)),
    };
    lists(echo.token_ids.iter().zip(&echo.offsets).zip(rated).map(entry).collect(), tokenizer)
}

/// What the lists of a completion say of a token.
struct Entry {
    token_id: u32,
    offset: usize,
    top: Option<Value>,
    logprob: Option<Value>,
}

fn lists(entries: Vec<Entry>, tokenizer: &dyn Tokenizer) -> Value {
    json!({
        "tokens": entries.iter().map(|entry| written(entry.token_id, tokenizer)).collect::<Vec<_>>(),
        "token_logprobs": entries.iter().map(|entry| entry.logprob.clone()).collect::<Vec<_>>(),
        "top_logprobs": entries.iter().map(|entry| entry.top.clone()).collect::<Vec<_>>(),
        "text_offset": entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(),
    })
}

/// The `most` most probable tokens in the place of one, and that one.
fn top(token: &TokenLogprob, most: usize, tokenizer: &dyn Tokenizer) -> Value {
    let top = token.top.iter().take(most);
    let mut shown: Map<String, Value> =
        top.map(|&(id, nats)| (written(id, tokenizer), finite(nats))).collect();
    shown.entry(written(token.token_id, tokenizer)).or_insert_with(|| finite(token.logprob_nats));
    shown.into()
}

/// A token as OpenAI's completions write it: its text, and where it is only a part of a character, its bytes.
fn written(token_id: u32, tokenizer: &dyn Tokenizer) -> String {
    match String::from_utf8(tokenizer.token_bytes(token_id).unwrap_or_default()) {
        Ok(text) => text,
        Err(error) => format!("bytes:{}", error.as_bytes().escape_ascii()),
    }
}

/// Those of a prompt, in vLLM's form: for each token an object of the `most` most probable and itself, by id. The first token
/// has none.
pub(super) fn of_prompt(tokens: &[TokenLogprob], most: usize, tokenizer: &dyn Tokenizer) -> Value {
    let entry = |id: u32, nats: f32, rank: usize| {
        let entry = json!({"logprob": finite(nats), "rank": rank, "decoded_token": text(id, tokenizer)});
        (id.to_string(), entry)
    };
    let rated = tokens.iter().map(|token| {
        let own = [entry(token.token_id, token.logprob_nats, token.rank)];
        let top = token.top.iter().take(most).enumerate();
        let others = top.filter(|(_, (id, _))| *id != token.token_id);
        let others = others.map(|(place, &(id, nats))| entry(id, nats, place + 1));
        Value::Object(own.into_iter().chain(others).collect::<Map<_, _>>())
    });
    [Value::Null].into_iter().chain(rated).collect()
}

fn entry(token_id: u32, logprob_nats: f32, tokenizer: &dyn Tokenizer) -> Value {
    let bytes = tokenizer.token_bytes(token_id).unwrap_or_default();
    json!({
        "token": String::from_utf8_lossy(&bytes),
        "logprob": finite(logprob_nats),
        "bytes": bytes,
    })
}

fn text(token_id: u32, tokenizer: &dyn Tokenizer) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(token_id).unwrap_or_default()).into_owned()
}

/// JSON has no infinities; OpenAI writes -9999 for what is as good as impossible.
fn finite(logprob_nats: f32) -> Value {
    json!(f64::from(logprob_nats.max(-9999.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_tokenizer::ByteTokenizer;

    #[test]
    fn offsets_are_characters_of_the_text() {
        // The places of the tokens of an answer whose text is this.
        let check = |token_ids: &[u32], text: &str, expected: &[usize]| {
            let mut tracker = OffsetTracker::after(10);
            let found =
                token_ids.iter().map(|&id| tracker.place_in_answer(id, text, &ByteTokenizer::default()) - 10);
            assert_eq!(found.collect::<Vec<_>>(), expected, "{token_ids:?}");
        };
        check(&[0x61, 0xE2, 0x82, 0xAC, 0x62], "a€b", &[0, 1, 1, 1, 2]);
        check(&[0xF0, 0x9F, 0x98, 0x80, 257, 0x61], "😀 thea", &[0, 0, 0, 0, 1, 5]);
        check(&[256, 0x61, 256, 0x62], "ab", &[0, 0, 1, 1]);
        // What is no character shows as one replacement, or several.
        check(&[0xFF, 0x61], "\u{FFFD}a", &[0, 1]);
        check(&[0xE2, 0x82, 0x61], "\u{FFFD}a", &[0, 0, 1]);
        check(&[0xE2, 0xE2, 0x82, 0xAC], "\u{FFFD}€", &[0, 1, 1, 1]);
        check(&[0xE0, 0x80, 0x61], "\u{FFFD}\u{FFFD}a", &[0, 1, 2]);
        // A space before the first word may be lost; one before another is not.
        check(&[257, 257, 0x61], "the thea", &[0, 3, 7]);
        check(&[257, 257, 0x61], " the thea", &[0, 4, 8]);
    }

    #[test]
    fn tokens_of_a_prompt_stand_where_its_text_has_them() {
        let check = |text: &str, token_ids: &[u32], expected: &[usize]| {
            assert_eq!(offsets_in(text, token_ids, &ByteTokenizer::default()), expected, "{text}");
        };
        // Whether the tokenizer has put the beginning before a text, or the text spells it.
        check("a€b", &[256, 0x61, 0xE2, 0x82, 0xAC, 0x62], &[0, 0, 1, 1, 1, 2]);
        check("<s>a", &[256, 0x61], &[0, 3]);
        check("the the", &[256, 257, 257], &[0, 0, 3]);
        check("", &[256], &[0]);
        assert_eq!(
            offsets_of(&[256, 0xE2, 0x82, 0xAC, 0xFF, 0x61], &ByteTokenizer::default()),
            [0, 3, 3, 3, 4, 5]
        );
    }

    #[test]
    fn the_chosen_token_is_among_those_that_are_told() {
        let token = |top: &[(u32, f32)]| TokenLogprob {
            token_id: 0xE2,
            logprob_nats: -3.0,
            rank: 3,
            top: top.to_vec(),
        };
        let check = |token: TokenLogprob, expected: Value| {
            let told = of_completion(&[token], "", &mut OffsetTracker::default(), &ByteTokenizer::default());
            assert_eq!(told["top_logprobs"], json!([expected]));
            assert_eq!(told["tokens"], json!(["bytes:\\xe2"]));
        };
        check(token(&[]), json!({"bytes:\\xe2": -3.0}));
        check(token(&[(0x61, -1.0), (0x62, -2.0)]), json!({"a": -1.0, "b": -2.0, "bytes:\\xe2": -3.0}));
        check(token(&[(0x61, -1.0), (0xE2, -3.0)]), json!({"a": -1.0, "bytes:\\xe2": -3.0}));
    }
}
