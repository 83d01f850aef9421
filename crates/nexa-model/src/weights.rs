//! The numbers of a decoder, on the host, under the names of Hugging Face.
//!
//! Matrices that are multiplied with the same input are kept as one: queries, keys and values, and the gate and the
//! up projection. Files hold them apart; [`layout`] says which rows are whose. This is the only place where the names
//! and shapes of the parameters are written down: training, inference and files all follow it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{Buffer, DecoderConfig, Error};

/// What a parameter is for, which decides how it starts and whether it decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedding, and the output layer where it is not the embedding.
    Embedding,
    /// The scale of a normalisation.
    Norm,
    /// A projection inside a block.
    Projection,
    /// A projection that writes to the residual stream.
    ResidualProjection,
    /// A matrix of a low-rank correction.
    Adapter,
}

/// One parameter: a matrix `[outputs, inputs]`, or `[1, width]` for a norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it is for.
    pub kind: Kind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The tensors in files that it consists of, from the first row on: names and rows.
    pub parts: Vec<(String, usize)>,
}

/// Positions of a block's parameters within it, in the order of [`layout`].
pub(crate) mod block {
    /// Norm before attention.
    pub(crate) const INPUT_NORM: usize = 0;
    /// Queries, keys and values.
    pub(crate) const QKV: usize = 1;
    /// Output of the attention.
    pub(crate) const OUTPUT: usize = 2;
    /// Norm before the feed-forward.
    pub(crate) const MLP_NORM: usize = 3;
    /// Gate and up projection.
    pub(crate) const GATE_UP: usize = 4;
    /// Down projection.
    pub(crate) const DOWN: usize = 5;
    /// How many there are.
    pub(crate) const COUNT: usize = 6;
}

/// Lists the parameters of a decoder: the embedding, six for every block, the last norm, and the output layer where
/// it is not the embedding.
pub fn layout(config: &DecoderConfig) -> Vec<Parameter> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let heads = config.heads();
    let (q, kv) = (heads.output_width(), heads.key_value * heads.head_dim);
    let matrix = |kind, inputs, parts: Vec<(String, usize)>| Parameter {
        kind,
        shape: [parts.iter().map(|(_, rows)| rows).sum(), inputs],
        parts,
    };
    let norm = |name: String| Parameter { kind: Kind::Norm, shape: [1, hidden], parts: vec![(name, 1)] };

    let vocab = config.vocab_size;
    let mut parameters =
        vec![matrix(Kind::Embedding, hidden, vec![("model.embed_tokens.weight".to_owned(), vocab)])];
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let qkv = vec![
            (name("self_attn.q_proj"), q),
            (name("self_attn.k_proj"), kv),
            (name("self_attn.v_proj"), kv),
        ];
        let gate_up = vec![(name("mlp.gate_proj"), inner), (name("mlp.up_proj"), inner)];
        parameters.extend([
            norm(name("input_layernorm")),
            matrix(Kind::Projection, hidden, qkv),
            matrix(Kind::ResidualProjection, q, vec![(name("self_attn.o_proj"), hidden)]),
            norm(name("post_attention_layernorm")),
            matrix(Kind::Projection, hidden, gate_up),
            matrix(Kind::ResidualProjection, inner, vec![(name("mlp.down_proj"), hidden)]),
        ]);
    }
    parameters.push(norm("model.norm.weight".to_owned()));
    if !config.tie_word_embeddings {
        parameters.push(matrix(Kind::Embedding, hidden, vec![("lm_head.weight".to_owned(), vocab)]));
    }
    parameters
}

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
    /// narrower by `sqrt(2 * layers)`, so that the stream's variance does not grow with depth. Norms are one. Every
    /// tensor draws from its own generator, keyed by the seed and its name, so that its numbers depend on nothing
    /// else, the device included.
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
                let deviation = match parameter.kind {
                    Kind::Norm => return vec![1.0; parameter.shape[1]],
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

    /// Puts weights together from the values of every parameter, in the order of [`layout`].
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

    /// Counts the weights, tied ones once.
    pub fn count(&self) -> usize {
        self.values.iter().map(|values| values.len()).sum()
    }

    /// Renders the weights as a safetensors file.
    ///
    /// # Errors
    /// Fails only when the file would be too large for its format; `path` is for the message.
    pub(crate) fn to_safetensors(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Safetensors { path: path.to_owned(), source };
        let bytes: Vec<Vec<u8>> = self.values.iter().map(|values| to_bytes(values)).collect();
        let mut views = Vec::new();
        for (parameter, bytes) in self.layout.iter().zip(&bytes) {
            let columns = parameter.shape[1];
            let mut rest = bytes.as_slice();
            for (name, rows) in &parameter.parts {
                let (part, tail) = rest.split_at(rows * columns * size_of::<f32>());
                rest = tail;
                let view = TensorView::new(Dtype::F32, file_shape(parameter, *rows), part).map_err(failed)?;
                views.push((name, view));
            }
        }
        // `transformers` refuses a file that does not say which framework's conventions it follows.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(failed)
    }

    /// Reads weights from the bytes of a safetensors file.
    ///
    /// # Errors
    /// Names the first tensor that is missing, unexpected, or has another shape or format; `path` is for the message.
    pub(crate) fn from_safetensors(config: &DecoderConfig, bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        let layout = layout(config);
        let known: Vec<&str> = layout
            .iter()
            .flat_map(|parameter| parameter.parts.iter().map(|(name, _)| name.as_str()))
            .collect();
        // Some tools write the output layer although it is the embedding.
        let redundant = |name: &str| config.tie_word_embeddings && name == "lm_head.weight";
        let mut names = file.names();
        names.sort_unstable();
        if let Some(name) = names.into_iter().find(|name| !known.contains(name) && !redundant(name)) {
            return Err(Error::UnexpectedTensor { path: path.to_owned(), name: name.to_owned() });
        }
        let mut values = Vec::with_capacity(layout.len());
        for parameter in &layout {
            let mut numbers = Vec::with_capacity(parameter.shape[0] * parameter.shape[1]);
            for (name, rows) in &parameter.parts {
                let read = read_tensor(&file, path, name, &file_shape(parameter, *rows))?;
                numbers.extend_from_slice(&read);
            }
            values.push(numbers);
        }
        let values = buffers(&layout, values);
        Ok(Self { config: config.clone(), layout, values })
    }
}

/// Reads a tensor of a file, which must have a shape.
///
/// # Errors
/// Names the tensor when it is missing, or has another shape or an unreadable format; `path` is for the message.
pub(crate) fn read_tensor(
    file: &SafeTensors<'_>,
    path: &Path,
    name: &str,
    expected: &[usize],
) -> Result<Cow<'static, [f32]>, Error> {
    let (path, name) = (path.to_owned(), name.to_owned());
    let Ok(tensor) = file.tensor(&name) else { return Err(Error::MissingTensor { path, name }) };
    if tensor.shape() != expected {
        let found = tensor.shape().to_vec();
        return Err(Error::TensorShape { path, name, found, expected: expected.to_vec() });
    }
    let found = || format!("{:?}", tensor.dtype());
    from_bytes(tensor.dtype(), tensor.data()).ok_or_else(|| Error::TensorFormat {
        path,
        name,
        found: found(),
    })
}

fn buffers(layout: &[Parameter], values: Vec<Vec<f32>>) -> Vec<Buffer> {
    layout.iter().zip(values).map(|(parameter, values)| Buffer::new(values, parameter.shape)).collect()
}

/// The shape of a part in a file, where norms are vectors.
fn file_shape(parameter: &Parameter, rows: usize) -> Vec<usize> {
    match parameter.kind {
        Kind::Norm => vec![parameter.shape[1]],
        _ => vec![rows, parameter.shape[1]],
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Reads numbers of a stored format; `None` where the format is not read.
fn from_bytes(format: Dtype, bytes: &[u8]) -> Option<Cow<'static, [f32]>> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    let values = match format {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        Dtype::BF16 => halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        Dtype::F16 => halves().map(half_to_single).collect(),
        _ => return None,
    };
    Some(Cow::Owned(values))
}

/// Widens an IEEE half-precision number.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let mantissa = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: the mantissa counts units of 2^-24, which a product gives exactly.
        0 => (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits(),
        0x1f => 0x7f80_0000 | mantissa << 13,
        _ => (exponent + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
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
mod tests {
    use super::*;
    use crate::config::tests::small;

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

    #[test]
    fn files_hold_the_same_numbers_under_the_names_of_hugging_face() {
        let path = Path::new("model.safetensors");
        for tie_word_embeddings in [true, false] {
            let config = DecoderConfig { tie_word_embeddings, ..small() };
            let weights = Weights::random(&config, 1).expect("valid config");
            let bytes = weights.to_safetensors(path).expect("fits");
            let names = SafeTensors::deserialize(&bytes).expect("valid").len();
            assert_eq!(names, if tie_word_embeddings { 2 + 2 * 9 } else { 3 + 2 * 9 });
            assert_eq!(Weights::from_safetensors(&config, &bytes, path).expect("reads"), weights);
        }
    }

    #[test]
    fn a_wrong_file_is_an_error_that_names_the_tensor() {
        let path = Path::new("model.safetensors");
        let check = |written: DecoderConfig, read: DecoderConfig, expected: &str| {
            let bytes =
                Weights::random(&written, 1).expect("valid config").to_safetensors(path).expect("fits");
            let error = Weights::from_safetensors(&read, &bytes, path).expect_err(expected);
            assert_eq!(error.to_string(), format!("model.safetensors: {expected}"));
        };
        let untied = DecoderConfig { tie_word_embeddings: false, ..small() };
        check(small(), untied, "tensor `lm_head.weight` is missing");
        let deeper = DecoderConfig { num_hidden_layers: 3, ..small() };
        check(deeper.clone(), small(), "unexpected tensor `model.layers.2.input_layernorm.weight`");
        check(small(), deeper, "tensor `model.layers.2.input_layernorm.weight` is missing");
        let wider = DecoderConfig { intermediate_size: 48, ..small() };
        let shape =
            "tensor `model.layers.0.mlp.gate_proj.weight` has shape [40, 24], the config asks for [48, 24]";
        check(small(), wider, shape);
    }

    #[test]
    fn half_precision_formats_are_widened_exactly() {
        let check = |format, bytes: [u8; 2], expected: f32| {
            assert_eq!(from_bytes(format, &bytes).as_deref(), Some([expected].as_slice()));
        };
        check(Dtype::F16, 0x3c00u16.to_le_bytes(), 1.0);
        check(Dtype::F16, 0xc248u16.to_le_bytes(), -3.140_625);
        check(Dtype::F16, 0x0001u16.to_le_bytes(), 5.960_464_5e-8);
        check(Dtype::F16, 0x7c00u16.to_le_bytes(), f32::INFINITY);
        check(Dtype::BF16, 0x4049u16.to_le_bytes(), 3.140_625);
        assert!(from_bytes(Dtype::I64, &[0; 8]).is_none());
    }
}
