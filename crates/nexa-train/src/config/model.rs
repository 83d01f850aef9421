//! The shape of a model that is trained from scratch.

use nexa_core::lm::Tokenizer as _;
use nexa_model::{ChatTokenizer, DecoderConfig, Llama};
use serde::{Deserialize, Serialize};

use super::Config;
use crate::Error;

/// The shape of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Width of the residual stream. With the other defaults, 128 gives a model of 0.9 million weights.
    pub hidden_size: usize,
    /// Width of the feed-forward block. Three times the hidden size: about the weights of an ungated block of four.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; half of the query heads halve the cache at no visible loss.
    pub num_key_value_heads: usize,
    /// Numbers of one head; the hidden size over the query heads where absent.
    pub head_dim: Option<usize>,
    /// Base of the rotary frequencies. 10,000, the value of the paper, enough for short contexts.
    pub rope_theta: f64,
    /// Whether the output layer is the embedding. True: in a small model it would be a large share of the weights.
    pub tie_word_embeddings: bool,
    /// Largest number of positions; `sequence_len` where absent.
    pub max_position_embeddings: Option<usize>,
    /// Standard deviation of the initial weights; `1 / sqrt(hidden_size)` where absent. The usual 0.02 is right for
    /// widths around 2,500; at a width of 128 it halves what a model learns from the same data.
    pub initializer_range: Option<f64>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: None,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            max_position_embeddings: None,
            initializer_range: None,
        }
    }
}

impl Config {
    /// Puts the shape of the decoder together.
    ///
    /// # Errors
    /// Names the key of the `model` block whose value does not fit the others.
    pub fn decoder(&self, tokenizer: &ChatTokenizer) -> Result<DecoderConfig, Error> {
        let model = &self.model;
        let max_position_embeddings = model.max_position_embeddings.unwrap_or(self.sequence_len());
        if max_position_embeddings < self.sequence_len() {
            let problem =
                format!("is {max_position_embeddings}, less than `sequence_len` ({})", self.sequence_len());
            return Err(Error::Config { key: "model.max_position_embeddings", problem });
        }
        let plain = DecoderConfig::llama(Llama {
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            layers: model.num_hidden_layers,
            heads: model.num_attention_heads,
            key_value_heads: model.num_key_value_heads,
            vocab_size: tokenizer.vocab_size(),
        });
        let config = DecoderConfig {
            head_dim: model.head_dim.unwrap_or(plain.head_dim),
            max_position_embeddings,
            rope_theta: model.rope_theta,
            tie_word_embeddings: model.tie_word_embeddings,
            bos_token_id: tokenizer.bos_token(),
            eos_token_ids: tokenizer.eos_token().into_iter().collect(),
            pad_token_id: tokenizer.pad_token(),
            initializer_range: model.initializer_range.unwrap_or(plain.initializer_range),
            ..plain
        };
        config.check()?;
        Ok(config)
    }
}
