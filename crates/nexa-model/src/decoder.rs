//! The decoder as training sees it: tensors under autodiff, many sequences end to end without padding.
//!
//! It is the Llama block (RMSNorm, rotary grouped-query attention, SwiGLU, residuals) with what other families add to
//! it where the config switches it on: biases, a norm of every query and key, a sliding window, layers without
//! positions. It departs from them in form, never in result: queries, keys and values are one matrix, gate and up are
//! one matrix; sequences are packed into one `[tokens, hidden]` matrix, and attention is told where each begins; and
//! once the last block has attended, only the rows that carry loss go on, because no later operation mixes rows.
//!
//! Inference has its own forward pass over the same [`Weights`] (see [`crate::LocalModel`]); a test holds the two
//! together.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels::attention::Attention;
use crate::kernels::rope::RopeTable;
use crate::ops;
use crate::rope::Rope;
use crate::weights::{Network, Projection};
use crate::{DecoderConfig, Weights};

/// Sequences to train on, end to end.
#[derive(Debug, Clone)]
pub struct Batch {
    token_ids: Arc<[u32]>,
    offsets: Arc<[usize]>,
    rows: Arc<[u32]>,
    targets: Arc<[u32]>,
}

impl Batch {
    /// Lays sequences end to end. Where `trained[i]` holds, token `i` is to be predicted from those before it.
    ///
    /// # Panics
    /// Panics when a sequence and its mask differ in length.
    pub fn new<'a>(sequences: impl IntoIterator<Item = (&'a [u32], &'a [bool])>) -> Self {
        let (mut token_ids, mut offsets, mut rows, mut targets) =
            (Vec::new(), vec![0], Vec::new(), Vec::new());
        for (tokens, trained) in sequences {
            assert_eq!(tokens.len(), trained.len(), "one mark for each token");
            for position in 1..tokens.len() {
                if trained[position] {
                    rows.push((token_ids.len() + position - 1) as u32);
                    targets.push(tokens[position]);
                }
            }
            token_ids.extend_from_slice(tokens);
            offsets.push(token_ids.len());
        }
        Self {
            token_ids: token_ids.into(),
            offsets: offsets.into(),
            rows: rows.into(),
            targets: targets.into(),
        }
    }

    /// Counts the tokens.
    pub fn tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Counts the tokens that carry loss.
    pub fn trained_tokens(&self) -> usize {
        self.targets.len()
    }
}

/// A decoder whose gradients can be asked for.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    rope: Rope,
    still: Rope,
    /// Where each parameter stands in `parameters`.
    network: Network<usize>,
    parameters: Vec<Tensor<2>>,
}

impl Decoder {
    /// Puts weights on a device. With an autodiff device, [`Self::loss_and_gradients`] works.
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let config = weights.config().clone();
        let mut decoder = Self {
            rope: Rope::new(&config),
            still: Rope::still(&config),
            network: Network::of(&config),
            parameters: Vec::new(),
            config,
        };
        decoder.set(weights, device);
        decoder
    }

    /// Replaces the weights, for the next step of training.
    pub fn set(&mut self, weights: &Weights, device: &Device) {
        let parameters = weights.layout().iter().zip(weights.values()).map(|(parameter, values)| {
            let tensor = Tensor::from_data(TensorData::new(values.clone(), parameter.shape), device);
            if device.is_autodiff() { tensor.require_grad() } else { tensor }
        });
        self.parameters = parameters.collect();
    }

    /// Computes the summed negative log-likelihood of the trained tokens, in nats.
    ///
    /// # Shapes
    /// Returns `[1]`.
    pub fn loss(&self, batch: &Batch) -> Tensor<1> {
        ops::cross_entropy(self.logits(batch), &batch.targets)
    }

    /// Computes the summed loss in nats and the gradient of every parameter, in the order of the layout.
    ///
    /// # Panics
    /// Panics when the decoder stands on a device without autodiff.
    pub fn loss_and_gradients(&self, batch: &Batch) -> (f32, Vec<Vec<f32>>) {
        let loss = self.loss(batch);
        let mut gradients = loss.backward();
        let gradients = self.parameters.iter().map(|parameter| {
            let gradient =
                parameter.grad_remove(&mut gradients).expect("every parameter takes part in the loss");
            gradient.into_data().as_slice::<f32>().expect("the decoder is f32").to_vec()
        });
        let gradients = gradients.collect();
        (loss.into_scalar::<f32>(), gradients)
    }

    /// Computes the logits before every trained token.
    ///
    /// # Shapes
    /// Returns `[trained tokens, vocab]`.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        let epsilon = self.config.rms_norm_eps as f32;
        let heads = self.config.heads();
        let weight = |place: usize| self.parameters[place].clone();
        let norm = |x: Tensor<2>, place: usize| ops::rms_norm(x, weight(place), epsilon);
        let rotations = [&self.rope, &self.still].map(|rope| tables(rope, &batch.offsets));
        let network = &self.network;

        let mut x = ops::gather(weight(network.embedding), &batch.token_ids); // [tokens, hidden]
        for (layer, block) in network.blocks.iter().enumerate() {
            let attention = Attention {
                heads,
                offsets: batch.offsets.clone(),
                rope: rotations[usize::from(!self.config.is_rotated(layer))].clone(),
                window: self.config.window(layer),
            };
            let mut qkv = self.project(norm(x.clone(), block.input_norm), &block.qkv, None); // [tokens, qkv_width]
            if let Some([query, key]) = block.qk_norm {
                qkv = ops::head_norm(qkv, weight(query), weight(key), heads, epsilon);
            }
            let mut mixed = ops::attention(qkv, &attention); // [tokens, heads * head_dim]
            if layer + 1 == self.config.num_hidden_layers {
                mixed = ops::gather(mixed, &batch.rows); // [trained, heads * head_dim]
                x = ops::gather(x, &batch.rows); // [trained, hidden]
            }
            x = self.project(mixed, &block.output, Some(x));
            let gate_up = self.project(norm(x.clone(), block.mlp_norm), &block.gate_up, None);
            x = self.project(ops::swiglu(gate_up), &block.down, Some(x));
        }
        let head = network.head.unwrap_or(network.embedding);
        ops::linear(norm(x, network.norm), weight(head), None) // [trained, vocab]
    }

    /// Multiplies rows with a weight and adds its bias and a residual, where there are.
    fn project(
        &self,
        x: Tensor<2>,
        projection: &Projection<usize>,
        residual: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let product = ops::linear(x, self.parameters[projection.weight].clone(), residual);
        match projection.bias {
            Some(bias) => ops::add_bias(product, self.parameters[bias].clone()),
            None => product,
        }
    }
}

/// Returns the rotations of every sequence.
fn tables(rope: &Rope, offsets: &[usize]) -> Arc<[Arc<RopeTable>]> {
    offsets.windows(2).map(|bounds| rope.table(0..bounds[1] - bounds[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::weights::tests::scattered;

    fn sequence(length: usize) -> (Vec<u32>, Vec<bool>) {
        let tokens = (0..length).map(|i| ((i * i + 5 * length) % 50) as u32).collect();
        (tokens, (0..length).map(|i| i % 3 != 1).collect())
    }

    fn batch(sequences: &[(Vec<u32>, Vec<bool>)]) -> Batch {
        Batch::new(sequences.iter().map(|(tokens, trained)| (tokens.as_slice(), trained.as_slice())))
    }

    #[test]
    fn a_packed_loss_is_the_sum_of_the_losses_alone() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let decoder = Decoder::new(&weights, &Device::flex());
        let sequences = [2, 9, 17, 5].map(sequence);
        let loss = |batch: &Batch| decoder.loss(batch).into_scalar::<f32>();
        let together = loss(&batch(&sequences));
        let alone: f32 = sequences.iter().map(|one| loss(&batch(std::slice::from_ref(one)))).sum();
        assert!((together - alone).abs() < 1e-3 * alone, "{together} and {alone}");
    }

    #[test]
    fn gradients_of_every_parameter_agree_with_finite_differences() {
        for config in families() {
            let weights = scattered(&config);
            let batch = batch(&[7, 20].map(sequence));
            let device = Device::flex().autodiff();
            let (_, gradients) = Decoder::new(&weights, &device).loss_and_gradients(&batch);
            let loss_at = |parameter: usize, step: f32| {
                // Moving along the gradient's signs adds the differences up, far above the rounding of f32.
                let mut moved = weights.clone();
                for (value, gradient) in moved.values_mut()[parameter].iter_mut().zip(&gradients[parameter]) {
                    *value += step * gradient.signum();
                }
                f64::from(Decoder::new(&moved, &Device::flex()).loss(&batch).into_scalar::<f32>())
            };
            for (index, parameter) in weights.layout().iter().enumerate() {
                let expected: f64 = gradients[index].iter().map(|gradient| f64::from(gradient.abs())).sum();
                let step = 2e-4;
                let estimate = (loss_at(index, step) - loss_at(index, -step)) / (2.0 * f64::from(step));
                let error = (estimate - expected).abs() / expected;
                let place = (config.architecture, &parameter.parts);
                assert!(error < 0.02, "{place:?}: {estimate} and {expected}");
            }
        }
    }
}
