//! The words of a training configuration, spelled as in Axolotl; TRL and LLaMA-Factory spellings are aliases.

use nexa_core::lm::Tokenizer as _;
use nexa_model::{ChatTokenizer, DecoderConfig, LossMask, TrainOnEos};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::{DatasetConfig, ExcessLength};

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The shape of the model that is trained from scratch.
    pub model: ModelConfig,

    /// Longest sample in tokens; longer ones are dropped, never cut. 512 holds a question with its worked answer.
    #[serde(alias = "max_length", alias = "max_seq_length", alias = "cutoff_len")]
    pub sequence_len: usize,
    /// Samples that are computed at once. 16 short ones fill two cores and stay within their caches.
    #[serde(alias = "per_device_train_batch_size")]
    pub micro_batch_size: usize,
    /// Micro-batches that are summed before the weights move. 1, because packing wastes nothing.
    pub gradient_accumulation_steps: usize,
    /// Passes over the data; fractions are allowed. 1, as the rest depends on the data.
    #[serde(alias = "num_train_epochs")]
    pub num_epochs: f64,
    /// Ends training after this many steps, however many epochs that is; it wins over `num_epochs`.
    pub max_steps: Option<u64>,
    /// Ends training after this much time, earlier attempts included. A run that ends so is not reproducible to the
    /// bit, as it depends on the clock; every other run is.
    pub max_time_s: Option<f64>,

    /// Peak learning rate. 0.002 suits models of a few million weights that start from nothing.
    pub learning_rate: f64,
    /// How the learning rate falls after the warm-up. A cosine, which most recipes use.
    #[serde(alias = "lr_scheduler_type")]
    pub lr_scheduler: Scheduler,
    /// Steps over which the learning rate rises from zero. 50 let Adam's moments settle.
    pub warmup_steps: u64,
    /// Share of the peak at which the decay ends. 0: a run that is finished should come to rest.
    pub cosine_min_lr_ratio: f64,
    /// The update rule. Only AdamW so far.
    #[serde(alias = "optim")]
    pub optimizer: Optimizer,
    /// Decay of the running mean of gradients. 0.9, the value of the paper.
    pub adam_beta1: f64,
    /// Decay of the running mean of squares. 0.95 forgets the large gradients of the first steps soon, which matters
    /// in runs of a few thousand steps (0.999 is meant for longer ones).
    pub adam_beta2: f64,
    /// Keeps the division by the root of squares finite. 1e-8, the value of the paper.
    pub adam_epsilon: f64,
    /// Decoupled decay, on the matrices inside blocks; norms and embeddings never decay. 0.1, as in GPT-3.
    pub weight_decay: f64,
    /// Gradients with a larger norm, over all weights together, are scaled down to it; 0 never clips. 1, as in GPT-3.
    pub max_grad_norm: f64,

    /// Fixes the initial weights, the order of the samples and the split.
    pub seed: u64,
    /// Validation samples taken from the training data where no validation file is given: a share below 1, a number
    /// from 1 on. 0, because a split that was made before is better than one made here.
    pub val_set_size: f64,
    /// Steps between two rows of `metrics.jsonl`. 10 draw a smooth curve.
    pub logging_steps: u64,
    /// Steps between two validations, besides the one at the end; 0 for that one alone.
    pub eval_steps: u64,
    /// Steps between two saved states: what a kill costs at most.
    pub save_steps: u64,
    /// Whether prompts carry loss too. False: the model is to answer questions, not to write them.
    pub train_on_inputs: bool,

    /// How the rows of data files are read; by their columns where nothing is said.
    pub datasets: Vec<DatasetConfig>,
    /// The chat template: `chatml`, Jinja, or the path of a file with it. The tokenizer's own where absent.
    #[serde(alias = "chat_template_jinja", alias = "chat_template_path")]
    pub chat_template: Option<String>,
    /// Variables that the template is always given, when the model is evaluated and served too.
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// The date that a template is told when it asks; 2024-07-26 where absent, so that no day gives other tokens.
    pub chat_template_date: Option<chrono::NaiveDate>,
    /// Roles whose turns carry loss. The assistant's: the model is to answer.
    pub roles_to_train: Vec<String>,
    /// Which stop tokens carry loss. Those after trained turns: without them a model never stops.
    pub train_on_eos: TrainOnEos,
    /// What becomes of samples longer than `sequence_len`. They are dropped and counted: a question without its whole
    /// answer teaches to break off.
    pub excess_length_strategy: ExcessLength,
    /// Whether several samples share a sequence of `sequence_len` tokens; none sees another. False: a micro-batch is
    /// a number of samples.
    #[serde(alias = "packing")]
    pub sample_packing: bool,
    /// Where tokenised data is kept; the lab's cache where absent.
    #[serde(alias = "tokenized_path")]
    pub dataset_prepared_path: Option<std::path::PathBuf>,
}

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

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Along half a cosine.
    Cosine,
    /// In a straight line.
    Linear,
    /// Not at all.
    #[serde(alias = "constant_with_warmup")]
    Constant,
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw_torch", alias = "adamw", alias = "adamw_torch_fused")]
    AdamW,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: ModelConfig::default(),
            sequence_len: 512,
            micro_batch_size: 16,
            gradient_accumulation_steps: 1,
            num_epochs: 1.0,
            max_steps: None,
            max_time_s: None,
            learning_rate: 2e-3,
            lr_scheduler: Scheduler::Cosine,
            warmup_steps: 50,
            cosine_min_lr_ratio: 0.0,
            optimizer: Optimizer::AdamW,
            adam_beta1: 0.9,
            adam_beta2: 0.95,
            adam_epsilon: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
            seed: 42,
            val_set_size: 0.0,
            logging_steps: 10,
            eval_steps: 0,
            save_steps: 200,
            train_on_inputs: false,
            datasets: Vec::new(),
            chat_template: None,
            chat_template_kwargs: serde_json::Map::new(),
            chat_template_date: None,
            roles_to_train: LossMask::default().roles_to_train,
            train_on_eos: TrainOnEos::Turn,
            excess_length_strategy: ExcessLength::Drop,
            sample_packing: false,
            dataset_prepared_path: None,
        }
    }
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
    /// Samples that move the weights once.
    pub fn samples_per_step(&self) -> usize {
        self.micro_batch_size * self.gradient_accumulation_steps
    }

    /// Checks that the values make sense.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |key, problem: String| Err(Error::Config { key, problem });
        for (key, value) in [
            ("sequence_len", self.sequence_len as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps as u64),
            ("logging_steps", self.logging_steps),
            ("save_steps", self.save_steps),
            ("max_steps", self.max_steps.unwrap_or(1)),
        ] {
            if value == 0 {
                return fail(key, "must be at least 1".to_owned());
            }
        }
        let any = f64::NEG_INFINITY..=f64::INFINITY;
        for (key, value, range) in [
            ("num_epochs", self.num_epochs, f64::MIN_POSITIVE..=1e9),
            ("max_time_s", self.max_time_s.unwrap_or(1.0), f64::MIN_POSITIVE..=1e9),
            ("learning_rate", self.learning_rate, f64::MIN_POSITIVE..=1e3),
            ("cosine_min_lr_ratio", self.cosine_min_lr_ratio, 0.0..=1.0),
            ("adam_beta1", self.adam_beta1, 0.0..=0.999_999),
            ("adam_beta2", self.adam_beta2, 0.0..=0.999_999),
            ("adam_epsilon", self.adam_epsilon, f64::MIN_POSITIVE..=1.0),
            ("weight_decay", self.weight_decay, 0.0..=1e3),
            ("max_grad_norm", self.max_grad_norm, 0.0..=f64::MAX),
            ("val_set_size", self.val_set_size, 0.0..=1e9),
        ] {
            if !(any.contains(&value) && range.contains(&value)) {
                return fail(key, format!("is {value}, outside {} to {}", range.start(), range.end()));
            }
        }
        Ok(())
    }

    /// Puts the shape of the decoder together.
    ///
    /// # Errors
    /// Names the key of the `model` block whose value does not fit the others.
    pub fn decoder(&self, tokenizer: &ChatTokenizer) -> Result<DecoderConfig, Error> {
        let model = &self.model;
        let max_position_embeddings = model.max_position_embeddings.unwrap_or(self.sequence_len);
        if max_position_embeddings < self.sequence_len {
            let problem =
                format!("is {max_position_embeddings}, less than `sequence_len` ({})", self.sequence_len);
            return Err(Error::Config { key: "model.max_position_embeddings", problem });
        }
        let config = DecoderConfig {
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_hidden_layers: model.num_hidden_layers,
            num_attention_heads: model.num_attention_heads,
            num_key_value_heads: model.num_key_value_heads,
            head_dim: model.head_dim.unwrap_or(model.hidden_size / model.num_attention_heads.max(1)),
            max_position_embeddings,
            rms_norm_eps: 1e-5,
            rope_theta: model.rope_theta,
            tie_word_embeddings: model.tie_word_embeddings,
            vocab_size: tokenizer.vocab_size(),
            bos_token_id: tokenizer.bos_token(),
            eos_token_id: tokenizer.eos_token(),
            pad_token_id: tokenizer.pad_token(),
            initializer_range: model
                .initializer_range
                .unwrap_or(1.0 / (model.hidden_size.max(1) as f64).sqrt()),
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_are_understood_and_unknown_keys_are_not() {
        let check = |json: &str| serde_json::from_str::<Config>(json).map_err(|error| error.to_string());
        let config = check(r#"{"per_device_train_batch_size": 3, "cutoff_len": 99, "optim": "adamw"}"#)
            .expect("aliases");
        assert_eq!(
            (config.micro_batch_size, config.sequence_len, config.optimizer),
            (3, 99, Optimizer::AdamW)
        );
        let error = check(r#"{"learning_rat": 1}"#).expect_err("unknown key");
        assert!(error.contains("unknown field `learning_rat`"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let check = |change: fn(&mut Config), key: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().expect_err(key).to_string();
            assert!(error.starts_with(&format!("config: `{key}`")), "{error}");
        };
        check(|config| config.micro_batch_size = 0, "micro_batch_size");
        check(|config| config.learning_rate = f64::NAN, "learning_rate");
        check(|config| config.adam_beta2 = 1.0, "adam_beta2");
        check(|config| config.num_epochs = 0.0, "num_epochs");
        assert!(Config::default().check().is_ok());
    }
}
