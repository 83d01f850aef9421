//! The words of a configuration that stand for an algorithm.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// Along half a cosine.
    #[serde(alias = "cosine_with_min_lr")]
    Cosine,
    /// In a straight line.
    Linear,
    /// Not at all.
    #[serde(alias = "constant_with_warmup")]
    Constant,
    /// Level, and down in the last steps (`lr_decay_ratio`).
    #[serde(alias = "wsd")]
    WarmupStableDecay,
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw_torch", alias = "adamw", alias = "adamw_torch_fused", alias = "adamw_hf")]
    AdamW,
    /// Adam's second moment as a product of a row and a column: memory for optimizer state falls to almost nothing.
    #[serde(rename = "adafactor")]
    Adafactor,
    /// Orthogonalised momentum for the matrices inside blocks, AdamW for everything else.
    #[serde(rename = "muon")]
    Muon,
}

/// What tells the best of several checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Mean loss of the validation data; lower is better.
    #[serde(rename = "eval_loss", alias = "loss", alias = "val_loss")]
    EvalLoss,
}

/// A learning rate and a decay for parameters by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRateGroup {
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// Parts of tensor names, such as `mlp.down_proj`. Tensors that are computed as one matrix, such as `q_proj`,
    /// `k_proj` and `v_proj`, can only be named together.
    pub modules: Vec<String>,
    /// Peak learning rate; that of the rest where absent.
    #[serde(default, alias = "learning_rate")]
    pub lr: Option<f64>,
    /// Decoupled decay; that of the rest where absent.
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The negative log-likelihood of all tokens of plain text.
    #[serde(alias = "pt")]
    Pretrain,
    /// The negative log-likelihood of the answers.
    Sft,
    /// The loss of choosing the worse of two answers.
    Dpo,
    /// A divergence from a teacher's distributions, mixed with the negative log-likelihood.
    #[serde(alias = "kd", alias = "gkd")]
    Distill,
}

/// The loss of a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreferenceLoss {
    /// The negative logarithm of the probability that the better answer wins.
    Sigmoid,
    /// The squared distance from a margin of `1 / (2 rl_beta)`, which does not run away where preferences are certain.
    Ipo,
}

/// How far a student is from its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// `KL(teacher, student)`.
    ForwardKl,
    /// `KL(student, teacher)`.
    ReverseKl,
    /// The generalised divergence of Jensen and Shannon.
    Jsd,
}

/// Whether a model is computed in bfloat16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flag", into = "Flag")]
pub enum Bf16 {
    /// Where the device can.
    Auto,
    /// Yes; a device that cannot is an error.
    On,
    /// No: in `f32`.
    Off,
}

/// How that is written: `auto`, `true` or `false`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Flag {
    Switch(bool),
    Word(String),
}

impl TryFrom<Flag> for Bf16 {
    type Error = String;

    fn try_from(flag: Flag) -> Result<Self, String> {
        match flag {
            Flag::Switch(true) => Ok(Self::On),
            Flag::Switch(false) => Ok(Self::Off),
            Flag::Word(word) if word == "auto" => Ok(Self::Auto),
            Flag::Word(word) => Err(format!("`{word}` is none of auto, true, false")),
        }
    }
}

impl From<Bf16> for Flag {
    fn from(value: Bf16) -> Self {
        match value {
            Bf16::Auto => Self::Word("auto".to_owned()),
            Bf16::On => Self::Switch(true),
            Bf16::Off => Self::Switch(false),
        }
    }
}

/// What is trained instead of all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapter {
    /// Low-rank corrections of frozen weights.
    Lora,
}
