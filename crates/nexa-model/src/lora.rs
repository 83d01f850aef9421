//! Adapters: low-rank corrections of frozen weights, their files in the form of PEFT, and their merging.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use nexa_core::files::write_json;
use serde::{Deserialize, Serialize};

use crate::kernels::lora::{self as kernel, Correction};
use crate::ops::Adapter;
use crate::weights::{self, Network};
use crate::{Buffer, DecoderConfig, Error, Kind, Parameter, Weights, layout};

/// The projections that can be corrected.
const PROJECTIONS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// The file of the numbers.
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The file of the settings.
const CONFIG_FILE: &str = "adapter_config.json";
/// What PEFT puts before the names of a causal model's tensors.
const PREFIX: &str = "base_model.model.";

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

    fn targets(&self, projection: &str) -> bool {
        self.target_modules.iter().any(|name| name == projection || name == "all-linear")
    }

    fn scale(&self) -> f32 {
        let r = self.r as f64;
        (self.alpha / if self.use_rslora { r.sqrt() } else { r }) as f32
    }
}

/// Something for each projection of a block that can be corrected.
#[derive(Debug, Clone, Default)]
pub(crate) struct PerProjection<T> {
    pub(crate) qkv: T,
    pub(crate) output: T,
    pub(crate) gate_up: T,
    pub(crate) down: T,
}

/// The adapters of a block.
pub(crate) type BlockAdapters = PerProjection<Option<Adapter>>;

impl BlockAdapters {
    /// Changes every adapter, each with its number in the block.
    pub(crate) fn map(self, change: impl Fn(usize, Adapter) -> Adapter) -> Self {
        let change = |number, adapter: Option<Adapter>| adapter.map(|adapter| change(number, adapter));
        Self {
            qkv: change(0, self.qkv),
            output: change(1, self.output),
            gate_up: change(2, self.gate_up),
            down: change(3, self.down),
        }
    }

    /// Lists the adapters, in the order of gradients.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Adapter> {
        [&self.qkv, &self.output, &self.gate_up, &self.down].into_iter().flatten()
    }
}

/// The corrections of one weight of one block.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    layer: usize,
    /// Which projection of the block, in the order of [`PerProjection`].
    projection: usize,
    /// Where the weight stands in the list of parameters.
    weight: usize,
    /// The names of the corrected projections in files, and their rows in the weight.
    parts: Vec<(String, std::ops::Range<usize>)>,
    inputs: usize,
}

/// Adapters of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    config: LoraConfig,
    places: Vec<Place>,
    /// For every place all `A` below each other, then all `B`.
    values: Vec<Buffer>,
}

impl Lora {
    /// Makes adapters that correct nothing yet: `A` is drawn at random, `B` is zero.
    ///
    /// `A` is uniform in `±1 / sqrt(inputs)`, which is what PEFT's `kaiming_uniform_(a=sqrt(5))` comes to. Every matrix
    /// draws from its own generator, keyed by the seed and its name.
    ///
    /// # Errors
    /// Fails on a rank, factor or name that makes no sense.
    pub fn new(config: LoraConfig, decoder: &DecoderConfig, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let places = places(&config, decoder);
        let mut values = Vec::with_capacity(2 * places.len());
        for place in &places {
            let bound = 1.0 / (place.inputs as f64).sqrt();
            let a = place.parts.iter().flat_map(|(name, _)| {
                let name = format!("{name}.lora_A.weight");
                weights::uniform(seed, &name, config.r * place.inputs, bound)
            });
            values.push(Buffer::new(a.collect(), [config.r * place.parts.len(), place.inputs]));
            let rows = place.parts.iter().map(|(_, rows)| rows.len()).sum();
            values.push(Buffer::new(vec![0.0; rows * config.r], [rows, config.r]));
        }
        Ok(Self { config, places, values })
    }

    /// Returns the settings.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Lists the trained parameters, in the order of [`Self::values`]. Their parts are the tensors of PEFT's file.
    pub fn layout(&self) -> Vec<Parameter> {
        self.places
            .iter()
            .flat_map(|place| {
                let parts = |matrix: &str, rows: &dyn Fn(usize) -> usize| {
                    let name = |name: &str| format!("{PREFIX}{name}.{matrix}.weight");
                    place
                        .parts
                        .iter()
                        .map(|(part, range)| (name(part), rows(range.len())))
                        .collect::<Vec<_>>()
                };
                let matrix = |parts: Vec<(String, usize)>, columns| Parameter {
                    kind: Kind::Adapter,
                    shape: [parts.iter().map(|(_, rows)| rows).sum(), columns],
                    parts,
                };
                let (a, b) = (parts("lora_A", &|_| self.config.r), parts("lora_B", &|rows| rows));
                [matrix(a, place.inputs), matrix(b, self.config.r)]
            })
            .collect()
    }

    /// Returns the numbers of every parameter.
    pub fn values(&self) -> &[Buffer] {
        &self.values
    }

    /// Returns the numbers of every parameter, to be changed.
    pub fn values_mut(&mut self) -> &mut [Buffer] {
        &mut self.values
    }

    /// Counts the trained numbers.
    pub fn count(&self) -> usize {
        self.values.iter().map(|values| values.len()).sum()
    }

    /// Puts the adapters on a device, by block and projection.
    pub(crate) fn place(&self, layers: usize, device: &Device) -> Vec<BlockAdapters> {
        let mut blocks = vec![BlockAdapters::default(); layers];
        for (place, values) in self.places.iter().zip(self.values.chunks_exact(2)) {
            let correction = Arc::new(self.correction(place));
            let (a, b) = (values[0].to_tensor(device), values[1].to_tensor(device));
            let PerProjection { qkv, output, gate_up, down } = &mut blocks[place.layer];
            *[qkv, output, gate_up, down][place.projection] =
                Some(Adapter { a, b, correction, dropout: None });
        }
        blocks
    }

    fn correction(&self, place: &Place) -> Correction {
        let parts = place.parts.iter().map(|(_, rows)| rows.clone()).collect();
        let LoraConfig { r: rank, dropout, .. } = self.config;
        Correction { parts, rank, scale: self.config.scale(), dropout }
    }

    /// Adds the corrections to the weights that they belong to.
    ///
    /// # Panics
    /// Panics when the weights are of another shape than the adapters were made for.
    pub fn merge(&self, weights: &mut Weights) {
        for (place, values) in self.places.iter().zip(self.values.chunks_exact(2)) {
            let weight = &mut weights.values_mut()[place.weight];
            kernel::merge(&values[0], &values[1], &self.correction(place), place.inputs, weight);
        }
    }

    /// Writes the two files of PEFT. `base` names the model that is corrected.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(&self, folder: &Path, base: &str) -> Result<(), Error> {
        weights::write_file(&folder.join(WEIGHTS_FILE), &self.layout(), &self.values)?;
        let targets: Vec<&str> = PROJECTIONS.into_iter().filter(|name| self.config.targets(name)).collect();
        let config = serde_json::json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
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
        Ok(write_json(&folder.join(CONFIG_FILE), &config)?)
    }

    /// Reads the two files of PEFT.
    ///
    /// # Errors
    /// Names the key that is not honoured, or the tensor that is missing, unexpected or of another shape.
    pub fn load(folder: &Path, decoder: &DecoderConfig) -> Result<Self, Error> {
        let config_path = folder.join(CONFIG_FILE);
        let text = fs_err::read_to_string(&config_path)?;
        let file: PeftConfig =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: config_path, source })?;
        let mut lora = Self::new(file.check()?, decoder, 0)?;

        let layout = lora.layout();
        let values = weights::read_file(&folder.join(WEIGHTS_FILE), &layout)?;
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

/// Lists the weights that are corrected.
fn places(config: &LoraConfig, decoder: &DecoderConfig) -> Vec<Place> {
    let layout = layout(decoder);
    let mut places = Vec::new();
    for (layer, block) in Network::of(decoder).blocks.into_iter().enumerate() {
        let projections = [block.qkv, block.output, block.gate_up, block.down];
        for (projection, weight) in projections.map(|projection| projection.weight).into_iter().enumerate() {
            let mut parts = Vec::new();
            let mut first = 0;
            for (name, rows) in &layout[weight].parts {
                let module = name.trim_end_matches(".weight");
                if config.targets(module.rsplit('.').next().unwrap_or(module)) {
                    parts.push((module.to_owned(), first..first + rows));
                }
                first += rows;
            }
            if !parts.is_empty() {
                places.push(Place { layer, projection, weight, parts, inputs: layout[weight].shape[1] });
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::{Batch, Decoder, Objective};

    fn config(targets: &[&str], use_rslora: bool) -> LoraConfig {
        let target_modules = targets.iter().map(|name| (*name).to_owned()).collect();
        LoraConfig { r: 4, alpha: 8.0, use_rslora, target_modules, dropout: 0.0 }
    }

    fn adapters(targets: &[&str], use_rslora: bool) -> Lora {
        let mut lora = Lora::new(config(targets, use_rslora), &small(), 3).expect("valid");
        for (index, values) in lora.values.iter_mut().enumerate() {
            for (i, value) in values.iter_mut().enumerate() {
                *value += ((i * 31 + index * 7) % 17) as f32 / 170.0 - 0.05;
            }
        }
        lora
    }

    fn batch() -> Batch {
        let tokens: Vec<u32> = (0..14).map(|i| (i * i + 3) % 50).collect();
        Batch::new([(tokens.as_slice(), &[true; 14][..])])
    }

    #[test]
    fn merged_weights_give_the_same_logits() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        for (targets, use_rslora) in
            [(&["all-linear"][..], false), (&["q_proj", "v_proj", "down_proj"], true)]
        {
            let lora = adapters(targets, use_rslora);
            let corrected =
                Decoder::new(&weights, &Device::flex()).with_adapters(&lora).token_losses(&batch());
            let mut merged = weights.clone();
            lora.merge(&mut merged);
            let expected = Decoder::new(&merged, &Device::flex()).token_losses(&batch());
            let plain = Decoder::new(&weights, &Device::flex()).token_losses(&batch());
            for (index, (corrected, expected)) in corrected.iter().zip(&expected).enumerate() {
                assert!((corrected - expected).abs() < 1e-4, "{corrected} {expected}");
                assert!((plain[index] - expected).abs() > 1e-4, "the adapters change something");
            }
        }
    }

    #[test]
    fn fresh_adapters_change_nothing() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let lora = Lora::new(config(&["all-linear"], false), &small(), 3).expect("valid");
        let decoder = Decoder::new(&weights, &Device::flex());
        let plain = decoder.token_losses(&batch());
        assert_eq!(decoder.with_adapters(&lora).token_losses(&batch()), plain);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let lora = adapters(&["all-linear"], false);
        let gradients = Decoder::new(&weights, &Device::flex())
            .with_adapters(&lora)
            .gradients(&batch(), Objective::CrossEntropy);
        assert_eq!(gradients.values.len(), lora.layout().len());
        for (index, gradient) in gradients.values.iter().enumerate() {
            let loss_at = |step: f32| {
                let mut moved = lora.clone();
                for (value, gradient) in moved.values[index].iter_mut().zip(gradient.iter()) {
                    *value += step * gradient.signum();
                }
                let decoder = Decoder::new(&weights, &Device::flex()).with_adapters(&moved);
                decoder.token_losses(&batch()).iter().map(|&loss| f64::from(loss)).sum::<f64>()
            };
            let expected: f64 = gradient.iter().map(|gradient| f64::from(gradient.abs())).sum();
            let estimate = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3;
            assert!((estimate - expected).abs() / expected < 0.02, "{index}: {estimate} {expected}");
        }
    }

    #[test]
    fn with_dropout_gradients_agree_with_finite_differences_under_the_same_mask() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let mut lora = adapters(&["all-linear"], false);
        lora.config.dropout = 0.3;
        let gradients_of = |lora: &Lora, key, recompute| {
            let decoder = Decoder::new(&weights, &Device::flex()).recompute_blocks(recompute);
            decoder.with_adapters(lora).gradients(&batch().with_noise(key), Objective::CrossEntropy)
        };
        let gradients = gradients_of(&lora, 11, false);
        for (index, gradient) in gradients.values.iter().enumerate() {
            let loss_at = |step: f32| {
                let mut moved = lora.clone();
                for (value, gradient) in moved.values[index].iter_mut().zip(gradient.iter()) {
                    *value += step * gradient.signum();
                }
                gradients_of(&moved, 11, false).loss
            };
            let expected: f64 = gradient.iter().map(|gradient| f64::from(gradient.abs())).sum();
            let estimate = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3;
            assert!((estimate - expected).abs() / expected < 0.02, "{index}: {estimate} {expected}");
        }
        let recomputed = gradients_of(&lora, 11, true);
        assert!(recomputed.values == gradients.values, "recomputed blocks meet the same mask");
        assert_ne!(gradients_of(&lora, 12, false).loss, gradients.loss, "another key is another mask");
        let decoder = Decoder::new(&weights, &Device::flex()).with_adapters(&lora);
        let whole = adapters(&["all-linear"], false);
        let undropped = Decoder::new(&weights, &Device::flex()).with_adapters(&whole);
        assert_eq!(decoder.token_losses(&batch()), undropped.token_losses(&batch()), "only in training");
    }

    #[test]
    fn files_of_peft_are_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut lora = adapters(&["q_proj", "up_proj"], true);
        lora.config.dropout = 0.05;
        lora.save(folder.path(), "base").expect("saves");
        let read = Lora::load(folder.path(), &small()).expect("loads");
        assert_eq!((&read.values, read.config.dropout), (&lora.values, 0.05));
        let bytes = fs_err::read(folder.path().join(WEIGHTS_FILE)).expect("reads");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        assert_eq!(tensors.tensor(name).expect("named as PEFT does").shape(), [24, 4]);
        let mut other = small();
        other.num_hidden_layers = 1;
        let error = Lora::load(folder.path(), &other).expect_err("too many").to_string();
        assert!(error.contains("unexpected tensor"), "{error}");
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        let check = |config: LoraConfig, expected: &str| {
            let error = Lora::new(config, &small(), 0).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(LoraConfig { r: 0, ..config(&["q_proj"], false) }, "`lora_r`");
        check(config(&["qproj"], false), "names `qproj`");
        check(LoraConfig { dropout: 1.0, ..config(&["q_proj"], false) }, "`lora_dropout`");
        check(config(&[], false), "`lora_target_modules`");
    }
}
