//! A vocabulary as keys of a GGUF file.

use super::pre_tokenizer::PreTokenizer;
use super::{Model, Token, TokenType, Vocabulary};
use crate::gguf::error::Error;
use crate::gguf::metadata::{Metadata, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const TEMPLATE: &str = "tokenizer.chat_template";

/// What `tokenizer.ggml.model` calls byte-level BPE.
const BYTE_LEVEL: &str = "gpt2";
/// What it calls the BPE of SentencePiece.
const SENTENCE_PIECE: &str = "llama";

impl Vocabulary {
    /// Reads the tokenizer of a file.
    ///
    /// # Errors
    /// Names the key that is missing or cannot be honoured.
    pub(in crate::gguf) fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let tokens = tokens(metadata)?;
        let model = match metadata.require(MODEL, metadata.string(MODEL)?)? {
            BYTE_LEVEL => {
                let pre = metadata.string(PRE)?.unwrap_or("default");
                let pre_tokenizer = PreTokenizer::from_name(pre).ok_or_else(|| {
                    let known = PreTokenizer::names();
                    metadata.fail(PRE, format!("is `{pre}`, whose rules are not known (known: {known})"))
                })?;
                Model::ByteLevel { pre_tokenizer, merges: merges(metadata)? }
            }
            SENTENCE_PIECE => {
                let scores = metadata.require(SCORES, metadata.numbers(SCORES)?)?;
                if scores.len() != tokens.len() {
                    let problem = format!("has {} entries for {} tokens", scores.len(), tokens.len());
                    return Err(metadata.fail(SCORES, problem));
                }
                Model::SentencePiece {
                    scores: scores.into_iter().map(|score| score as f32).collect(),
                    add_space_prefix: metadata.boolean(ADD_SPACE)?.unwrap_or(true),
                }
            }
            other => {
                let problem =
                    format!("is `{other}`, only `{BYTE_LEVEL}` and `{SENTENCE_PIECE}` are supported");
                return Err(metadata.fail(MODEL, problem));
            }
        };
        // What llama.cpp does where a file says nothing.
        let add_bos = match &model {
            Model::ByteLevel { pre_tokenizer, .. } => *pre_tokenizer == PreTokenizer::Llama3,
            Model::SentencePiece { .. } => true,
        };
        let id = |key: &str| match metadata.id(key)? {
            Some(id) if id as usize >= tokens.len() => {
                Err(metadata.fail(key, format!("is {id}, outside a vocabulary of {}", tokens.len())))
            }
            id => Ok(id),
        };
        Ok(Self {
            bos: id(BOS)?,
            eos: id(EOS)?,
            eot: id(EOT)?,
            pad: id(PAD)?,
            unknown: id(UNKNOWN)?,
            add_bos: metadata.boolean(ADD_BOS)?.unwrap_or(add_bos),
            add_eos: metadata.boolean(ADD_EOS)?.unwrap_or(false),
            chat_template: metadata.string(TEMPLATE)?.map(str::to_owned),
            model,
            tokens,
        })
    }

    /// Adds the tokenizer's keys.
    pub(in crate::gguf) fn put(&self, metadata: &mut Metadata) {
        let text = |text: &str| Value::String(text.to_owned());
        let list = |values: Vec<Value>| Value::Array(values);
        match &self.model {
            Model::ByteLevel { pre_tokenizer, .. } => {
                metadata.put(MODEL, text(BYTE_LEVEL));
                metadata.put(PRE, text(pre_tokenizer.name()));
            }
            Model::SentencePiece { .. } => {
                metadata.put(MODEL, text(SENTENCE_PIECE));
                metadata.put(PRE, text("default"));
            }
        }
        metadata.put(TOKENS, list(self.tokens.iter().map(|token| text(&token.text)).collect()));
        let types = self.tokens.iter().map(|token| Value::I32(token.token_type as i32));
        metadata.put(TYPES, list(types.collect()));
        match &self.model {
            Model::ByteLevel { merges, .. } => {
                let merges = merges.iter().map(|(left, right)| Value::String(format!("{left} {right}")));
                metadata.put(MERGES, list(merges.collect()));
            }
            Model::SentencePiece { scores, add_space_prefix } => {
                metadata.put(SCORES, list(scores.iter().map(|&score| Value::F32(score)).collect()));
                metadata.put(ADD_SPACE, Value::Bool(*add_space_prefix));
            }
        }
        for (key, id) in
            [(BOS, self.bos), (EOS, self.eos), (EOT, self.eot), (PAD, self.pad), (UNKNOWN, self.unknown)]
        {
            if let Some(id) = id {
                metadata.put(key, Value::U32(id));
            }
        }
        metadata.put(ADD_BOS, Value::Bool(self.add_bos));
        metadata.put(ADD_EOS, Value::Bool(self.add_eos));
        if let Some(template) = &self.chat_template {
            metadata.put(TEMPLATE, text(template));
        }
    }
}

fn tokens(metadata: &Metadata) -> Result<Vec<Token>, Error> {
    let texts = metadata.require(TOKENS, metadata.strings(TOKENS)?)?;
    let types = metadata.numbers(TYPES)?.unwrap_or_else(|| vec![1.0; texts.len()]);
    if types.len() != texts.len() {
        return Err(metadata.fail(TYPES, format!("has {} entries for {} tokens", types.len(), texts.len())));
    }
    let tokens = texts.into_iter().zip(types).enumerate().map(|(id, (text, token_type))| {
        let token_type = TokenType::from_id(token_type as u32).ok_or_else(|| {
            metadata.fail(TYPES, format!("is {token_type} for token {id}, which is no type"))
        })?;
        Ok(Token { text: text.to_owned(), token_type })
    });
    tokens.collect()
}

fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>, Error> {
    let merges = metadata.require(MERGES, metadata.strings(MERGES)?)?;
    let pairs = merges.into_iter().map(|merge| {
        let pair = merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let (left, right) = pair.ok_or_else(|| metadata.fail(MERGES, format!("holds `{merge}`, no pair")))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    pairs.collect()
}
