//! The shape of a model: `<architecture>.*` keys in GGUF, `config.json` at Hugging Face.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::architecture::{Architecture, MISTRAL, MISTRAL_CLASS, NO_ROPE_INTERVAL};
use super::error::Error;
use super::metadata::{Metadata, Value};
use super::names::ROPE_FREQS;
use super::reader::Gguf;
use super::rope;

const DEFAULT_THETA: f64 = 10_000.0;

/// What the names and shapes of tensors depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) vocab: usize,
    pub(super) tied: bool,
    pub(super) qkv_bias: bool,
    pub(super) output_bias: bool,
}

/// The architecture of a file.
///
/// # Errors
/// Names the one that is not supported.
pub(super) fn architecture(gguf: &Gguf) -> Result<Architecture, Error> {
    let metadata = gguf.metadata();
    let key = "general.architecture";
    let name = metadata.require(key, metadata.string(key)?)?;
    Architecture::from_name(name)
        .ok_or_else(|| Error::Architecture { path: gguf.path().to_owned(), name: name.to_owned() })
}

/// Makes `config.json` of a file's keys and of which tensors it has.
///
/// # Errors
/// Names the key that is missing or cannot be honoured.
pub(super) fn from_gguf(gguf: &Gguf, architecture: Architecture) -> Result<Json, Error> {
    let metadata = gguf.metadata();
    let prefix = architecture.name();
    let key = |name: &str| format!("{prefix}.{name}");
    let size = |name: &str| metadata.require(&key(name), metadata.size(&key(name))?);
    let embedding = gguf.tensor("token_embd.weight").and_then(|info| info.shape.first().copied());
    let vocab = embedding.ok_or_else(|| Error::tensor(gguf.path(), "token_embd.weight", "is missing"))?;
    let heads = size("attention.head_count")?;
    let hidden = size("embedding_length")?;
    if heads == 0
        || !heads.is_multiple_of(metadata.size(&key("attention.head_count_kv"))?.unwrap_or(heads).max(1))
    {
        return Err(metadata.fail(&key("attention.head_count_kv"), format!("does not divide {heads} heads")));
    }
    let head_dim = metadata.size(&key("attention.key_length"))?.unwrap_or(hidden / heads);
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = metadata.size(&key(name))?.filter(|&other| other != head_dim) {
            return Err(
                metadata.fail(&key(name), format!("is {other}, only {head_dim} as of a head is supported"))
            );
        }
    }
    let theta = metadata.number(&key("rope.freq_base"))?.unwrap_or(DEFAULT_THETA);
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let factors = gguf.tensor(ROPE_FREQS).map(|info| gguf.values(info)).transpose()?;
    let layers = size("block_count")?;
    let context = size("context_length")?;
    let attention_bias = gguf.tensor("blk.0.attn_output.bias").is_some();
    let mut config = json!({
        "architectures": [architecture.class()],
        "model_type": prefix,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rms_norm_eps": metadata.require(&epsilon, metadata.number(&epsilon)?)?,
        "rope_theta": theta,
        "rope_scaling": rope::from_metadata(metadata, prefix, theta, factors.as_deref())?,
        "hidden_act": "silu",
        "tie_word_embeddings": gguf.tensor("output.weight").is_none(),
        "attention_bias": attention_bias,
        "mlp_bias": false,
        "use_cache": true,
    });
    if architecture == Architecture::SmolLm3 {
        config["no_rope_layer_interval"] = NO_ROPE_INTERVAL.into();
        config["no_rope_layers"] = no_rope_layers(layers);
    }
    let window = metadata.size(&key("attention.sliding_window"))?;
    if let Some(window) = window.filter(|&window| window > 0 && window < context) {
        if architecture != Architecture::Llama {
            let problem = format!("is {window}, a window is supported for llama only");
            return Err(metadata.fail(&key("attention.sliding_window"), problem));
        }
        config["architectures"] = json!([MISTRAL_CLASS]);
        config["model_type"] = MISTRAL.into();
        config["sliding_window"] = window.into();
    }
    Ok(config)
}

/// For every layer 1, or 0 where it has no rotary embedding.
fn no_rope_layers(layers: usize) -> Json {
    (1..=layers).map(|layer| Json::from(u8::from(!layer.is_multiple_of(NO_ROPE_INTERVAL)))).collect()
}

/// A `config.json` with its path, for messages.
#[derive(Debug)]
pub(super) struct Config<'a> {
    pub(super) path: &'a Path,
    pub(super) json: &'a Map<String, Json>,
}

impl Config<'_> {
    /// The architecture that the config names.
    pub(super) fn architecture(&self) -> Result<Architecture, Error> {
        let name = self.json.get("model_type").and_then(Json::as_str).unwrap_or_default();
        Architecture::from_model_type(name)
            .ok_or_else(|| Error::Architecture { path: self.path.to_owned(), name: name.to_owned() })
    }

    /// What the tensors depend on.
    pub(super) fn shape(&self, architecture: Architecture) -> Result<Shape, Error> {
        let (hidden, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let attention_bias = self.flag("attention_bias");
        let or = |key: &str, default: usize| if self.has(key) { self.size(key) } else { Ok(default) };
        let shape = Shape {
            hidden,
            inner: self.size("intermediate_size")?,
            layers: self.size("num_hidden_layers")?,
            heads,
            kv_heads: or("num_key_value_heads", heads)?,
            head_dim: or("head_dim", hidden / heads)?,
            vocab: self.size("vocab_size")?,
            tied: self.flag("tie_word_embeddings"),
            qkv_bias: attention_bias || architecture == Architecture::Qwen2,
            output_bias: attention_bias && architecture != Architecture::Qwen2,
        };
        if !shape.head_dim.is_multiple_of(2) {
            return Err(Error::key(self.path, "head_dim", format!("is {}, an odd number", shape.head_dim)));
        }
        Ok(shape)
    }

    /// Writes the keys of a file, and gives the factors for its rotary frequencies where it needs some.
    ///
    /// # Errors
    /// Names the key that llama.cpp would not honour.
    pub(super) fn put(
        &self,
        metadata: &mut Metadata,
        architecture: Architecture,
        shape: &Shape,
    ) -> Result<Option<Vec<f32>>, Error> {
        self.check(architecture, shape)?;
        let prefix = architecture.name();
        let mut size = |name: &str, value: usize| -> Result<(), Error> {
            let value = u32::try_from(value)
                .map_err(|_| Error::key(self.path, name, format!("is {value}, too large for a GGUF file")))?;
            metadata.put(format!("{prefix}.{name}"), Value::U32(value));
            Ok(())
        };
        size("block_count", shape.layers)?;
        size("context_length", self.size("max_position_embeddings")?)?;
        size("embedding_length", shape.hidden)?;
        size("feed_forward_length", shape.inner)?;
        size("attention.head_count", shape.heads)?;
        size("attention.head_count_kv", shape.kv_heads)?;
        size("attention.key_length", shape.head_dim)?;
        size("attention.value_length", shape.head_dim)?;
        size("rope.dimension_count", shape.head_dim)?;
        size("vocab_size", shape.vocab)?;
        if self.model_type() == MISTRAL && self.has("sliding_window") {
            size("attention.sliding_window", self.size("sliding_window")?)?;
        }
        let rope = self.json.get("rope_parameters").unwrap_or(&Json::Null);
        let theta = self.json.get("rope_theta").or_else(|| rope.get("rope_theta")).and_then(Json::as_f64);
        let theta = theta.unwrap_or(DEFAULT_THETA);
        let epsilon = self.json.get("rms_norm_eps").and_then(Json::as_f64);
        let epsilon = epsilon.ok_or_else(|| Error::key(self.path, "rms_norm_eps", "is missing"))?;
        metadata.put(format!("{prefix}.attention.layer_norm_rms_epsilon"), Value::F32(epsilon as f32));
        metadata.put(format!("{prefix}.rope.freq_base"), Value::F32(theta as f32));
        let scaling = self.json.get("rope_scaling").filter(|scaling| !scaling.is_null()).unwrap_or(rope);
        let rope = rope::Rope { scaling, theta, head_dim: shape.head_dim };
        rope::to_metadata(metadata, prefix, rope, self.path)
    }

    /// Refuses what changes logits and has no place in GGUF.
    fn check(&self, architecture: Architecture, shape: &Shape) -> Result<(), Error> {
        let fail = |key: &str, problem: &str| Err(Error::key(self.path, key, problem));
        let activation = self.json.get("hidden_act").and_then(Json::as_str);
        if activation.is_some_and(|activation| activation != "silu") {
            return fail("hidden_act", "is not `silu`");
        }
        if self.flag("mlp_bias") {
            return fail("mlp_bias", "is true, which a GGUF file of this architecture cannot express");
        }
        if self.flag("use_sliding_window") {
            return fail("use_sliding_window", "is true, which llama.cpp does not do for this architecture");
        }
        let layers = self.json.get("no_rope_layers").filter(|layers| !layers.is_null());
        if architecture == Architecture::SmolLm3
            && layers.is_some_and(|own| *own != no_rope_layers(shape.layers))
        {
            return fail("no_rope_layers", "is not every fourth layer, the only choice that llama.cpp knows");
        }
        Ok(())
    }

    pub(super) fn model_type(&self) -> &str {
        self.json.get("model_type").and_then(Json::as_str).unwrap_or_default()
    }

    fn has(&self, key: &str) -> bool {
        self.json.get(key).is_some_and(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> bool {
        self.json.get(key).and_then(Json::as_bool).unwrap_or(false)
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        let found = self.json.get(key).and_then(Json::as_u64).and_then(|value| usize::try_from(value).ok());
        found
            .filter(|&value| value > 0)
            .ok_or_else(|| Error::key(self.path, key, "is missing or no positive number"))
    }
}
