//! Which weights adapters correct, and how strongly.

use serde::{Deserialize, Serialize};

use crate::Error;

/// The projections that can be corrected.
pub(super) const PROJECTIONS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Which weights are corrected, and how strongly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// The rank of every correction.
    pub r: usize,
    /// The correction is multiplied with `alpha / r`, or with `alpha / sqrt(r)` where it is stabilised.
    pub alpha: f64,
    /// Whether the factor is that of rank-stabilised LoRA (Kalajdzievski, 2023).
    pub use_rslora: bool,
    /// The projections: names such as `q_proj`, or `all-linear`.
    pub target_modules: Vec<String>,
    /// The share of each projection's input that its correction does not see, in training alone.
    pub dropout: f64,
}

impl LoraConfig {
    /// Checks ranks and names.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |key, problem: String| Err(Error::Config { key, problem });
        if self.r == 0 {
            return fail("lora_r", "must be at least 1".to_owned());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fail("lora_alpha", format!("is {}, it must be positive", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("lora_dropout", format!("is {}, it must be at least 0 and below 1", self.dropout));
        }
        if self.target_modules.is_empty() {
            return fail("lora_target_modules", "names nothing".to_owned());
        }
        for name in &self.target_modules {
            if name != "all-linear" && !PROJECTIONS.contains(&name.as_str()) {
                let known = PROJECTIONS.join(", ");
                return fail(
                    "lora_target_modules",
                    format!("names `{name}` (there are: {known}, all-linear)"),
                );
            }
        }
        Ok(())
    }

    pub(super) fn targets(&self, projection: &str) -> bool {
        self.target_modules.iter().any(|name| name == projection || name == "all-linear")
    }

    pub(super) fn scale(&self) -> f32 {
        let r = self.r as f64;
        (self.alpha / if self.use_rslora { r.sqrt() } else { r }) as f32
    }
}
