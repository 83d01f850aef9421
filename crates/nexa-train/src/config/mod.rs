//! The words of a training configuration, spelled as in Axolotl; TRL, Hugging Face and LLaMA-Factory spellings are
//! aliases.
//!
//! The struct is flat, as configuration files are: [`check`] says which values make sense, [`model`] is the shape of
//! a model from scratch, [`choices`] are the words that stand for an algorithm.

mod check;
mod choices;
mod model;

use nexa_model::device::{self, DeviceName};
use nexa_model::{DecoderConfig, LoraConfig, LossMask, TrainOnEos};
use serde::{Deserialize, Serialize};

pub use choices::{
    Adapter, Bf16, Divergence, LearningRateGroup, Metric, Objective, Optimizer, PreferenceLoss, Scheduler,
};
pub use model::ModelConfig;

use crate::data::{DatasetConfig, ExcessLength};
use crate::trackers::{self, MlflowConfig, TensorBoardConfig, TrackerKind, Tracking, WandbConfig};

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is made small. `sft`: most people have answers to learn from.
    #[serde(alias = "stage")]
    pub objective: Objective,
    /// The shape of the model that is trained from scratch, where no model is given to go on from.
    pub model: ModelConfig,

    /// What computes: `auto`, `cpu`, `cuda:N`, `rocm:N`, `metal:N`, `vulkan:N` or `webgpu:N`. `auto`, the best of what
    /// this binary was built for and this machine has.
    pub device: DeviceName,
    /// Whether it computes in bfloat16, over weights in `f32`. `auto`: where the device can, which the CPU cannot.
    pub bf16: Bf16,

    /// What is trained instead of all weights: `lora`. All weights where absent.
    #[serde(alias = "finetuning_type")]
    pub adapter: Option<Adapter>,
    /// Rank of the adapters. 16, from where a higher one seldom gains.
    #[serde(alias = "lora_rank")]
    pub lora_r: usize,
    /// The adapters' corrections are multiplied with `lora_alpha / lora_r`. 32, twice the default rank.
    pub lora_alpha: f64,
    /// The projections that get adapters. `all-linear`, which comes nearest to training all weights.
    #[serde(alias = "lora_target")]
    pub lora_target_modules: Vec<String>,
    /// Whether corrections are multiplied with `lora_alpha / sqrt(lora_r)` instead, so that a higher rank does not
    /// weaken them. False, as most published settings mean the plain factor.
    #[serde(alias = "use_rslora", alias = "lora_use_rslora")]
    pub peft_use_rslora: bool,
    /// The share of each projection's input that its adapter does not see in a step. 0: on little data most people stop
    /// early instead.
    pub lora_dropout: f64,

    /// The loss of a preference. `sigmoid`, that of the paper.
    #[serde(alias = "pref_loss", alias = "loss_type")]
    pub dpo_loss: PreferenceLoss,
    /// How strongly a preference model is held to its reference. 0.1, the value of the paper.
    #[serde(alias = "beta", alias = "pref_beta", alias = "dpo_beta")]
    pub rl_beta: f64,

    /// How far a student is from its teacher. `forward_kl`, with which the student learns all that the teacher can do.
    pub kd_divergence: Divergence,
    /// The teacher's share of the mixture of `jsd`: near 0 it is like the forward, near 1 like the reverse divergence.
    pub kd_beta: f64,
    /// What the divergence is multiplied with. 0.5, with as much of the data's own likelihood.
    pub kd_alpha: f64,
    /// What the negative log-likelihood of the data is multiplied with.
    pub kd_ce_alpha: f64,
    /// What logits are divided by before they are compared. 1: the distributions as they are.
    pub kd_temperature: f64,
    /// The likeliest tokens of which the teacher's probabilities are kept: it is then asked once about every sample, and
    /// never again. Absent: it is asked about every batch, and the whole distributions are compared.
    pub kd_top_k: Option<usize>,

    /// Longest sample in tokens; longer ones are dropped (`excess_length_strategy`), and the texts of `pretrain` divided
    /// into pieces. Where absent, 512, which holds a question with its worked answer, or what a given model can take
    /// where that is less.
    #[serde(alias = "max_length", alias = "max_seq_length", alias = "cutoff_len")]
    pub sequence_len: Option<usize>,
    /// Samples that are computed at once. 16 short ones fill two cores and stay within their caches.
    #[serde(alias = "per_device_train_batch_size", alias = "batch_size")]
    pub micro_batch_size: usize,
    /// Micro-batches that are summed before the weights move. 1, because packing wastes nothing. The sum is divided by
    /// the trained tokens of the whole step, so that a step is the same however it is cut into micro-batches.
    pub gradient_accumulation_steps: usize,
    /// Passes over the data; fractions are allowed. 1, as the rest depends on the data.
    #[serde(alias = "num_train_epochs", alias = "max_epochs", alias = "epochs")]
    pub num_epochs: f64,
    /// Whether only the inputs of blocks are kept for the backward pass and the rest is computed again: a third more
    /// work, and the memory of one block instead of all. False: memory is seldom short where models are small.
    pub gradient_checkpointing: bool,
    /// Ends training after this many steps, however many epochs that is; it wins over `num_epochs`.
    pub max_steps: Option<u64>,
    /// Ends training with the step that brings the tokens seen to this number; it wins over `num_epochs`, and of it
    /// and `max_steps` the one that is reached first.
    pub max_tokens: Option<u64>,
    /// Ends training after this much time, earlier attempts included. A run that ends so is not reproducible to the
    /// bit, as it depends on the clock; every other run is.
    #[serde(alias = "max_time")]
    pub max_time_s: Option<f64>,

    /// Peak learning rate. Where absent, 2e-3 for a model from scratch, which suits a few million weights; for a given
    /// model 2e-5, so that it does not forget what it knows, and 1e-6 on preferences, which a few steps satisfy; ten
    /// times as much for adapters.
    #[serde(alias = "lr")]
    pub learning_rate: Option<f64>,
    /// Peak learning rate of the embeddings and of the output layer; `learning_rate` where absent.
    #[serde(alias = "embedding_learning_rate", alias = "embeddings_learning_rate")]
    pub embedding_lr: Option<f64>,
    /// Learning rates and decays of parameters by name. None: one rate is right until a measurement says otherwise.
    pub lr_groups: Vec<LearningRateGroup>,
    /// How the learning rate goes on after the warm-up. A cosine, which most recipes use.
    #[serde(alias = "lr_scheduler_type")]
    pub lr_scheduler: Scheduler,
    /// Steps over which the learning rate rises from zero. Where neither this nor `warmup_ratio` is given, 50, which
    /// let Adam's moments settle, but no more than a tenth of the run.
    pub warmup_steps: Option<u64>,
    /// The same as a share of the run's steps.
    pub warmup_ratio: Option<f64>,
    /// Share of the peak at which the decay ends. 0: a run that is finished should come to rest.
    #[serde(alias = "min_lr_ratio", alias = "min_lr_rate")]
    pub cosine_min_lr_ratio: f64,
    /// Share of the steps in which `warmup_stable_decay` falls. 0.2, from where a longer decay gains little (Hägele et
    /// al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024).
    pub lr_decay_ratio: f64,
    /// The update rule. AdamW, which every recipe is tuned for.
    #[serde(alias = "optim")]
    pub optimizer: Optimizer,
    /// Decay of the running mean of gradients. 0.9, the value of the paper.
    pub adam_beta1: f64,
    /// Decay of the running mean of squares. 0.95 forgets the large gradients of the first steps soon, which matters
    /// in runs of a few thousand steps (0.999 is meant for longer ones).
    pub adam_beta2: f64,
    /// Keeps the division by the root of squares finite. 1e-8, the value of the paper.
    pub adam_epsilon: f64,
    /// Decay of Muon's running mean of gradients. 0.95, the author's value.
    pub muon_momentum: f64,
    /// Decoupled decay, on the matrices inside blocks; norms and embeddings never decay, unless a group says so. 0.1,
    /// as in GPT-3.
    pub weight_decay: f64,
    /// Gradients with a larger norm, over all weights together, are scaled down to it; 0 never clips. 1, as in GPT-3.
    pub max_grad_norm: f64,

    /// Fixes the initial weights, the order of the samples and the split.
    pub seed: u64,
    /// Validation samples taken from the training data where no validation file is given: a share below 1, a number
    /// from 1 on. 0, because a split that was made before is better than one made here.
    #[serde(alias = "val_size")]
    pub val_set_size: f64,
    /// Steps between two rows of `metrics.jsonl`. 10 draw a smooth curve.
    pub logging_steps: u64,
    /// Steps between two validations, besides the one at the end; where neither this nor `evals_per_epoch` is given,
    /// or for 0, that one alone.
    pub eval_steps: Option<u64>,
    /// The same as a number of validations in an epoch.
    pub evals_per_epoch: Option<u64>,
    /// Ends training after this many validations in a row without a gain. Absent: never, as the learning rate has then
    /// not come to rest.
    #[serde(alias = "early_stopping_steps")]
    pub early_stopping_patience: Option<u64>,
    /// How much lower than at the last gain a loss must be to count as a gain. 0: any gain counts. What is best is the
    /// lowest loss, whatever this says.
    pub early_stopping_threshold: f64,
    /// What tells the best checkpoint. The loss of the validation data is all that training measures.
    pub metric_for_best_model: Metric,
    /// Whether the result is the checkpoint with the best validation rather than the last. False: with a decaying
    /// learning rate the last one is nearly always the best, and the choice costs a checkpoint at every best.
    pub load_best_model_at_end: bool,

    /// Steps between two saved states: what a kill costs at most. Where neither this nor `saves_per_epoch` is given,
    /// 200.
    pub save_steps: Option<u64>,
    /// The same as a number of saves in an epoch.
    pub saves_per_epoch: Option<u64>,
    /// Checkpoints that are kept in the run's folder, `checkpoints/step-N`: the best and the newest. 2, one of each; 0
    /// keeps none but what `load_best_model_at_end` needs. The state that resuming needs is kept apart from these.
    pub save_total_limit: usize,
    /// A loss above this is an explosion. Where absent, three times that of guessing every token with equal
    /// probability, which no run that learns comes near; none for preferences and distillation.
    pub loss_watchdog_threshold: Option<f64>,
    /// Steps in a row above the threshold that stop the run. 3: one wild batch is no explosion. A loss or a gradient
    /// that is no number stops it at once.
    pub loss_watchdog_patience: u64,

    /// Whether prompts carry loss too. False: the model is to answer questions, not to write them.
    #[serde(alias = "train_on_prompt")]
    pub train_on_inputs: bool,

    /// The data sets, how their rows are read, and how much of each is seen. By their columns where nothing is said, and
    /// each sample once an epoch.
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

    // Where metrics go decides no result, so it is in no record and in no key.
    /// The trackers that follow the run. None, because the run's folder and the dashboard need no service.
    #[serde(skip_serializing, deserialize_with = "trackers::one_or_many")]
    pub report_to: Vec<TrackerKind>,
    /// How MLflow is reached.
    #[serde(skip_serializing)]
    pub mlflow: MlflowConfig,
    /// Where TensorBoard's files lie.
    #[serde(skip_serializing)]
    pub tensorboard: TensorBoardConfig,
    /// Where W&B's offline runs lie.
    #[serde(skip_serializing)]
    pub wandb: WandbConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            objective: Objective::Sft,
            model: ModelConfig::default(),
            device: DeviceName::Auto,
            bf16: Bf16::Auto,
            adapter: None,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_target_modules: vec!["all-linear".to_owned()],
            peft_use_rslora: false,
            lora_dropout: 0.0,
            dpo_loss: PreferenceLoss::Sigmoid,
            rl_beta: 0.1,
            kd_divergence: Divergence::ForwardKl,
            kd_beta: 0.5,
            kd_alpha: 0.5,
            kd_ce_alpha: 0.5,
            kd_temperature: 1.0,
            kd_top_k: None,
            sequence_len: None,
            micro_batch_size: 16,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            num_epochs: 1.0,
            max_steps: None,
            max_tokens: None,
            max_time_s: None,
            learning_rate: None,
            embedding_lr: None,
            lr_groups: Vec::new(),
            lr_scheduler: Scheduler::Cosine,
            warmup_steps: None,
            warmup_ratio: None,
            cosine_min_lr_ratio: 0.0,
            lr_decay_ratio: 0.2,
            optimizer: Optimizer::AdamW,
            adam_beta1: 0.9,
            adam_beta2: 0.95,
            adam_epsilon: 1e-8,
            muon_momentum: 0.95,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
            seed: 42,
            val_set_size: 0.0,
            logging_steps: 10,
            eval_steps: None,
            evals_per_epoch: None,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            metric_for_best_model: Metric::EvalLoss,
            load_best_model_at_end: false,
            save_steps: None,
            saves_per_epoch: None,
            save_total_limit: 2,
            loss_watchdog_threshold: None,
            loss_watchdog_patience: 3,
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
            report_to: Vec::new(),
            mlflow: MlflowConfig::default(),
            tensorboard: TensorBoardConfig::default(),
            wandb: WandbConfig::default(),
        }
    }
}

/// Peak learning rates: of a model from scratch; of a given one, as TRL's trainers of answers and of preferences have
/// them; and how many times that adapters take (Schulman et al., "LoRA Without Regret", 2025).
const RATE_FROM_SCRATCH: f64 = 2e-3;
const RATE_OF_ANSWERS: f64 = 2e-5;
const RATE_OF_PREFERENCES: f64 = 1e-6;
const TIMES_FOR_ADAPTERS: f64 = 10.0;
/// Tokens of the longest sample, where nothing is said and the model can take them.
const SEQUENCE_LEN: usize = 512;

impl Config {
    /// Puts the device that it is on this machine in the place of `auto`, and tells why that is the CPU where this
    /// binary was built for others.
    pub(crate) fn resolve(&self) -> (Self, Option<String>) {
        let device::Choice { name, reason } = device::resolve(self.device);
        (Self { device: name, ..self.clone() }, reason)
    }

    /// Fills in what depends on the model to go on from, if there is one.
    pub(crate) fn fitted_to(&self, base: Option<&DecoderConfig>) -> Self {
        let rate = match (base, self.objective) {
            (None, _) => RATE_FROM_SCRATCH,
            (Some(_), Objective::Dpo) => RATE_OF_PREFERENCES,
            (Some(_), _) => RATE_OF_ANSWERS,
        };
        let times = if base.is_some() && self.adapter.is_some() { TIMES_FOR_ADAPTERS } else { 1.0 };
        let most = base.map_or(SEQUENCE_LEN, DecoderConfig::context_length);
        Self {
            learning_rate: self.learning_rate.or(Some(rate * times)),
            sequence_len: self.sequence_len.or(Some(SEQUENCE_LEN.min(most))),
            ..self.clone()
        }
    }

    /// The peak learning rate; that of a model from scratch, where nothing was said or filled in.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate.unwrap_or(RATE_FROM_SCRATCH)
    }

    /// The longest sample in tokens; that of a model from scratch, where nothing was said or filled in.
    pub fn sequence_len(&self) -> usize {
        self.sequence_len.unwrap_or(SEQUENCE_LEN)
    }

    /// The settings of the adapters, where there are some.
    pub(crate) fn lora(&self) -> Option<LoraConfig> {
        self.adapter.map(|Adapter::Lora| LoraConfig {
            r: self.lora_r,
            alpha: self.lora_alpha,
            use_rslora: self.peft_use_rslora,
            target_modules: self.lora_target_modules.clone(),
            dropout: self.lora_dropout,
        })
    }

    /// Where metrics go besides the run's folder.
    pub(crate) fn tracking(&self) -> Tracking {
        Tracking {
            report_to: self.report_to.clone(),
            mlflow: self.mlflow.clone(),
            tensorboard: self.tensorboard.clone(),
            wandb: self.wandb.clone(),
        }
    }

    /// Whether the model is validated before the end.
    pub(crate) fn validates_on_the_way(&self) -> bool {
        self.evals_per_epoch.is_some() || self.eval_steps.is_some_and(|steps| steps > 0)
    }
}
