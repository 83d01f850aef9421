//! The shape of a decoder: one set of switches for every family that it can be.
//!
//! `file` reads and writes `config.json` and knows what each family means by its keys; everything behind it sees
//! the switches alone, never a family's name. [`RopeScaling`] says how positions are stretched.

mod architecture;
mod file;
mod rope_scaling;

use std::path::Path;

pub use self::architecture::Architecture;
pub(crate) use self::file::token_ids;
pub use self::rope_scaling::{Llama3Scaling, RopeScaling, YarnScaling};
use crate::Error;
use crate::kernels::attention::Heads;

/// The shape of a decoder and the ids that its generation loop needs.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family under whose name the model is written; the other fields say what it computes.
    pub architecture: Architecture,
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
    /// Number of positions that the model was made for; [`Self::context_length`] counts those that it can take.
    pub max_position_embeddings: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How positions are stretched beyond those of the first training.
    pub rope_scaling: Option<RopeScaling>,
    /// Blocks that do not rotate queries and keys, in ascending order.
    pub no_rope_layers: Vec<usize>,
    /// How far back some blocks see.
    pub sliding_window: Option<SlidingWindow>,
    /// Whether queries and keys are normalised, head by head, before they are rotated.
    pub qk_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output of the attention has a bias.
    pub output_bias: bool,
    /// Whether the projections of the feed-forward block have biases.
    pub mlp_bias: bool,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: bool,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Token that begins a text, where the tokenizer has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer; the first is the main one.
    pub eos_token_ids: Vec<u32>,
    /// Token that fills up batches.
    pub pad_token_id: Option<u32>,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

/// The sizes of a plain Llama, for [`DecoderConfig::llama`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Llama {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block's gate.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; they share the hidden size.
    pub heads: usize,
    /// Key-value heads; divides the query heads.
    pub key_value_heads: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
}

/// A limit to how far back blocks see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens that a token sees, itself included.
    pub tokens: usize,
    /// The blocks that are limited, in ascending order.
    pub layers: Vec<usize>,
}

impl DecoderConfig {
    /// Makes the shape of a plain Llama: no biases, no window, unscaled positions of base 10,000 up to 2,048, a tied
    /// output layer, and initial weights with the standard deviation `1 / sqrt(hidden_size)`.
    pub fn llama(sizes: Llama) -> Self {
        Self {
            architecture: Architecture::Llama,
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            num_key_value_heads: sizes.key_value_heads,
            head_dim: sizes.hidden_size / sizes.heads.max(1),
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            no_rope_layers: Vec::new(),
            sliding_window: None,
            qk_norm: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            tie_word_embeddings: true,
            vocab_size: sizes.vocab_size,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            initializer_range: 1.0 / (sizes.hidden_size.max(1) as f64).sqrt(),
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// Names the key whose value the decoder cannot honour.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs_err::read_to_string(path)?;
        let json =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        file::read(&json).map_err(|error| error.within(path))
    }

    /// Renders `config.json` as `transformers` reads it.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&file::write(self)).expect("a JSON value is always JSON");
        text.push('\n');
        text
    }

    /// Counts the positions that the model can take: those that it was made for, or those that its scaling brings.
    pub fn context_length(&self) -> usize {
        let made_for = self.max_position_embeddings;
        match self.rope_scaling {
            Some(RopeScaling::Dynamic { factor }) => (made_for as f64 * factor) as usize,
            Some(RopeScaling::Yarn(yarn)) => {
                made_for.max((yarn.original_max_position_embeddings as f64 * yarn.factor) as usize)
            }
            Some(RopeScaling::Linear { .. } | RopeScaling::Llama3(_)) | None => made_for,
        }
    }

    /// Returns how many tokens a token sees in a block, itself included; `None` where it sees all before it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window
            .as_ref()
            .filter(|window| window.layers.contains(&layer))
            .map(|window| window.tokens)
    }

    /// Tells whether a block rotates queries and keys to their positions.
    pub fn is_rotated(&self, layer: usize) -> bool {
        !self.no_rope_layers.contains(&layer)
    }

    /// Adds further tokens that end an answer.
    pub(crate) fn add_eos_tokens(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
    }

    /// Checks that the numbers fit together, and that the family knows every switch that is on.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn check(&self) -> Result<(), Error> {
        self.check_sizes()?;
        self.check_layers()?;
        self.check_tokens()?;
        if let Some(scaling) = &self.rope_scaling {
            scaling.check()?;
        }
        self.architecture.check(self)
    }

    fn check_sizes(&self) -> Result<(), Error> {
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
        Ok(())
    }

    fn check_layers(&self) -> Result<(), Error> {
        let windowed = self.sliding_window.as_ref().map_or(&[][..], |window| &window.layers);
        for (key, layers) in [("no_rope_layers", self.no_rope_layers.as_slice()), ("layer_types", windowed)] {
            if let Some(layer) = layers.iter().find(|&&layer| layer >= self.num_hidden_layers) {
                let count = self.num_hidden_layers;
                return fail(key, format!("names layer {layer}, outside the {count} of the model"));
            }
        }
        match &self.sliding_window {
            Some(window) if window.tokens == 0 => fail("sliding_window", "must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    fn check_tokens(&self) -> Result<(), Error> {
        let eos = self.eos_token_ids.iter().map(|&id| ("eos_token_id", id));
        let others = [("bos_token_id", self.bos_token_id), ("pad_token_id", self.pad_token_id)];
        let others = others.into_iter().filter_map(|(key, id)| Some((key, id?)));
        for (key, id) in eos.chain(others) {
            if id as usize >= self.vocab_size {
                return fail(key, format!("is {id}, outside a vocabulary of {}", self.vocab_size));
            }
        }
        Ok(())
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

fn fail<T>(key: &'static str, problem: String) -> Result<T, Error> {
    Err(Error::Config { key, problem })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A shape with every awkward ratio: grouped heads, a head size that is no multiple of the vector width.
    pub(crate) fn small() -> DecoderConfig {
        let sizes = Llama {
            hidden_size: 24,
            intermediate_size: 40,
            layers: 2,
            heads: 4,
            key_value_heads: 2,
            vocab_size: 50,
        };
        DecoderConfig {
            max_position_embeddings: 64,
            eos_token_ids: vec![1],
            pad_token_id: Some(2),
            initializer_range: 0.2,
            ..DecoderConfig::llama(sizes)
        }
    }

    /// The same shape as every family can have it, with all of that family's switches on.
    pub(crate) fn families() -> Vec<DecoderConfig> {
        let window = |layers: &[usize]| Some(SlidingWindow { tokens: 5, layers: layers.to_vec() });
        vec![
            small(),
            DecoderConfig {
                tie_word_embeddings: false,
                qkv_bias: true,
                output_bias: true,
                mlp_bias: true,
                rope_scaling: Some(RopeScaling::Llama3(Llama3Scaling {
                    factor: 8.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position_embeddings: 32,
                })),
                ..small()
            },
            DecoderConfig {
                architecture: Architecture::Mistral,
                sliding_window: window(&[0, 1]),
                rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
                ..small()
            },
            DecoderConfig {
                architecture: Architecture::Qwen2,
                qkv_bias: true,
                sliding_window: window(&[1]),
                rope_scaling: Some(RopeScaling::Dynamic { factor: 4.0 }),
                max_position_embeddings: 16,
                ..small()
            },
            DecoderConfig {
                architecture: Architecture::Qwen3,
                qk_norm: true,
                rope_scaling: Some(RopeScaling::Yarn(YarnScaling::new(4.0, 16))),
                eos_token_ids: vec![1, 7],
                ..small()
            },
            DecoderConfig {
                architecture: Architecture::SmolLm3,
                no_rope_layers: vec![1],
                sliding_window: window(&[1]),
                mlp_bias: true,
                ..small()
            },
        ]
    }

    fn read(json: &serde_json::Value) -> Result<DecoderConfig, String> {
        file::read(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_back() {
        for config in families() {
            let written = serde_json::from_str(&config.to_json()).expect("valid JSON");
            assert_eq!(read(&written), Ok(config));
        }
    }

    #[test]
    fn what_the_decoder_cannot_honour_is_refused() {
        let check = |key: &str, value: serde_json::Value, expected: &str| {
            let mut json: serde_json::Value = serde_json::from_str(&small().to_json()).expect("valid JSON");
            json[key] = value;
            let error = read(&json).expect_err(key);
            assert!(error.contains(expected), "{key}: {error}");
        };
        check("architectures", serde_json::json!(["GPT2LMHeadModel"]), "`GPT2LMHeadModel` is not supported");
        check("hidden_act", "gelu".into(), "`hidden_act` is `gelu`");
        check("partial_rotary_factor", 0.5.into(), "`partial_rotary_factor` is 0.5");
        check("quantization_config", serde_json::json!({"bits": 4}), "`quantization_config` is");
        check("rope_scaling", serde_json::json!({"factor": 8.0}), "`rope_scaling` has no `rope_type`");
        check(
            "rope_scaling",
            serde_json::json!({"type": "longrope", "factor": 8.0}),
            "`rope_scaling` is of type `longrope`",
        );
        let unknown = serde_json::json!({"rope_type": "linear", "factor": 8.0, "mrope_section": [1, 2]});
        check("rope_scaling", unknown, "unknown field `mrope_section`");
        check("rope_scaling", serde_json::json!({"type": "linear", "factor": 0.5}), "factor 0.5");
        check("num_key_value_heads", 3.into(), "3, which does not divide 4");
        check("num_key_value_heads", "3".into(), "`num_key_value_heads` is \"3\"");
        check("head_dim", 5.into(), "even number");
        check("eos_token_id", serde_json::json!([1, 50]), "outside a vocabulary of 50");
        check("hidden_size", 0.into(), "at least 1");
        check("hidden_size", serde_json::Value::Null, "`hidden_size` is missing");
        check("rope_theta", (-1.0).into(), "must be positive");
    }

    #[test]
    fn switches_that_a_family_lacks_are_refused() {
        let check = |config: DecoderConfig, expected: &str| {
            let error = config.check().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(DecoderConfig { qk_norm: true, ..small() }, "LlamaForCausalLM has no norm of queries and keys");
        check(DecoderConfig { no_rope_layers: vec![0], ..small() }, "LlamaForCausalLM rotates every layer");
        check(DecoderConfig { qkv_bias: true, ..small() }, "`output_bias` is false");
        let qwen2 = DecoderConfig { architecture: Architecture::Qwen2, ..small() };
        check(qwen2, "Qwen2ForCausalLM always has biases");
        let window = SlidingWindow { tokens: 4, layers: vec![1] };
        let mistral = DecoderConfig {
            architecture: Architecture::Mistral,
            sliding_window: Some(window.clone()),
            ..small()
        };
        check(mistral, "MistralForCausalLM limits every layer or none");
        check(DecoderConfig { sliding_window: Some(window), ..small() }, "LlamaForCausalLM has no window");
    }

    #[test]
    fn the_keys_of_every_family_become_switches() {
        let base = serde_json::json!({
            "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4,
            "vocab_size": 50, "max_position_embeddings": 64,
        });
        let load = |keys: serde_json::Value| {
            let mut json = base.clone();
            let object = json.as_object_mut().expect("an object");
            object.extend(keys.as_object().expect("an object").clone());
            read(&json).expect("valid")
        };
        let layers = |config: &DecoderConfig| -> Vec<Option<usize>> {
            (0..4).map(|layer| config.window(layer)).collect()
        };
        let mistral = load(serde_json::json!({"model_type": "mistral", "num_key_value_heads": 2}));
        assert_eq!(layers(&mistral), [Some(4096); 4]);
        let mistral = load(serde_json::json!(
            {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": null}
        ));
        assert_eq!(layers(&mistral), [None; 4]);
        let qwen2 = load(serde_json::json!(
            {"model_type": "qwen2", "num_key_value_heads": 4, "sliding_window": 9, "max_window_layers": 3}
        ));
        assert_eq!((layers(&qwen2), qwen2.qkv_bias, qwen2.output_bias), (vec![None; 4], true, false));
        let qwen2 = load(serde_json::json!({
            "model_type": "qwen2", "num_key_value_heads": 4, "sliding_window": 9, "max_window_layers": 3,
            "use_sliding_window": true,
        }));
        assert_eq!(layers(&qwen2), [None, None, None, Some(9)]);
        let qwen3 = load(serde_json::json!({
            "model_type": "qwen3", "num_key_value_heads": 4, "use_sliding_window": true, "sliding_window": 9,
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 2.0},
        }));
        assert_eq!(layers(&qwen3), [None, Some(9), None, Some(9)]);
        assert_eq!((qwen3.head_dim, qwen3.qk_norm, qwen3.rope_theta), (128, true, 5e5));
        assert_eq!(qwen3.rope_scaling, Some(RopeScaling::Yarn(YarnScaling::new(2.0, 64))));
        let smollm3 = load(serde_json::json!({"model_type": "smollm3", "num_key_value_heads": 4}));
        assert_eq!((smollm3.no_rope_layers, smollm3.tie_word_embeddings), (vec![3], true));
        assert_eq!(smollm3.rope_theta, 2_000_000.0);
    }
}
