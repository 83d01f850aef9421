//! The files of a tokenizer: what Hugging Face folders hold, in the forms of its several ages.

use std::path::Path;

use chrono::NaiveDate;
use nexa_core::files::write_atomic;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::files::{CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS, TOKENIZER_CONFIG};

/// The key of the template or templates.
const TEMPLATE: &str = "chat_template";
/// The key of the variables that templates are always given; `nexa` alone knows it.
const TEMPLATE_KWARGS: &str = "chat_template_kwargs";
/// The key of the date that templates are told; `nexa` alone knows it.
const TEMPLATE_DATE: &str = "chat_template_date";

/// The key of further ids that end answers; `nexa` alone knows it.
const STOP_IDS: &str = "stop_token_ids";

/// The keys of tokens that templates may name.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// `tokenizer_config.json`, completed from the files beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Config {
    keys: Map<String, Value>,
    /// Ids that end an answer, from `config.json` and `generation_config.json`.
    pub(super) stop_ids: Vec<u32>,
}

impl Config {
    /// The configuration of a tokenizer that is trained here.
    pub(super) fn trained(eos_token: &str, pad_token: &str, template: &str) -> Self {
        let mut config = Self::default();
        for (key, value) in [
            ("tokenizer_class", "PreTrainedTokenizerFast"),
            ("eos_token", eos_token),
            ("pad_token", pad_token),
            (TEMPLATE, template),
        ] {
            config.keys.insert(key.to_owned(), json!(value));
        }
        config.keys.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        config
    }

    /// Reads what there is; a folder without `tokenizer_config.json` has no template.
    pub(super) fn load(folder: &Path) -> Result<Self, Error> {
        let mut keys = read(&folder.join(SPECIAL_TOKENS))?;
        keys.retain(|key, _| TOKENS.contains(&key.as_str()));
        keys.extend(read(&folder.join(TOKENIZER_CONFIG))?);
        let path = folder.join(CHAT_TEMPLATE);
        if path.exists() {
            keys.insert(TEMPLATE.to_owned(), Value::String(fs_err::read_to_string(path)?));
        }
        let generation = read(&folder.join(GENERATION_CONFIG))?;
        let model = read(&folder.join(CONFIG))?;
        let eos = |json: &Map<String, Value>| json.get("eos_token_id").map(ids).unwrap_or_default();
        let mut stop_ids = [eos(&model), eos(&generation)].concat();
        stop_ids.extend(keys.get(STOP_IDS).into_iter().flat_map(ids));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        if !stop_ids.is_empty() {
            keys.insert(STOP_IDS.to_owned(), json!(stop_ids));
        }
        Ok(Self { keys, stop_ids })
    }

    /// Writes `tokenizer_config.json`, with the template in it.
    pub(super) fn save(&self, folder: &Path) -> Result<(), Error> {
        // A file beside it would win over the template that is written here.
        nexa_core::files::remove(&folder.join(CHAT_TEMPLATE))?;
        let text = format!("{:#}\n", Value::Object(self.keys.clone()));
        Ok(write_atomic(&folder.join(TOKENIZER_CONFIG), text.as_bytes())?)
    }

    /// The text of a token: `eos_token`, ….
    pub(super) fn token(&self, key: &str) -> Option<&str> {
        let value = self.keys.get(key)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// Every token that templates may name.
    pub(super) fn tokens(&self) -> Map<String, Value> {
        let named = TOKENS.iter().filter_map(|key| Some((key.to_string(), json!(self.token(key)?))));
        named.collect()
    }

    /// Whether texts begin with the token of beginning; nothing where `tokenizer.json` decides.
    pub(super) fn add_bos_token(&self) -> Option<bool> {
        self.keys.get("add_bos_token")?.as_bool()
    }

    /// Added tokens that older folders list here, and not in `tokenizer.json`.
    pub(super) fn added_tokens(&self) -> Vec<tokenizers::AddedToken> {
        let Some(Value::Object(tokens)) = self.keys.get("added_tokens_decoder") else { return Vec::new() };
        let mut tokens: Vec<(u64, &Value)> =
            tokens.iter().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
        tokens.sort_by_key(|(id, _)| *id);
        let read = |token: &Value| serde_json::from_value(token.clone()).ok();
        tokens.into_iter().filter_map(|(_, token)| read(token)).collect()
    }

    /// The template for conversations with or without tools.
    pub(super) fn template(&self, with_tools: bool) -> Option<&str> {
        match self.keys.get(TEMPLATE)? {
            Value::String(source) => Some(source),
            // Either a list of `{name, template}` or a map from one to the other.
            several => {
                let named = |name: &str| match several {
                    Value::Array(list) => list
                        .iter()
                        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?
                        .get("template")?
                        .as_str(),
                    map => map.get(name)?.as_str(),
                };
                with_tools.then(|| named("tool_use")).flatten().or_else(|| named("default"))
            }
        }
    }

    pub(super) fn set_template(&mut self, source: &str) {
        self.keys.insert(TEMPLATE.to_owned(), json!(source));
    }

    /// Variables that templates are always given.
    pub(super) fn template_kwargs(&self) -> Map<String, Value> {
        self.keys.get(TEMPLATE_KWARGS).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    pub(super) fn set_template_kwargs(&mut self, kwargs: Map<String, Value>) {
        self.keys.insert(TEMPLATE_KWARGS.to_owned(), Value::Object(kwargs));
    }

    /// The date that templates are told. 26 July 2024 where none is set: the date that the templates of Llama 3 take
    /// when they cannot ask.
    pub(super) fn template_date(&self) -> NaiveDate {
        let date = self.keys.get(TEMPLATE_DATE).and_then(Value::as_str).and_then(|date| date.parse().ok());
        date.unwrap_or_else(|| NaiveDate::from_ymd_opt(2024, 7, 26).expect("a day of the calendar"))
    }

    pub(super) fn set_template_date(&mut self, date: NaiveDate) {
        self.keys.insert(TEMPLATE_DATE.to_owned(), json!(date.to_string()));
    }

    /// All keys, for the fingerprint.
    pub(super) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }
}

/// An id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let one = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    value
        .as_array()
        .map_or_else(|| one(value).into_iter().collect(), |ids| ids.iter().filter_map(one).collect())
}

/// Reads a JSON object; a missing file is an empty one.
fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    if !path.exists() {
        return Ok(Map::new());
    }
    serde_json::from_str(&fs_err::read_to_string(path)?)
        .map_err(|source| Error::Json { path: path.to_owned(), source })
}
