//! The files of adapters: the two of PEFT, and one of `nexa` that says exactly which model is corrected.
//!
//! That one stands beside them because PEFT warns of every key in its own file that it does not know.

use std::path::Path;

use nexa_core::files::{read_json, remove, write_json};
use serde::{Deserialize, Serialize};

use super::config::PROJECTIONS;
use super::{Lora, LoraConfig};
use crate::files::{ADAPTER_BASE, ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use crate::{Base, Buffer, DecoderConfig, Error, weights};

/// The model that adapters were trained over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrainedOver {
    /// What it is called.
    pub(crate) base_model: String,
    /// The hash of its weights.
    pub(crate) base_weights: String,
}

impl From<&Base> for TrainedOver {
    fn from(base: &Base) -> Self {
        Self { base_model: base.name().to_owned(), base_weights: base.weights_hash().to_owned() }
    }
}

/// Reads which model the adapters of a folder were trained over; adapters from elsewhere do not say.
///
/// # Errors
/// Fails when the file cannot be understood.
pub(crate) fn trained_over(folder: &Path) -> Result<Option<TrainedOver>, Error> {
    let path = folder.join(ADAPTER_BASE);
    Ok(if path.exists() { Some(read_json(&path)?) } else { None })
}

impl Lora {
    /// Writes the two files of PEFT, and beside them which model is corrected, where that is known.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(&self, folder: &Path, base: Option<&Base>) -> Result<(), Error> {
        weights::write_file(&folder.join(ADAPTER_WEIGHTS), &self.layout(), &self.values)?;
        let targets: Vec<&str> = PROJECTIONS.into_iter().filter(|name| self.config.targets(name)).collect();
        let config = serde_json::json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.map(Base::name),
            "r": self.config.r,
            "lora_alpha": self.config.alpha,
            "lora_dropout": self.config.dropout,
            "use_rslora": self.config.use_rslora,
            "use_dora": false,
            "target_modules": targets,
            "modules_to_save": null,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
        });
        write_json(&folder.join(ADAPTER_CONFIG), &config)?;
        let path = folder.join(ADAPTER_BASE);
        match base {
            Some(base) => write_json(&path, &TrainedOver::from(base))?,
            None => remove(&path)?,
        }
        Ok(())
    }

    /// Reads the two files of PEFT.
    ///
    /// # Errors
    /// Names the key that is not honoured, or the tensor that is missing, unexpected or of another shape.
    pub fn load(folder: &Path, decoder: &DecoderConfig) -> Result<Self, Error> {
        let config_path = folder.join(ADAPTER_CONFIG);
        let text = fs_err::read_to_string(&config_path)?;
        let file: PeftConfig = serde_json::from_str(&text)
            .map_err(|source| Error::Json { path: config_path.clone(), source })?;
        let config = file.check().and_then(|config| Self::new(config, decoder, 0));
        let mut lora = config.map_err(|error| error.within(&config_path))?;

        let layout = lora.layout();
        let values = weights::read_file(&folder.join(ADAPTER_WEIGHTS), &layout)?;
        let buffers = layout.iter().zip(values);
        lora.values = buffers.map(|(parameter, values)| Buffer::new(values, parameter.shape)).collect();
        Ok(lora)
    }
}

/// The part of `adapter_config.json` that decides the arithmetic.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    target_modules: Targets,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: serde_json::Map<String, serde_json::Value>,
}

/// A list of names, or one name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Targets {
    One(String),
    Many(Vec<String>),
}

impl PeftConfig {
    fn check(self) -> Result<LoraConfig, Error> {
        let fail = |key, problem: &str| Err(Error::Config { key, problem: problem.to_owned() });
        if self.peft_type != "LORA" {
            return fail("peft_type", "is not `LORA`, no other is supported");
        }
        if self.use_dora {
            return fail("use_dora", "is true, which is not supported");
        }
        if self.fan_in_fan_out {
            return fail("fan_in_fan_out", "is true, which is not supported");
        }
        if self.modules_to_save.is_some_and(|modules| !modules.is_empty()) {
            return fail("modules_to_save", "names modules, which is not supported");
        }
        if self.bias.is_some_and(|bias| bias != "none") {
            return fail("bias", "is not `none`, which is not supported");
        }
        if !self.rank_pattern.is_empty() || !self.alpha_pattern.is_empty() {
            return fail("rank_pattern", "or `alpha_pattern` is set, which is not supported");
        }
        let names = match self.target_modules {
            Targets::One(name) => vec![name],
            Targets::Many(names) => names,
        };
        // PEFT takes any suffix of a module's path; here the last word says it all.
        let target_modules =
            names.iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()).collect();
        Ok(LoraConfig {
            r: self.r,
            alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules,
            dropout: self.lora_dropout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;

    #[test]
    fn files_of_peft_are_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target_modules = ["q_proj", "up_proj"].map(str::to_owned).to_vec();
        let config = LoraConfig { r: 4, alpha: 8.0, use_rslora: true, target_modules, dropout: 0.05 };
        let mut lora = Lora::new(config, &small(), 3).expect("valid");
        for (index, values) in lora.values.iter_mut().enumerate() {
            values.iter_mut().for_each(|value| *value += index as f32);
        }
        lora.save(folder.path(), None).expect("saves");
        let read = Lora::load(folder.path(), &small()).expect("loads");
        assert_eq!((&read.values, read.config.dropout), (&lora.values, 0.05));
        let bytes = fs_err::read(folder.path().join(ADAPTER_WEIGHTS)).expect("reads");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        assert_eq!(tensors.tensor(name).expect("named as PEFT does").shape(), [24, 4]);
        let mut other = small();
        other.num_hidden_layers = 1;
        let error = Lora::load(folder.path(), &other).expect_err("too many").to_string();
        assert!(error.contains("unexpected tensor"), "{error}");
    }

    #[test]
    fn adapters_say_which_model_they_correct() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("model");
        std::fs::create_dir(&model).expect("a folder");
        let weights = crate::weights::tests::scattered(&small());
        weights::save(&model, &weights, weights::SHARD_BYTES).expect("writes");
        let target_modules = vec!["q_proj".to_owned()];
        let config = LoraConfig { r: 2, alpha: 4.0, use_rslora: false, target_modules, dropout: 0.0 };
        let lora = Lora::new(config, &small(), 3).expect("valid");
        let check = |base: Option<Base>, name: serde_json::Value| {
            lora.save(folder.path(), base.as_ref()).expect("saves");
            let config: serde_json::Value = read_json(&folder.path().join(ADAPTER_CONFIG)).expect("reads");
            assert_eq!(config["base_model_name_or_path"], name);
            let found = trained_over(folder.path()).expect("reads");
            assert_eq!(found, base.as_ref().map(TrainedOver::from));
        };
        let base = Base::of(&model).expect("is a model");
        assert_eq!(base.weights_hash(), crate::weights_hash(&model).expect("reads"));
        let path = model.canonicalize().expect("exists").display().to_string();
        check(Some(base.clone()), path.into());
        check(Some(base.named("hf:org/tiny@v1")), "hf:org/tiny@v1".into());
        check(None, serde_json::Value::Null);
    }
}
