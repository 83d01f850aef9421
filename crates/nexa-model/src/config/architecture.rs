//! The families of decoders: the names that files know them by, and the switches that each can express.

use crate::{DecoderConfig, Error};

/// A family of decoders, as `architectures` in `config.json` names it. SmolLM2 is a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2 and many others.
    Llama,
    /// Mistral: a Llama that may see through a sliding window.
    Mistral,
    /// Qwen2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: normalised queries and keys.
    Qwen3,
    /// SmolLM3: some layers without positions.
    SmolLm3,
}

impl Architecture {
    /// Every family.
    pub const ALL: [Self; 5] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::SmolLm3];

    /// Returns the name in `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
        }
    }

    /// Returns the name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
        }
    }

    /// Finds the family of a name in `architectures` or `model_type`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.class_name() == name || family.model_type() == name)
    }

    /// Checks that a config of this family can express what a decoder's switches say.
    pub(super) fn check(self, config: &DecoderConfig) -> Result<(), Error> {
        let class = self.class_name();
        let fail = |key, problem: String| Err(Error::Config { key, problem });
        if config.qk_norm != (self == Self::Qwen3) {
            let has = if self == Self::Qwen3 { "always has a" } else { "has no" };
            return fail("qk_norm", format!("is {}, {class} {has} norm of queries and keys", config.qk_norm));
        }
        if !config.no_rope_layers.is_empty() && self != Self::SmolLm3 {
            return fail("no_rope_layers", format!("is not empty, {class} rotates every layer"));
        }
        let (qkv, output, mlp) = (config.qkv_bias, config.output_bias, config.mlp_bias);
        match self {
            Self::Qwen2 if !qkv => {
                return fail("qkv_bias", format!("is false, {class} always has biases there"));
            }
            Self::Qwen2 if output => return fail("output_bias", format!("is true, {class} has none")),
            Self::Mistral if qkv => return fail("qkv_bias", format!("is true, {class} has none")),
            Self::Qwen2 => {}
            _ if qkv != output => {
                return fail(
                    "qkv_bias",
                    format!("is {qkv} and `output_bias` is {output}, {class} has both or none"),
                );
            }
            _ => {}
        }
        if mlp && !matches!(self, Self::Llama | Self::SmolLm3) {
            return fail("mlp_bias", format!("is true, {class} has none"));
        }
        match &config.sliding_window {
            Some(_) if self == Self::Llama => {
                fail("sliding_window", format!("is set, {class} has no window"))
            }
            Some(window) if self == Self::Mistral && window.layers.len() != config.num_hidden_layers => {
                fail("sliding_window", format!("is set for some layers, {class} limits every layer or none"))
            }
            _ => Ok(()),
        }
    }
}
