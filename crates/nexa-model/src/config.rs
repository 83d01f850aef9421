//! The shape of a decoder: `config.json` as Hugging Face writes it for Llama.
//!
//! Reading is strict about everything that would change a logit: an architecture, an activation, a bias or a rotary
//! scaling that the decoder does not implement is an error, never ignored. Keys that do not reach the arithmetic
//! (`use_cache`, `torch_dtype`, `pretraining_tp` …) are skipped.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::kernels::attention::Heads;

/// The only architecture so far, as `architectures` spells it.
const ARCHITECTURE: &str = "LlamaForCausalLM";

/// The shape of a decoder and the ids that its generation loop needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block's gate.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Numbers of one head; even.
    pub head_dim: usize,
    /// Largest number of positions.
    pub max_position_embeddings: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: bool,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Token that begins a text, where the tokenizer has one.
    pub bos_token_id: Option<u32>,
    /// Token that ends an answer.
    pub eos_token_id: Option<u32>,
    /// Token that fills up batches.
    pub pad_token_id: Option<u32>,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

/// `config.json` with the defaults that `transformers` gives to absent keys.
#[derive(Debug, Deserialize)]
struct File {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    vocab_size: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    pad_token_id: Option<u32>,
    initializer_range: Option<f64>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// Where newer versions of `transformers` keep the rotary base.
#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// `eos_token_id` is a number or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl DecoderConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// Names the key whose value the decoder cannot honour.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs_err::read_to_string(path)?;
        let file =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        Self::from_file(file)
    }

    fn from_file(file: File) -> Result<Self, Error> {
        match file.architectures.as_deref() {
            Some([one]) if one == ARCHITECTURE => {}
            Some([other, ..]) => return Err(Error::Architecture(other.clone())),
            _ if file.model_type.as_deref() == Some("llama") => {}
            _ => return Err(Error::Architecture(file.model_type.unwrap_or_default())),
        }
        let unsupported = |key, problem: String| Err(Error::Config { key, problem });
        if let Some(activation) = file.hidden_act.filter(|activation| activation != "silu") {
            return unsupported("hidden_act", format!("is `{activation}`, only `silu` is supported"));
        }
        if file.attention_bias {
            return unsupported("attention_bias", "is true, biases are not supported".to_owned());
        }
        if file.mlp_bias {
            return unsupported("mlp_bias", "is true, biases are not supported".to_owned());
        }
        if let Some(scaling) = file.rope_scaling {
            return unsupported("rope_scaling", format!("is {scaling}, only null is supported"));
        }
        let rope = file.rope_parameters.unwrap_or(RopeParameters { rope_theta: None, rope_type: None });
        if let Some(kind) = rope.rope_type.filter(|kind| kind != "default") {
            return unsupported(
                "rope_parameters.rope_type",
                format!("is `{kind}`, only `default` is supported"),
            );
        }
        let config = Self {
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            num_hidden_layers: file.num_hidden_layers,
            num_attention_heads: file.num_attention_heads,
            num_key_value_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            head_dim: file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1)),
            max_position_embeddings: file.max_position_embeddings,
            rms_norm_eps: file.rms_norm_eps,
            rope_theta: file.rope_theta.or(rope.rope_theta).unwrap_or(10_000.0),
            tie_word_embeddings: file.tie_word_embeddings,
            vocab_size: file.vocab_size,
            bos_token_id: file.bos_token_id,
            eos_token_id: match file.eos_token_id {
                Some(OneOrMany::One(id)) => Some(id),
                Some(OneOrMany::Many(ids)) => ids.first().copied(),
                None => None,
            },
            pad_token_id: file.pad_token_id,
            initializer_range: file.initializer_range.unwrap_or(0.02),
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |key, problem: String| Err(Error::Config { key, problem });
        for (key, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("vocab_size", self.vocab_size),
        ] {
            if value == 0 {
                return fail(key, "must be at least 1".to_owned());
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
            return fail(
                "num_key_value_heads",
                format!("is {groups}, which does not divide {heads} attention heads"),
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return fail(
                "head_dim",
                format!("is {}, the rotary embedding needs an even number", self.head_dim),
            );
        }
        for (key, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return fail(key, format!("is {value}, it must be positive"));
            }
        }
        for (key, id) in [
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
            ("pad_token_id", self.pad_token_id),
        ] {
            if let Some(id) = id.filter(|&id| id as usize >= self.vocab_size) {
                return fail(key, format!("is {id}, outside a vocabulary of {}", self.vocab_size));
            }
        }
        Ok(())
    }

    /// Renders `config.json` as `transformers` reads it.
    pub fn to_json(&self) -> String {
        let mut file = serde_json::json!({ "architectures": [ARCHITECTURE], "model_type": "llama" });
        let fields = serde_json::to_value(self).expect("a struct of numbers is always JSON");
        let fixed = serde_json::json!({
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "rope_scaling": null,
            "torch_dtype": "float32",
            "use_cache": true,
        });
        if let Some(object) = file.as_object_mut() {
            for part in [fields, fixed] {
                object.extend(part.as_object().cloned().unwrap_or_default());
            }
        }
        let mut text = serde_json::to_string_pretty(&file).expect("a JSON value is always JSON");
        text.push('\n');
        text
    }

    /// The heads of every attention layer.
    pub(crate) fn heads(&self) -> Heads {
        Heads {
            query: self.num_attention_heads,
            key_value: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A shape with every awkward ratio: grouped heads, a head size that is no multiple of the vector width.
    pub(crate) fn small() -> DecoderConfig {
        DecoderConfig {
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            max_position_embeddings: 64,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            vocab_size: 50,
            bos_token_id: None,
            eos_token_id: Some(1),
            pad_token_id: Some(2),
            initializer_range: 0.2,
        }
    }

    fn read(json: serde_json::Value) -> Result<DecoderConfig, String> {
        let file = serde_json::from_value(json).map_err(|error| error.to_string())?;
        DecoderConfig::from_file(file).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written: serde_json::Value = serde_json::from_str(&small().to_json()).expect("valid JSON");
        assert_eq!(read(written), Ok(small()));
    }

    #[test]
    fn what_the_decoder_cannot_honour_is_refused() {
        let check = |key: &str, value: serde_json::Value, expected: &str| {
            let mut json: serde_json::Value = serde_json::from_str(&small().to_json()).expect("valid JSON");
            json[key] = value;
            let error = read(json).expect_err(key);
            assert!(error.contains(expected), "{key}: {error}");
        };
        check("architectures", serde_json::json!(["GPT2LMHeadModel"]), "`GPT2LMHeadModel` is not supported");
        check("hidden_act", "gelu".into(), "`hidden_act` is `gelu`");
        check("attention_bias", true.into(), "`attention_bias` is true");
        check("rope_scaling", serde_json::json!({"factor": 8.0}), "`rope_scaling` is");
        check("num_key_value_heads", 3.into(), "3, which does not divide 4");
        check("head_dim", 5.into(), "even number");
        check("eos_token_id", 50.into(), "outside a vocabulary of 50");
        check("hidden_size", 0.into(), "at least 1");
        check("rope_theta", (-1.0).into(), "must be positive");
    }
}
