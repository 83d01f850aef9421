//! Adapters: low-rank corrections of frozen weights, and their merging. [`peft`] is their files.

mod config;
mod peft;

use std::sync::Arc;

use burn::tensor::Device;

pub use self::config::LoraConfig;
pub(crate) use self::peft::{TrainedOver, trained_over};
use crate::kernels::lora::{self as kernel, Correction};
use crate::ops::Adapter;
use crate::weights::{Network, uniform};
use crate::{Buffer, DecoderConfig, Error, Kind, Parameter, Weights, layout};

/// What PEFT puts before the names of a causal model's tensors.
const PREFIX: &str = "base_model.model.";

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
                uniform(seed, &name, config.r * place.inputs, bound)
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
        self.arrange(layers, |correction, a, b| {
            let (a, b) = (a.to_tensor(device), b.to_tensor(device));
            Adapter { a, b, correction: Arc::new(correction), dropout: None }
        })
    }

    /// Arranges every correction with its `A` and `B`, by block and projection.
    pub(crate) fn arrange<T>(
        &self,
        layers: usize,
        arrange: impl Fn(Correction, &Buffer, &Buffer) -> T,
    ) -> Vec<PerProjection<Option<T>>> {
        let mut blocks: Vec<_> = (0..layers).map(|_| PerProjection::default()).collect();
        for (place, values) in self.places.iter().zip(self.values.chunks_exact(2)) {
            let PerProjection { qkv, output, gate_up, down } = &mut blocks[place.layer];
            *[qkv, output, gate_up, down][place.projection] =
                Some(arrange(self.correction(place), &values[0], &values[1]));
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
