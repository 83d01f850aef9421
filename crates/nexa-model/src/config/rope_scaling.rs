//! How the rotary frequencies of a model are changed for more positions than it first knew.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fail;
use crate::Error;

/// A rule that changes the rotary frequencies, with the names and defaults of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every position counts as `1 / factor` of one.
    Linear {
        /// How many times as many positions there are.
        factor: f64,
    },
    /// The base grows with the length of a sequence that is longer than `max_position_embeddings`.
    Dynamic {
        /// How many times as many positions there are.
        factor: f64,
    },
    /// High frequencies stay, low ones are interpolated, those between are mixed.
    Yarn(YarnScaling),
    /// As in Llama 3.1: long wavelengths are stretched, short ones stay, those between are mixed.
    Llama3(Llama3Scaling),
}

/// The numbers of YaRN.
///
/// # Source
/// Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YarnScaling {
    /// How many times as many positions there are.
    pub factor: f64,
    /// Positions of the first training.
    pub original_max_position_embeddings: usize,
    /// What cosines and sines are multiplied by, instead of what `factor` implies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Rotations within the first training above which a frequency stays.
    #[serde(default = "beta_fast")]
    pub beta_fast: f64,
    /// Rotations within the first training below which a frequency is interpolated.
    #[serde(default = "beta_slow")]
    pub beta_slow: f64,
    /// Weight of `factor` in the numerator of the implied attention factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// Weight of `factor` in its denominator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// Whether the range of mixed frequencies is widened to whole dimensions.
    #[serde(default = "truncate")]
    pub truncate: bool,
}

/// The numbers of Llama 3.1's scaling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llama3Scaling {
    /// How many times as long the long wavelengths become.
    pub factor: f64,
    /// Wavelengths above the original length over this are long.
    pub low_freq_factor: f64,
    /// Wavelengths below the original length over this are short.
    pub high_freq_factor: f64,
    /// Positions of the first training.
    pub original_max_position_embeddings: usize,
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

fn truncate() -> bool {
    true
}

impl YarnScaling {
    /// Takes the defaults of `transformers` for everything else.
    pub fn new(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self {
            factor,
            original_max_position_embeddings,
            attention_factor: None,
            beta_fast: beta_fast(),
            beta_slow: beta_slow(),
            mscale: None,
            mscale_all_dim: None,
            truncate: truncate(),
        }
    }
}

impl RopeScaling {
    /// Reads a block of `config.json`; `None` where it changes nothing.
    ///
    /// `positions` is the length that the model was made for, `original` that of its first training where the config
    /// tells it outside of the block.
    pub(super) fn read(
        key: &'static str,
        block: &Map<String, Value>,
        positions: usize,
        original: Option<usize>,
    ) -> Result<Option<Self>, Error> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let mut block: Map<String, Value> =
            block.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        block.remove("rope_theta");
        let old = block.remove("type");
        let kind = block.remove("rope_type").or(old);
        let Some(kind) = kind.as_ref().and_then(Value::as_str) else {
            return if block.is_empty() { Ok(None) } else { fail(key, "has no `rope_type`".to_owned()) };
        };
        match kind {
            "default" | "linear" | "dynamic" => {
                // Written by some tools, read by none for these types.
                block.remove(ORIGINAL);
            }
            "yarn" | "llama3" => {
                if let Some(original) = original {
                    block.insert(ORIGINAL.to_owned(), original.into());
                }
                let original = block.entry(ORIGINAL).or_insert(positions.into()).as_f64().unwrap_or(1.0);
                if kind == "yarn" {
                    block.entry("factor").or_insert((positions as f64 / original).into());
                }
            }
            other => {
                return fail(
                    key,
                    format!("is of type `{other}` (supported: default, linear, dynamic, yarn, llama3)"),
                );
            }
        }
        if kind == "default" {
            return match block.keys().next() {
                None => Ok(None),
                Some(unknown) => fail(key, format!("is of type `default` and has `{unknown}`")),
            };
        }
        block.insert("rope_type".to_owned(), kind.into());
        serde_json::from_value(Value::Object(block))
            .map(Some)
            .or_else(|error| fail(key, format!("has {error}")))
    }

    /// Checks that the numbers make sense.
    pub(super) fn check(&self) -> Result<(), Error> {
        let factor = match *self {
            Self::Linear { factor } | Self::Dynamic { factor } => factor,
            Self::Yarn(YarnScaling { factor, .. }) | Self::Llama3(Llama3Scaling { factor, .. }) => factor,
        };
        if !(factor.is_finite() && factor >= 1.0) {
            return fail("rope_scaling", format!("has factor {factor}, it must be at least 1"));
        }
        match *self {
            Self::Llama3(Llama3Scaling { low_freq_factor: low, high_freq_factor: high, .. })
                if !(0.0 < low && low < high) =>
            {
                fail("rope_scaling", format!("has low_freq_factor {low} and high_freq_factor {high}"))
            }
            Self::Yarn(YarnScaling { original_max_position_embeddings: 0, .. })
            | Self::Llama3(Llama3Scaling { original_max_position_embeddings: 0, .. }) => {
                fail("rope_scaling", "has original_max_position_embeddings 0".to_owned())
            }
            _ => Ok(()),
        }
    }
}
