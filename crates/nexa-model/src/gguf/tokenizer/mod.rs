//! The tokenizer inside a GGUF file, and the files `tokenizer.json` and `tokenizer_config.json` of Hugging Face.
//!
//! [`Vocabulary`] is the form between: `metadata` reads and writes it as keys, `files` as JSON. Two kinds exist,
//! byte-level BPE with merges (`byte_level`), whose splitting rule GGUF only names (`pre_tokenizer`), and the BPE of
//! SentencePiece with scores (`sentence_piece`).

mod byte_level;
mod files;
mod metadata;
mod pre_tokenizer;
mod sentence_piece;

use self::pre_tokenizer::PreTokenizer;

/// What a token is for, under the numbers of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    /// A piece of text.
    Normal = 1,
    /// What stands for what cannot be encoded.
    Unknown = 2,
    /// A mark that text never becomes by itself.
    Control = 3,
    /// A piece of text that is found before all others.
    UserDefined = 4,
    /// A row of the embedding without a token.
    Unused = 5,
    /// One byte, for text that has no other token.
    Byte = 6,
}

impl TokenType {
    const ALL: [Self; 6] =
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&token_type| token_type as u32 == id)
    }
}

/// One entry of the vocabulary; its place is its id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) token_type: TokenType,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Model {
    /// Bytes are letters, merged in the order of a list.
    ByteLevel {
        pre_tokenizer: PreTokenizer,
        /// Left and right, the first to be merged first.
        merges: Vec<(String, String)>,
    },
    /// Characters are merged to the piece with the highest score.
    SentencePiece {
        /// One for each token.
        scores: Vec<f32>,
        /// Whether a blank is put before a text.
        add_space_prefix: bool,
    },
}

/// A tokenizer with its chat template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<Token>,
    pub(super) model: Model,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    /// Ends a turn, where that is not the end of the text.
    pub(super) eot: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) chat_template: Option<String>,
}

impl Vocabulary {
    fn text(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(id? as usize).map(|token| token.text.as_str())
    }

    /// The tokens that end an answer.
    pub(super) fn ends(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = self.eos.into_iter().chain(self.eot).collect();
        ends.dedup();
        ends
    }
}

#[cfg(test)]
mod tests;
