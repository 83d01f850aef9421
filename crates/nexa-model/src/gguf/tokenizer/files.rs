//! A vocabulary as `tokenizer.json` and `tokenizer_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::files::{self, write_json};
use serde_json::{Map, Value as Json, json};

use super::pre_tokenizer::PreTokenizer;
use super::{Model, Token, TokenType, Vocabulary, byte_level, sentence_piece};
use crate::files::{CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG};
use crate::gguf::error::Error;

impl Vocabulary {
    /// Writes both files into a folder.
    ///
    /// # Errors
    /// Names the token that stands twice; `source` is for that message.
    pub(in crate::gguf) fn write_files(
        &self,
        folder: &Path,
        context_length: u64,
        source: &Path,
    ) -> Result<(), Error> {
        write_json(&folder.join(TOKENIZER), &self.tokenizer_json(source)?)?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            "bos_token": self.text(self.bos),
            "eos_token": self.text(self.eos),
            "pad_token": self.text(self.pad),
            "unk_token": self.text(self.unknown),
            "clean_up_tokenization_spaces": false,
            "model_max_length": context_length,
            "chat_template": self.chat_template,
        });
        Ok(write_json(&folder.join(TOKENIZER_CONFIG), &config)?)
    }

    fn tokenizer_json(&self, source: &Path) -> Result<Json, Error> {
        let mut vocab = Map::new();
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if token.token_type == TokenType::Unused && token.text == padding(id) {
                continue;
            }
            if vocab.insert(token.text.clone(), id.into()).is_some() {
                let problem = format!("holds `{}` twice", token.text);
                return Err(Error::key(source, "tokenizer.ggml.tokens", problem));
            }
            let special = matches!(token.token_type, TokenType::Control | TokenType::Unknown);
            if special || token.token_type == TokenType::UserDefined {
                added.push(json!({
                    "id": id,
                    "content": token.text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": special,
                }));
            }
        }
        let parts = match &self.model {
            Model::ByteLevel { pre_tokenizer, merges } => byte_level::to_json(*pre_tokenizer, vocab, merges),
            Model::SentencePiece { scores, add_space_prefix } => {
                let pieces = sentence_piece::Pieces {
                    tokens: &self.tokens,
                    scores,
                    add_space_prefix: *add_space_prefix,
                    unknown: self.text(self.unknown),
                };
                sentence_piece::to_json(pieces, vocab)
            }
        };
        let mut json =
            json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added });
        for part in ["normalizer", "pre_tokenizer", "decoder", "model"] {
            json[part] = parts[part].clone();
        }
        json["post_processor"] = self.post_processor();
        Ok(json)
    }

    /// Puts the first and last token around a text, where the model wants them.
    fn post_processor(&self) -> Json {
        let around = |wanted: bool, id: Option<u32>| self.text(id).filter(|_| wanted).zip(id);
        let (first, last) = (around(self.add_bos, self.bos), around(self.add_eos, self.eos));
        if first.is_none() && last.is_none() {
            return Json::Null;
        }
        let mark = |token: Option<(&str, u32)>, type_id: u32| {
            token.map(|(text, _)| json!({ "SpecialToken": { "id": text, "type_id": type_id } }))
        };
        let sequence = |name: &str, type_id: u32| {
            let text = json!({ "Sequence": { "id": name, "type_id": type_id } });
            [mark(first, type_id), Some(text), mark(last, type_id)]
                .into_iter()
                .flatten()
                .collect::<Vec<Json>>()
        };
        let special: Map<String, Json> = [first, last]
            .into_iter()
            .flatten()
            .map(|(text, id)| (text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] })))
            .collect();
        let pair = [sequence("A", 0), sequence("B", 1)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": sequence("A", 0),
            "pair": pair,
            "special_tokens": special,
        })
    }

    /// Reads the files of a checkpoint whose embedding has `rows`.
    ///
    /// # Errors
    /// Names the file and the key that a GGUF file cannot express.
    pub(in crate::gguf) fn read_files(folder: &Path, rows: usize) -> Result<Self, Error> {
        let path = folder.join(TOKENIZER);
        let json: Json = files::read_json(&path)?;
        let config: Json = files::read_json(&folder.join(TOKENIZER_CONFIG))?;
        let template = folder.join(CHAT_TEMPLATE);
        let chat_template = if template.exists() {
            Some(files::read_text(&template)?)
        } else {
            config.get("chat_template").and_then(Json::as_str).map(str::to_owned)
        };
        let reader = Reader { path: &path, json: &json };
        let special = |name: &str| {
            let token = config.get(name)?;
            token.as_str().or_else(|| token.get("content")?.as_str())
        };
        let unknown = special("unk_token").or_else(|| json["model"]["unk_token"].as_str());
        let (tokens, ids) = reader.tokens(rows, unknown)?;
        let id = |text: Option<&str>| text.and_then(|text| ids.get(text).copied());
        Ok(Self {
            model: reader.model(&tokens)?,
            bos: id(special("bos_token")),
            eos: id(special("eos_token")),
            eot: None,
            pad: id(special("pad_token")),
            unknown: id(unknown),
            add_bos: adds(&config, &json, "add_bos_token", <[Json]>::first),
            add_eos: adds(&config, &json, "add_eos_token", <[Json]>::last),
            chat_template,
            tokens,
        })
    }
}

/// The name of a row of the embedding without a token.
fn padding(id: usize) -> String {
    format!("[PAD{id}]")
}

/// Whether a mark is put at one end of a text: as the config says, else as the post-processor does.
fn adds(config: &Json, tokenizer: &Json, key: &str, end: fn(&[Json]) -> Option<&Json>) -> bool {
    let template = || Some(end_of(&tokenizer["post_processor"], end)?.get("SpecialToken").is_some());
    config.get(key).and_then(Json::as_bool).or_else(template).unwrap_or(false)
}

/// The first or last part of the template of a post-processor, which may stand in a sequence.
fn end_of(post: &Json, end: fn(&[Json]) -> Option<&Json>) -> Option<&Json> {
    if let Some(steps) = post.get("processors").and_then(Json::as_array) {
        return steps.iter().find_map(|step| end_of(step, end));
    }
    end(post.get("single")?.as_array()?)
}

/// A `tokenizer.json` with its path, for messages.
struct Reader<'a> {
    path: &'a Path,
    json: &'a Json,
}

impl Reader<'_> {
    fn fail(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::key(self.path, key, problem)
    }

    /// The tokens by id, and their ids by text.
    fn tokens(
        &self,
        rows: usize,
        unknown: Option<&str>,
    ) -> Result<(Vec<Token>, BTreeMap<String, u32>), Error> {
        let model = &self.json["model"];
        if model["type"] != "BPE" {
            return Err(self.fail("model.type", format!("is {}, only BPE can be exported", model["type"])));
        }
        let bytes = model["byte_fallback"] == true;
        let vocab = model["vocab"].as_object().ok_or_else(|| self.fail("model.vocab", "is missing"))?;
        let mut tokens: Vec<Token> =
            (0..rows).map(|id| Token { text: padding(id), token_type: TokenType::Unused }).collect();
        let mut ids = BTreeMap::new();
        let mut put = |key: &str, text: &str, id: Option<u64>, token_type: TokenType| {
            let id = id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < rows);
            let id = id.ok_or_else(|| {
                self.fail(key, format!("gives `{text}` an id outside of the {rows} rows of the embedding"))
            })?;
            tokens[id as usize] = Token { text: text.to_owned(), token_type };
            ids.insert(text.to_owned(), id);
            Ok::<(), Error>(())
        };
        for (text, id) in vocab {
            let token_type = match unknown {
                Some(unknown) if unknown == text && bytes => TokenType::Unknown,
                _ if bytes && is_byte(text) => TokenType::Byte,
                _ => TokenType::Normal,
            };
            put("model.vocab", text, id.as_u64(), token_type)?;
        }
        for added in self.json["added_tokens"].as_array().into_iter().flatten() {
            let text = added["content"].as_str().unwrap_or_default();
            let token_type = match added["special"].as_bool() {
                Some(true) if unknown == Some(text) && bytes => TokenType::Unknown,
                Some(true) => TokenType::Control,
                _ => TokenType::UserDefined,
            };
            put("added_tokens", text, added["id"].as_u64(), token_type)?;
        }
        Ok((tokens, ids))
    }

    fn model(&self, tokens: &[Token]) -> Result<Model, Error> {
        let merges = self.merges()?;
        if self.json["model"]["byte_fallback"] == true {
            return Ok(Model::SentencePiece {
                scores: sentence_piece::scores(tokens, &merges),
                add_space_prefix: self.adds_space_prefix()?,
            });
        }
        let pre_tokenizer = PreTokenizer::from_json(&self.json["pre_tokenizer"]).ok_or_else(|| {
            let known = PreTokenizer::names();
            self.fail(
                "pre_tokenizer",
                format!("follows no rule that llama.cpp is known to have (known: {known})"),
            )
        })?;
        if !byte_level::normalizer_is_known(&self.json["normalizer"], pre_tokenizer) {
            return Err(self.fail("normalizer", "changes texts, which llama.cpp would not do"));
        }
        Ok(Model::ByteLevel { pre_tokenizer, merges })
    }

    /// Reads merges in both spellings: `"a b"` and `["a", "b"]`.
    fn merges(&self) -> Result<Vec<(String, String)>, Error> {
        let list = self.json["model"]["merges"].as_array();
        let list = list.ok_or_else(|| self.fail("model.merges", "is missing"))?;
        let pairs = list.iter().map(|merge| {
            let pair = match merge {
                Json::String(text) => text.split_once(' '),
                Json::Array(pair) => match pair.as_slice() {
                    [left, right] => left.as_str().zip(right.as_str()),
                    _ => None,
                },
                _ => None,
            };
            let (left, right) =
                pair.ok_or_else(|| self.fail("model.merges", format!("holds {merge}, no pair")))?;
            Ok((left.to_owned(), right.to_owned()))
        });
        pairs.collect()
    }

    /// Whether a blank is put before texts: by the normalizer, or by a `Metaspace` pre-tokenizer.
    fn adds_space_prefix(&self) -> Result<bool, Error> {
        let pre = &self.json["pre_tokenizer"];
        if pre["type"] == "Metaspace" {
            return Ok(pre["prepend_scheme"].as_str() != Some("never") && pre["add_prefix_space"] != false);
        }
        let normalizer = &self.json["normalizer"];
        let steps = match normalizer["normalizers"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(normalizer),
        };
        let known = ["Prepend", "Replace"];
        let unknown = steps.iter().find(|step| !known.iter().any(|known| step["type"] == *known));
        match unknown {
            Some(step) => Err(self.fail("normalizer", format!("has a step of type {}", step["type"]))),
            None => Ok(steps.iter().any(|step| step["type"] == "Prepend")),
        }
    }
}

/// Whether a token is the name of a byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}
