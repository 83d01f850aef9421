//! The numbers of a decoder, on the host, under the names of Hugging Face.
//!
//! Matrices that are multiplied with the same input are kept as one: queries, keys and values, and the gate and the
//! up projection. Files hold them apart; `layout` says which rows are whose. It is the only place where the names and
//! shapes of the parameters are written down: training, inference and files all follow it.
//!
//! [`Source`] reads files and [`Sink`] writes them, one tensor at a time; `file` is whole models in them.

mod file;
mod index;
mod layout;
mod number;
mod sink;
mod source;

use nexa_core::hash::ContentHash;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

pub use self::file::{SHARD_BYTES, weights_hash};
pub(crate) use self::file::{copy, load, open, read_file, save, write_file};
pub(crate) use self::index::{shard_names, weight_files};
pub(crate) use self::layout::{Block, Network, Projection};
pub use self::layout::{Kind, Parameter, layout};
pub use self::sink::write_tensors;
pub(crate) use self::sink::{Planned, Sink};
pub(crate) use self::source::Source;
use crate::{Buffer, DecoderConfig, Error};

/// The numbers of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    config: DecoderConfig,
    layout: Vec<Parameter>,
    values: Vec<Buffer>,
}

impl Weights {
    /// Draws the weights of an untrained decoder.
    ///
    /// Matrices are normal with the config's `initializer_range`; those that write to the residual stream are
    /// narrower by `sqrt(2 * layers)`, so that the stream's variance does not grow with depth. Norms are one, biases
    /// zero. Every tensor draws from its own generator, keyed by the seed and its name, so that its numbers depend on
    /// nothing else, the device included.
    ///
    /// # Errors
    /// Fails on an inconsistent config.
    ///
    /// # Source
    /// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3.
    pub fn random(config: &DecoderConfig, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let layout = layout(config);
        let values = layout
            .iter()
            .map(|parameter| {
                let count = parameter.shape[0] * parameter.shape[1];
                let deviation = match parameter.kind {
                    Kind::Norm => return vec![1.0; count],
                    Kind::Bias => return vec![0.0; count],
                    Kind::Embedding | Kind::Projection | Kind::Adapter => config.initializer_range,
                    Kind::ResidualProjection => {
                        config.initializer_range / (2.0 * config.num_hidden_layers as f64).sqrt()
                    }
                };
                let parts = parameter.parts.iter();
                parts
                    .flat_map(|(name, rows)| normal(seed, name, rows * parameter.shape[1], deviation))
                    .collect()
            })
            .collect();
        let values = buffers(&layout, values);
        Ok(Self { config: config.clone(), layout, values })
    }

    /// Puts weights together from the values of every parameter, in the order of [`layout()`].
    ///
    /// # Panics
    /// Panics when the lengths are not those of the layout.
    pub fn from_values(config: &DecoderConfig, values: Vec<Vec<f32>>) -> Self {
        let layout = layout(config);
        assert_eq!(layout.len(), values.len(), "one entry for each parameter");
        for (parameter, values) in layout.iter().zip(&values) {
            assert_eq!(parameter.shape[0] * parameter.shape[1], values.len(), "{:?}", parameter.parts);
        }
        let values = buffers(&layout, values);
        Self { config: config.clone(), layout, values }
    }

    /// Returns the shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Lists the parameters, in the order of [`Self::values`].
    pub fn layout(&self) -> &[Parameter] {
        &self.layout
    }

    /// Returns the numbers of every parameter, row by row.
    pub fn values(&self) -> &[Buffer] {
        &self.values
    }

    /// Returns the numbers of every parameter, to be changed.
    pub fn values_mut(&mut self) -> &mut [Buffer] {
        &mut self.values
    }

    /// Hashes the shape and the numbers.
    pub fn content_hash(&self) -> ContentHash {
        let parts: Vec<String> = self.values.par_iter().map(|values| hash(values)).collect();
        ContentHash::of_json(&serde_json::json!([self.config.to_json(), parts]))
    }

    /// Counts the weights, tied ones once.
    pub fn count(&self) -> usize {
        self.values.iter().map(|values| values.len()).sum()
    }
}

fn hash(values: &[f32]) -> String {
    let mut hasher = blake3::Hasher::new();
    for block in values.chunks(1 << 12) {
        let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn buffers(layout: &[Parameter], values: Vec<Vec<f32>>) -> Vec<Buffer> {
    layout.iter().zip(values).map(|(parameter, values)| Buffer::new(values, parameter.shape)).collect()
}

/// Draws normal numbers from the generator of one tensor (Box and Muller, 1958).
fn normal(seed: u64, name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut uniform = generator(seed, name);
    let pairs = (0..count.div_ceil(2)).flat_map(|_| {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        [radius * angle.cos(), radius * angle.sin()]
    });
    pairs.take(count).map(|value| (value * deviation) as f32).collect()
}

/// Draws numbers between `-bound` and `bound` from the generator of one tensor.
pub(crate) fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<f32> {
    let mut uniform = generator(seed, name);
    (0..count).map(|_| ((2.0 * uniform() - 1.0) * bound) as f32).collect()
}

/// The generator of one tensor: numbers between 0 and 1, both excluded.
fn generator(seed: u64, name: &str) -> impl FnMut() -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    // 53 random bits, shifted off zero so that the logarithm is finite.
    move || ((generator.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::tests::small;

    /// Random weights of which none is at the value that it starts from, norms and biases included.
    pub(crate) fn scattered(config: &DecoderConfig) -> Weights {
        let mut weights = Weights::random(config, 5).expect("valid config");
        let layout = weights.layout().to_vec();
        for (parameter, values) in layout.iter().zip(weights.values_mut()) {
            if matches!(parameter.kind, Kind::Norm | Kind::Bias) {
                let noise = normal(7, &parameter.parts[0].0, values.len(), 0.2);
                for (value, noise) in values.iter_mut().zip(noise) {
                    *value += noise;
                }
            }
        }
        weights
    }

    #[test]
    fn random_weights_follow_seed_and_deviation() {
        let config = DecoderConfig { vocab_size: 4000, ..small() };
        let weights = Weights::random(&config, 7).expect("valid config");
        assert_eq!(weights, Weights::random(&config, 7).expect("valid config"));
        assert_ne!(weights, Weights::random(&config, 8).expect("valid config"));
        let embedding = &weights.values()[0];
        let mean = embedding.iter().sum::<f32>() / embedding.len() as f32;
        let variance = embedding.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / embedding.len() as f32;
        assert!(mean.abs() < 2e-3 && (variance.sqrt() - 0.2).abs() < 2e-3, "{mean} {variance}");
    }
}
