//! `config.json`, as `transformers` reads and writes it.
//!
//! Reading is strict about everything that would change a logit: what the decoder does not implement is an error,
//! never ignored. Keys that do not reach the arithmetic (`use_cache`, `torch_dtype`, `attention_dropout` …) are
//! skipped. Absent keys get the defaults that `transformers` gives them in the family at hand. Writing uses the older
//! spelling of the rotary keys (`rope_theta`, `rope_scaling`), which every version reads.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Architecture, RopeScaling, SlidingWindow, fail};
use crate::{DecoderConfig, Error};

/// The value of `layer_types` for a layer that sees all tokens before it.
const FULL: &str = "full_attention";
/// The value of `layer_types` for a layer with a window.
const SLIDING: &str = "sliding_attention";

/// The keys of a config.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    /// Reads a value; `None` where it is absent or null.
    fn get<T: DeserializeOwned>(&self, key: &'static str) -> Result<Option<T>, Error> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                T::deserialize(value).map(Some).or_else(|error| fail(key, format!("is {value}: {error}")))
            }
        }
    }

    fn require<T: DeserializeOwned>(&self, key: &'static str) -> Result<T, Error> {
        self.get(key)?.map_or_else(|| fail(key, "is missing".to_owned()), Ok)
    }

    /// Refuses a value that the decoder does not implement.
    fn only(&self, key: &'static str, supported: Value) -> Result<(), Error> {
        match self.0.get(key) {
            Some(value) if *value != supported && !value.is_null() => {
                fail(key, format!("is {value}, only {supported} is supported").replace('"', "`"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads and checks a config.
pub(super) fn read(json: &Value) -> Result<DecoderConfig, Error> {
    let empty = Map::new();
    let keys = Keys(json.as_object().unwrap_or(&empty));
    let architecture = architecture(&keys)?;
    keys.only("hidden_act", "silu".into())?;
    keys.only("partial_rotary_factor", 1.0.into())?;
    keys.only("rope_interleaved", false.into())?;
    keys.only("quantization_config", Value::Null)?;

    let hidden_size = keys.require("hidden_size")?;
    let num_attention_heads: usize = keys.require("num_attention_heads")?;
    let num_hidden_layers = keys.require("num_hidden_layers")?;
    let max_position_embeddings = keys.require("max_position_embeddings")?;
    let (rope_theta, rope_scaling) = rope(&keys, architecture, max_position_embeddings)?;
    let no_rope_layers = no_rope_layers(&keys, architecture, num_hidden_layers)?;
    let sliding_window = sliding_window(&keys, architecture, num_hidden_layers, &no_rope_layers)?;
    let attention_bias = match architecture {
        Architecture::Mistral => false,
        Architecture::Qwen2 => true,
        _ => keys.get("attention_bias")?.unwrap_or(false),
    };
    let config = DecoderConfig {
        architecture,
        hidden_size,
        intermediate_size: keys.require("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: key_value_heads(&keys, architecture, num_attention_heads)?,
        head_dim: match keys.get("head_dim")? {
            Some(head_dim) => head_dim,
            None if architecture == Architecture::Qwen3 => 128,
            None => hidden_size / num_attention_heads.max(1),
        },
        max_position_embeddings,
        rms_norm_eps: keys.get("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        no_rope_layers,
        sliding_window,
        qk_norm: architecture == Architecture::Qwen3,
        qkv_bias: attention_bias,
        output_bias: attention_bias && architecture != Architecture::Qwen2,
        mlp_bias: match architecture {
            Architecture::Llama | Architecture::SmolLm3 => keys.get("mlp_bias")?.unwrap_or(false),
            _ => false,
        },
        tie_word_embeddings: keys
            .get("tie_word_embeddings")?
            .unwrap_or(architecture == Architecture::SmolLm3),
        vocab_size: keys.require("vocab_size")?,
        bos_token_id: keys.get("bos_token_id")?,
        eos_token_ids: token_ids(json.get("eos_token_id"))
            .or_else(|problem| fail("eos_token_id", problem))?,
        pad_token_id: keys.get("pad_token_id")?,
        initializer_range: keys.get("initializer_range")?.unwrap_or(0.02),
    };
    config.check()?;
    Ok(config)
}

/// Reads a value that is a token id, a list of them, or nothing; fails with what is wrong with it.
pub(crate) fn token_ids(value: Option<&Value>) -> Result<Vec<u32>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let ids = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
    ids.collect::<Option<_>>().ok_or_else(|| format!("is {value}, neither an id nor a list of them"))
}

fn architecture(keys: &Keys<'_>) -> Result<Architecture, Error> {
    let classes: Vec<String> = keys.get("architectures")?.unwrap_or_default();
    let name = match classes.into_iter().next() {
        Some(class) => class,
        None => keys.get("model_type")?.unwrap_or_default(),
    };
    Architecture::from_name(&name).ok_or(Error::Architecture(name))
}

fn key_value_heads(keys: &Keys<'_>, architecture: Architecture, heads: usize) -> Result<usize, Error> {
    const KEY: &str = "num_key_value_heads";
    Ok(match keys.get(KEY)? {
        Some(count) => count,
        None if keys.0.contains_key(KEY) => heads,
        None => match architecture {
            Architecture::Llama => heads,
            Architecture::Mistral => 8,
            Architecture::Qwen2 | Architecture::Qwen3 => 32,
            Architecture::SmolLm3 => 4,
        },
    })
}

/// Reads the rotary base and its scaling in either spelling.
fn rope(
    keys: &Keys<'_>,
    architecture: Architecture,
    positions: usize,
) -> Result<(f64, Option<RopeScaling>), Error> {
    let old: Option<Map<String, Value>> = keys.get("rope_scaling")?;
    let new: Option<Map<String, Value>> = keys.get("rope_parameters")?;
    let (key, mut block) = match (old, new) {
        (Some(old), _) if !old.is_empty() => ("rope_scaling", old),
        (_, new) => ("rope_parameters", new.unwrap_or_default()),
    };
    Keys(&block).only("partial_rotary_factor", 1.0.into())?;
    block.remove("partial_rotary_factor");
    let default = if architecture == Architecture::SmolLm3 { 2_000_000.0 } else { 10_000.0 };
    let theta = match Keys(&block).get("rope_theta")? {
        Some(theta) => theta,
        None => keys.get("rope_theta")?.unwrap_or(default),
    };
    let original = keys.get("original_max_position_embeddings")?;
    Ok((theta, RopeScaling::read(key, &block, positions, original)?))
}

/// Reads which layers do not rotate: those with a zero in `no_rope_layers`, else every fourth.
fn no_rope_layers(keys: &Keys<'_>, architecture: Architecture, layers: usize) -> Result<Vec<usize>, Error> {
    if architecture != Architecture::SmolLm3 {
        return Ok(Vec::new());
    }
    let interval: usize = keys.get("no_rope_layer_interval")?.unwrap_or(4);
    let Some(rotates) = keys.get::<Vec<u8>>("no_rope_layers")? else {
        return Ok((0..layers).filter(|layer| (layer + 1).is_multiple_of(interval)).collect());
    };
    if rotates.len() < layers {
        return fail("no_rope_layers", format!("has {} entries for {layers} layers", rotates.len()));
    }
    Ok((0..layers).filter(|&layer| rotates[layer] == 0).collect())
}

fn sliding_window(
    keys: &Keys<'_>,
    architecture: Architecture,
    layers: usize,
    no_rope_layers: &[usize],
) -> Result<Option<SlidingWindow>, Error> {
    const KEY: &str = "sliding_window";
    let tokens: Option<usize> = match keys.get(KEY)? {
        None if architecture != Architecture::SmolLm3 && !keys.0.contains_key(KEY) => Some(4096),
        tokens => tokens,
    };
    let is_used = keys.get("use_sliding_window")?.unwrap_or(false);
    let limited: Vec<usize> = match architecture {
        Architecture::Llama => return Ok(None),
        Architecture::Mistral => {
            return Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: (0..layers).collect() }));
        }
        _ => match keys.get::<Vec<String>>("layer_types")? {
            Some(types) => {
                if types.len() != layers {
                    return fail("layer_types", format!("has {} entries for {layers} layers", types.len()));
                }
                if let Some(other) = types.iter().find(|kind| ![FULL, SLIDING].contains(&kind.as_str())) {
                    return fail(
                        "layer_types",
                        format!("has `{other}`, only `{FULL}` and `{SLIDING}` are supported"),
                    );
                }
                (0..layers).filter(|&layer| types[layer] == SLIDING).collect()
            }
            None if !is_used || tokens.is_none() => Vec::new(),
            None if architecture == Architecture::SmolLm3 => no_rope_layers.to_vec(),
            None => (keys.get("max_window_layers")?.unwrap_or(28)..layers).collect(),
        },
    };
    match tokens.filter(|_| is_used) {
        _ if limited.is_empty() => Ok(None),
        Some(tokens) => Ok(Some(SlidingWindow { tokens, layers: limited })),
        None => fail("layer_types", format!("has `{SLIDING}` without a `sliding_window` in use")),
    }
}

/// Renders a config.
pub(super) fn write(config: &DecoderConfig) -> Value {
    let layers = 0..config.num_hidden_layers;
    let mut file = json!({
        "architectures": [config.architecture.class_name()],
        "model_type": config.architecture.model_type(),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": config.rope_scaling,
        "tie_word_embeddings": config.tie_word_embeddings,
        "vocab_size": config.vocab_size,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": match config.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        },
        "pad_token_id": config.pad_token_id,
        "initializer_range": config.initializer_range,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "use_cache": true,
    });
    let architecture = config.architecture;
    if !matches!(architecture, Architecture::Mistral | Architecture::Qwen2) {
        file["attention_bias"] = config.qkv_bias.into();
    }
    if matches!(architecture, Architecture::Llama | Architecture::SmolLm3) {
        file["mlp_bias"] = config.mlp_bias.into();
    }
    if architecture == Architecture::SmolLm3 {
        let rotates = layers.clone().map(|layer| u8::from(config.is_rotated(layer)));
        file["no_rope_layers"] = rotates.collect::<Vec<_>>().into();
    }
    if architecture != Architecture::Llama {
        file["sliding_window"] = json!(config.sliding_window.as_ref().map(|window| window.tokens));
    }
    if !matches!(architecture, Architecture::Llama | Architecture::Mistral) {
        let kinds = layers.map(|layer| if config.window(layer).is_some() { SLIDING } else { FULL });
        file["use_sliding_window"] = config.sliding_window.is_some().into();
        file["layer_types"] = kinds.collect::<Vec<_>>().into();
    }
    file
}
