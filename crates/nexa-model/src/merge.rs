//! The stage `model.merge`: a checkpoint and the adapters that were trained over it become one checkpoint.

use std::path::PathBuf;

use burn::tensor::Device;
use nexa_core::Error as CoreError;
use nexa_core::artifact::Kind;
use nexa_core::event::Event;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Stage, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{ADAPTER_BASE, ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS};
use crate::lora::{TrainedOver, trained_over};
use crate::{Base, Batch, Checkpoint, Decoder, Error, Lora, Weights};

const NAME: &str = "model.merge";
/// The role of the model that the adapters correct.
const BASE_ROLE: &str = "base";
/// Tokens that the merged model is tried on.
const TRIED_TOKENS: usize = 24;
/// How far two logits may be apart, as a share of the largest one: a hundred times what adding `B A` to a weight in
/// `f32`, instead of to the product, has been seen to change.
const TOLERANCE: f32 = 1e-3;

/// What is merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeConfig {
    /// A folder with `adapter_config.json` and `adapter_model.safetensors`, or that of a trained model that holds them in
    /// `adapter`; a relative path starts at the lab's root.
    pub adapter: String,
    /// Merges into another model than the adapters say they were trained over, as long as the shapes fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_base: bool,
}

/// Adds adapters to the weights of a checkpoint, once it is shown that this changes no answer.
#[derive(Debug, Clone)]
pub struct MergeModel {
    config: MergeConfig,
    folder: PathBuf,
}

impl MergeModel {
    /// Finds the files of the adapters.
    ///
    /// # Errors
    /// Names the file that is missing.
    pub fn new(lab: &Lab, config: MergeConfig) -> Result<Self, StageError> {
        let mut folder = lab.root().join(&config.adapter);
        let inner = folder.join(ADAPTER_FOLDER);
        if !folder.join(ADAPTER_CONFIG).is_file() && inner.join(ADAPTER_CONFIG).is_file() {
            folder = inner;
        }
        let config = MergeConfig { adapter: lab.display_path(&folder), ..config };
        let made = Self { config, folder };
        match made.outside_files().into_iter().find(|file| !file.is_file()) {
            Some(missing) => {
                let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(CoreError::io("read", missing, cause).into())
            }
            None => Ok(made),
        }
    }

    /// Refuses another model than the adapters were trained over, where they say which that was.
    fn check_base(&self, base: &Checkpoint, name: &str) -> Result<(), Error> {
        match trained_over(&self.folder)? {
            Some(TrainedOver { base_model, base_weights })
                if base_weights != base.weights_hash && !self.config.any_base =>
            {
                Err(Error::OtherBase {
                    trained_over: base_model,
                    trained_hash: base_weights,
                    base: name.to_owned(),
                    base_hash: base.weights_hash.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}

impl Stage for MergeModel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Checkpoint
    }

    fn code_version(&self) -> u32 {
        2
    }

    fn config(&self) -> Value {
        serde_json::to_value(&self.config).expect("a text is JSON")
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        let mut files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS].map(|name| self.folder.join(name)).to_vec();
        files.extend(Some(self.folder.join(ADAPTER_BASE)).filter(|file| file.exists()));
        files
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let artifact = context.inputs.require(BASE_ROLE)?;
        let base = Checkpoint::load(&artifact.path())?;
        self.check_base(&base, &artifact.id().to_string())?;
        let lora = Lora::load(&self.folder, base.weights.config())?;
        let mut merged = base.weights.clone();
        lora.merge(&mut merged);
        let difference = check(&base.weights, &lora, &merged)?;
        context.emit(Event::info(format!(
            "{} numbers of adapters merged; logits differ by at most {difference:.1e}",
            lora.count()
        )));
        Checkpoint::save_over(&Base::of(&base.folder)?, context.output, &merged, &base.tokenizer)?;
        context.state("parameters", merged.count())?;
        context.state("adapter_parameters", lora.count())?;
        Ok(())
    }
}

/// Holds merged weights against base and adapters, and returns the largest difference of two logits.
fn check(base: &Weights, lora: &Lora, merged: &Weights) -> Result<f32, Error> {
    let vocab = base.config().vocab_size;
    // Spread over the vocabulary, so that no row of the embedding decides alone.
    let tokens: Vec<u32> =
        (0..TRIED_TOKENS).map(|index| ((2 * index + 1) * vocab / (2 * TRIED_TOKENS)) as u32).collect();
    let batch = Batch::new([(tokens.as_slice(), &[true; TRIED_TOKENS][..])]);
    let logits = |decoder: Decoder| {
        let logits = decoder.logits(&batch).into_data();
        logits.try_to_vec::<f32>().expect("the decoder computes in f32")
    };
    let expected = logits(Decoder::new(base, &Device::flex()).with_adapters(lora));
    let found = logits(Decoder::new(merged, &Device::flex()));
    // What is no number stays, so that it is never taken for a small difference.
    let largest = |numbers: &mut dyn Iterator<Item = f32>| {
        numbers.fold(
            0.0_f32,
            |most, number| if most.is_nan() { most } else { most.max(number.abs()) + 0.0 * number },
        )
    };
    let bound = TOLERANCE * largest(&mut expected.iter().copied()).max(1.0);
    let difference = largest(&mut expected.iter().zip(&found).map(|(expected, found)| expected - found));
    if difference <= bound { Ok(difference) } else { Err(Error::Merge { difference, bound }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoraConfig;
    use crate::config::tests::small;

    fn adapters() -> Lora {
        let target_modules = vec!["all-linear".to_owned()];
        let config = LoraConfig { r: 4, alpha: 8.0, use_rslora: false, target_modules, dropout: 0.0 };
        let mut lora = Lora::new(config, &small(), 3).expect("valid");
        for values in lora.values_mut() {
            for (index, value) in values.iter_mut().enumerate() {
                *value += ((index * 31) % 17) as f32 / 170.0 - 0.05;
            }
        }
        lora
    }

    #[test]
    fn only_weights_that_were_merged_pass() {
        let base = Weights::random(&small(), 5).expect("valid config");
        let lora = adapters();
        let mut merged = base.clone();
        lora.merge(&mut merged);
        assert!(check(&base, &lora, &merged).expect("merged") < 1e-4);
        let refused = |merged: &Weights| check(&base, &lora, merged).expect_err("not merged").to_string();
        assert!(refused(&base).contains("away from those of base and adapters"));
        lora.merge(&mut merged);
        refused(&merged);
        merged.values_mut()[0][0] = f32::NAN;
        refused(&merged);
    }
}
