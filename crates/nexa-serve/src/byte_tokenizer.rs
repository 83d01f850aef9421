//! A tokenizer for tests: bytes as ids, and a token for each habit of real tokenizers that the engine has to cope with.

use std::sync::atomic::{AtomicUsize, Ordering};

use nexa_core::lm::{ChatMessage, EncodedChat, Error, Tokenizer, ToolSyntax};

/// The special tokens `[TOOL_CALLS]`, `[ARGS]` and `[CALL_ID]`.
pub(crate) const CALL_MARKS: [u32; 3] = [260, 261, 262];

/// Ids below 256 are bytes, 256 is the special `<s>`, 257 is ` the`, 258 has no text, 259 is a blank, and [`CALL_MARKS`]
/// follow. The blank of the first token of a text is dropped, as SentencePiece's is. It counts the tokens that it decodes.
#[derive(Debug, Default)]
pub(crate) struct ByteTokenizer {
    decoded: AtomicUsize,
}

impl ByteTokenizer {
    /// How many tokens it has decoded so far.
    pub(crate) fn decoded(&self) -> usize {
        self.decoded.load(Ordering::Relaxed)
    }
}

impl Tokenizer for ByteTokenizer {
    fn vocab_size(&self) -> usize {
        263
    }
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn decode(&self, token_ids: &[u32]) -> Result<String, Error> {
        self.decoded.fetch_add(token_ids.len(), Ordering::Relaxed);
        let mut bytes = Vec::new();
        let shown = token_ids.iter().filter(|&&id| !self.is_special(id));
        for (position, &id) in shown.enumerate() {
            let token = self.token_bytes(id).unwrap_or_default();
            let bare = if position == 0 && id > 0xFF { token.strip_prefix(b" ") } else { None };
            bytes.extend_from_slice(bare.unwrap_or(&token));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
    fn token_bytes(&self, token_id: u32) -> Option<Vec<u8>> {
        Some(match token_id {
            256 => b"<s>".to_vec(),
            257 => b" the".to_vec(),
            258 => Vec::new(),
            259 => b" ".to_vec(),
            260 => b"[TOOL_CALLS]".to_vec(),
            261 => b"[ARGS]".to_vec(),
            262 => b"[CALL_ID]".to_vec(),
            byte => vec![u8::try_from(byte).ok()?],
        })
    }
    fn is_special(&self, token_id: u32) -> bool {
        token_id == 256 || CALL_MARKS.contains(&token_id)
    }
    fn tool_syntax(&self) -> Option<ToolSyntax> {
        Some(ToolSyntax::Array)
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
