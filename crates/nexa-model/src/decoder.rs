//! The decoder as training sees it: tensors under autodiff, many sequences end to end without padding.
//!
//! It is the Llama block (RMSNorm, rotary grouped-query attention, SwiGLU, residuals) with these departures in form,
//! none in result: queries, keys and values are one matrix, gate and up are one matrix; sequences are packed into one
//! `[tokens, hidden]` matrix, and attention is told where each begins; and once the last block has attended, only the
//! rows that carry loss go on, because no later operation mixes rows.
//!
//! Inference has its own forward pass over the same [`Weights`] (see [`crate::LocalModel`]); a test holds the two
//! together.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::kernels::distill::Divergence;
use crate::kernels::gather;
use crate::kernels::head::Wanted;
use crate::kernels::rope::RopeTable;
use crate::ops::{self, Adapter, Attention, HeadLoss, HeadResult};
use crate::weights::block;
use crate::{Buffer, DecoderConfig, Lora, Weights};

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

/// What a teacher thinks of the trained tokens of a batch.
#[derive(Debug)]
pub struct TeacherRows(ops::TeacherRows);

impl TeacherRows {
    /// Takes stored log-probabilities, in nats, of the teacher's `k` likeliest tokens before every trained token.
    ///
    /// # Panics
    /// Panics when there are not `k` ids and numbers for each row.
    pub fn top(k: usize, token_ids: Vec<u32>, log_probs: Vec<f32>) -> Self {
        assert!(
            k > 0 && token_ids.len() == log_probs.len() && token_ids.len().is_multiple_of(k),
            "rows of k"
        );
        Self(ops::TeacherRows::Top { k, token_ids, log_probs })
    }
}

/// How the losses of a batch's trained tokens become the number whose gradient is computed.
#[derive(Clone, Copy)]
pub enum Objective<'a> {
    /// The sum of the negative log-likelihoods, in nats.
    CrossEntropy,
    /// A function of the negative log-likelihoods: it returns its value and its derivative by each of them.
    Of(&'a (dyn Fn(&[f32]) -> (f64, Vec<f32>) + Sync)),
    /// The sum of a mixture of the negative log-likelihood and a divergence from a teacher.
    Distill(&'a TeacherRows, &'a Divergence),
}

/// What one batch came to.
#[derive(Debug)]
pub struct Gradients {
    /// The value of the objective.
    pub loss: f64,
    /// The loss of every trained token; for a function of them, their negative log-likelihoods.
    pub token_losses: Vec<f32>,
    /// The gradient of every trained parameter: those of the adapters where there are some, else all of the layout.
    pub values: Vec<Buffer>,
}

/// A decoder on a device, over weights that it shares with its maker where that device is the CPU.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    rope: Arc<RopeTable>,
    device: Device,
    weights: Vec<Tensor<2>>,
    /// The adapters of every block, by the position of the weight that they correct; none where all weights are
    /// trained.
    adapters: Option<Vec<[Option<Adapter>; block::COUNT]>>,
    recompute: bool,
}

/// A block's weights and adapters as one pass uses them.
struct Block {
    weights: Vec<Tensor<2>>,
    adapters: [Option<Adapter>; block::COUNT],
}

/// What is kept of a block between the passes.
enum Kept {
    /// Its graph, from the input to the output.
    Graph { input: Tensor<2>, leaves: Block, output: Tensor<2> },
    /// Its input alone; the rest is computed again.
    Input(Tensor<2>),
}

impl Decoder {
    /// Puts weights on a device; all of them are trained.
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let config = weights.config().clone();
        let rope = RopeTable::new(config.max_position_embeddings, config.head_dim, config.rope_theta);
        let device = device.clone().without_autodiff();
        let weights = weights.values().iter().map(|values| values.to_tensor(&device)).collect();
        Self { config, rope: Arc::new(rope), device, weights, adapters: None, recompute: false }
    }

    /// Corrects the weights by adapters, which alone are trained.
    #[must_use]
    pub fn with_adapters(mut self, adapters: &Lora) -> Self {
        self.adapters = Some(adapters.place(&self.config, &self.device));
        self
    }

    /// Keeps the inputs of blocks alone between the passes and computes the rest again: a third more work, and memory
    /// for one block instead of all of them.
    #[must_use]
    pub fn recompute_blocks(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self
    }

    /// Computes the negative log-likelihood of every trained token, in nats.
    pub fn token_losses(&self, batch: &Batch) -> Vec<f32> {
        let weights = None;
        let loss = HeadLoss::CrossEntropy { targets: &batch.targets, weights };
        ops::head(self.last_hidden(batch), self.head(), loss, NOTHING).losses
    }

    /// Shows the distributions before every trained token to a student of the same vocabulary.
    pub fn teach(&self, batch: &Batch) -> TeacherRows {
        TeacherRows(ops::TeacherRows::Hidden { x: self.last_hidden(batch), weight: self.head() })
    }

    /// Computes the logits before every trained token.
    ///
    /// # Shapes
    /// Returns `[trained tokens, vocab]`.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        ops::linear(self.last_hidden(batch), self.head(), None)
    }

    /// Computes an objective and its gradients.
    ///
    /// The network is walked block by block: each has a graph of its own, which is dropped as soon as the gradient has
    /// passed through it.
    pub fn gradients(&self, batch: &Batch, objective: Objective<'_>) -> Gradients {
        let trains_weights = self.adapters.is_none();
        let mut kept = Vec::with_capacity(self.config.num_hidden_layers);
        let mut x = self.embed(batch);
        for layer in 0..self.config.num_hidden_layers {
            if self.recompute {
                kept.push(Kept::Input(x.clone()));
                x = self.run(layer, x, &self.block(layer), batch);
            } else {
                let graph = self.track(layer, x, batch);
                let Kept::Graph { output, .. } = &graph else { unreachable!("a tracked block is a graph") };
                x = output.clone().without_autodiff();
                kept.push(graph);
            }
        }

        // The last norm and the head.
        let input = x.autodiff().require_grad();
        let norm = self.last_norm().autodiff();
        let norm = if trains_weights { norm.require_grad() } else { norm };
        let normed = ops::rms_norm(input.clone(), norm.clone(), self.epsilon());
        let (loss, token_losses, head) = self.loss(normed.clone().without_autodiff(), batch, objective);
        let HeadResult { x_gradient, weight_gradient: head_gradient, .. } = head;
        let mut passed = ops::pull(normed, x_gradient.expect("it was asked for")).backward();
        let mut gradient = input.grad_remove(&mut passed).expect("the head depends on its input");
        let norm_gradient = norm.grad_remove(&mut passed);
        drop(passed);

        let mut values = Vec::new();
        for (layer, kept) in kept.into_iter().enumerate().rev() {
            let kept = match kept {
                Kept::Input(input) => self.track(layer, input, batch),
                graph @ Kept::Graph { .. } => graph,
            };
            let Kept::Graph { input, leaves, output } = kept else { unreachable!("it was just made") };
            let mut passed = ops::pull(output, gradient.clone()).backward();
            // With frozen weights, nothing below the first block is trained.
            if let Some(below) = input.grad_remove(&mut passed) {
                gradient = below;
            }
            let mut of_block: Vec<Buffer> = leaves
                .trained(trains_weights)
                .filter_map(|leaf| leaf.grad_remove(&mut passed))
                .map(Buffer::from_tensor)
                .collect();
            of_block.reverse();
            values.extend(of_block);
        }
        values.reverse();
        if trains_weights {
            let mut of_head = head_gradient.expect("it was asked for");
            let embedding = if self.config.tie_word_embeddings {
                add_rows(&mut of_head, batch, gradient);
                of_head
            } else {
                let [rows, width] = self.weights[0].dims();
                let mut of_embedding = Buffer::new(vec![0.0; rows * width], [rows, width]);
                add_rows(&mut of_embedding, batch, gradient);
                values.push(Buffer::from_tensor(norm_gradient.clone().expect("the norm is trained")));
                values.push(of_head);
                of_embedding
            };
            if self.config.tie_word_embeddings {
                values.push(Buffer::from_tensor(norm_gradient.expect("the norm is trained")));
            }
            values.insert(0, embedding);
        }
        Gradients { loss, token_losses, values }
    }

    /// Computes the objective from the last hidden states, and the gradients of those and of the head.
    fn loss(&self, x: Tensor<2>, batch: &Batch, objective: Objective<'_>) -> (f64, Vec<f32>, HeadResult) {
        let wanted = Wanted { x: true, weight: self.adapters.is_none() };
        let targets: &[u32] = &batch.targets;
        let sum = |losses: &[f32]| losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        match objective {
            Objective::CrossEntropy => {
                let loss = HeadLoss::CrossEntropy { targets, weights: None };
                let result = ops::head(x, self.head(), loss, wanted);
                (sum(&result.losses), result.losses.clone(), result)
            }
            Objective::Of(function) => {
                let alone = HeadLoss::CrossEntropy { targets, weights: None };
                let losses = ops::head(x.clone(), self.head(), alone, NOTHING).losses;
                let (value, weights) = function(&losses);
                let loss = HeadLoss::CrossEntropy { targets, weights: Some(&weights) };
                (value, losses, ops::head(x, self.head(), loss, wanted))
            }
            Objective::Distill(teacher, divergence) => {
                let loss = HeadLoss::Distill { targets, teacher: &teacher.0, divergence };
                let result = ops::head(x, self.head(), loss, wanted);
                (sum(&result.losses), result.losses.clone(), result)
            }
        }
    }

    /// Looks the tokens up.
    fn embed(&self, batch: &Batch) -> Tensor<2> {
        ops::gather(self.weights[0].clone(), &batch.token_ids) // [tokens, hidden]
    }

    /// Computes the normalised hidden states before every trained token, without a graph.
    fn last_hidden(&self, batch: &Batch) -> Tensor<2> {
        let x = (0..self.config.num_hidden_layers)
            .fold(self.embed(batch), |x, layer| self.run(layer, x, &self.block(layer), batch));
        ops::rms_norm(x, self.last_norm(), self.epsilon())
    }

    /// Runs a block in a graph of its own.
    fn track(&self, layer: usize, input: Tensor<2>, batch: &Batch) -> Kept {
        let trains_weights = self.adapters.is_none();
        let input = input.autodiff();
        let input = if trains_weights || layer > 0 { input.require_grad() } else { input };
        let leaves = self.block(layer).tracked(trains_weights);
        let output = self.run(layer, input.clone(), &leaves, batch);
        Kept::Graph { input, leaves, output }
    }

    /// Runs a block. The last one hands on the rows that carry loss alone.
    fn run(&self, layer: usize, x: Tensor<2>, block: &Block, batch: &Batch) -> Tensor<2> {
        let attention =
            Attention { heads: self.config.heads(), offsets: batch.offsets.clone(), rope: self.rope.clone() };
        let mut x = x; // [tokens, hidden]
        let normed = ops::rms_norm(x.clone(), block.weight(block::INPUT_NORM), self.epsilon());
        let qkv = block.linear(block::QKV, normed, None); // [tokens, qkv_width]
        let mut mixed = ops::attention(qkv, &attention); // [tokens, heads * head_dim]
        if layer + 1 == self.config.num_hidden_layers {
            mixed = ops::gather(mixed, &batch.rows); // [trained, heads * head_dim]
            x = ops::gather(x, &batch.rows); // [trained, hidden]
        }
        let x = block.linear(block::OUTPUT, mixed, Some(x));
        let normed = ops::rms_norm(x.clone(), block.weight(block::MLP_NORM), self.epsilon());
        let gated = ops::swiglu(block.linear(block::GATE_UP, normed, None)); // [.., intermediate]
        block.linear(block::DOWN, gated, Some(x))
    }

    fn block(&self, layer: usize) -> Block {
        let first = 1 + layer * block::COUNT;
        let weights = self.weights[first..first + block::COUNT].to_vec();
        let adapters = self.adapters.as_ref().map(|adapters| adapters[layer].clone()).unwrap_or_default();
        Block { weights, adapters }
    }

    fn last_norm(&self) -> Tensor<2> {
        self.weights[1 + self.config.num_hidden_layers * block::COUNT].clone()
    }

    fn head(&self) -> Tensor<2> {
        self.weights.get(2 + self.config.num_hidden_layers * block::COUNT).unwrap_or(&self.weights[0]).clone()
    }

    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }
}

const NOTHING: Wanted = Wanted { x: false, weight: false };

impl Block {
    fn weight(&self, index: usize) -> Tensor<2> {
        self.weights[index].clone()
    }

    /// Multiplies with a weight, corrected where it has an adapter.
    fn linear(&self, index: usize, x: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        match &self.adapters[index] {
            None => ops::linear(x, self.weight(index), residual),
            Some(adapter) => {
                let product = ops::linear(x.clone(), self.weight(index), residual);
                ops::lora(x, product, adapter.clone())
            }
        }
    }

    /// Makes leaves of a graph out of the weights or of the adapters.
    fn tracked(self, trains_weights: bool) -> Self {
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        if trains_weights {
            return Self { weights: self.weights.into_iter().map(leaf).collect(), ..self };
        }
        let weights = self.weights.into_iter().map(Tensor::autodiff).collect();
        let adapters =
            self.adapters.map(|adapter| adapter.map(|it| Adapter { a: leaf(it.a), b: leaf(it.b), ..it }));
        Self { weights, adapters }
    }

    /// Lists what is trained.
    fn trained(&self, trains_weights: bool) -> impl Iterator<Item = &Tensor<2>> {
        let weights = self.weights.iter().filter(move |_| trains_weights);
        weights.chain(self.adapters.iter().flatten().flat_map(|adapter| [&adapter.a, &adapter.b]))
    }
}

/// Adds the gradient of looked-up rows to that of the embedding.
fn add_rows(embedding: &mut Buffer, batch: &Batch, gradient: Tensor<2>) {
    let width = gradient.dims()[1];
    gather::add_rows(embedding, width, &batch.token_ids, &Buffer::from_tensor(gradient));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::kernels::distill::Kind;

    fn sequence(length: usize) -> (Vec<u32>, Vec<bool>) {
        let tokens = (0..length).map(|i| ((i * i + 5 * length) % 50) as u32).collect();
        (tokens, (0..length).map(|i| i % 3 != 1).collect())
    }

    fn batch(sequences: &[(Vec<u32>, Vec<bool>)]) -> Batch {
        Batch::new(sequences.iter().map(|(tokens, trained)| (tokens.as_slice(), trained.as_slice())))
    }

    fn sum(losses: &[f32]) -> f64 {
        losses.iter().map(|&loss| f64::from(loss)).sum()
    }

    #[test]
    fn a_packed_loss_is_the_sum_of_the_losses_alone() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let decoder = Decoder::new(&weights, &Device::flex());
        let sequences = [2, 9, 17, 5].map(sequence);
        let loss = |batch: &Batch| sum(&decoder.token_losses(batch));
        let together = loss(&batch(&sequences));
        let alone: f64 = sequences.iter().map(|one| loss(&batch(std::slice::from_ref(one)))).sum();
        assert!((together - alone).abs() < 1e-3 * alone, "{together} and {alone}");
    }

    /// Holds the gradient of every parameter against differences of the objective.
    fn check_gradients(config: &DecoderConfig, objective: Objective<'_>, value: impl Fn(&Decoder) -> f64) {
        let weights = Weights::random(config, 5).expect("valid config");
        let batch = batch(&[7, 12].map(sequence));
        let decoder = Decoder::new(&weights, &Device::flex());
        let gradients = decoder.gradients(&batch, objective);
        assert!((gradients.loss - value(&decoder)).abs() < 1e-4 * gradients.loss.abs().max(1.0));
        assert_eq!(gradients.values.len(), weights.layout().len());
        let value_at = |parameter: usize, step: f32| {
            // Moving along the gradient's signs adds the differences up, far above the rounding of f32.
            let mut moved = weights.clone();
            let values = moved.values_mut()[parameter].iter_mut();
            for (value, gradient) in values.zip(gradients.values[parameter].iter()) {
                *value += step * gradient.signum();
            }
            value(&Decoder::new(&moved, &Device::flex()))
        };
        for (index, parameter) in weights.layout().iter().enumerate() {
            let expected: f64 =
                gradients.values[index].iter().map(|gradient| f64::from(gradient.abs())).sum();
            let step = 2e-4;
            let estimate = (value_at(index, step) - value_at(index, -step)) / (2.0 * f64::from(step));
            let error = (estimate - expected).abs() / expected;
            assert!(error < 0.02, "{:?}: {estimate} and {expected}", parameter.parts);
        }
    }

    #[test]
    fn gradients_of_every_parameter_agree_with_finite_differences() {
        let batch = batch(&[7, 12].map(sequence));
        for tie_word_embeddings in [true, false] {
            let config = DecoderConfig { tie_word_embeddings, ..small() };
            check_gradients(&config, Objective::CrossEntropy, |decoder| sum(&decoder.token_losses(&batch)));
        }
    }

    #[test]
    fn a_function_of_the_losses_has_its_own_gradient() {
        let batch = batch(&[7, 12].map(sequence));
        let squares = |losses: &[f32]| {
            let value = losses.iter().map(|&loss| f64::from(loss) * f64::from(loss)).sum::<f64>() / 10.0;
            (value, losses.iter().map(|loss| loss / 5.0).collect())
        };
        check_gradients(&small(), Objective::Of(&squares), |decoder| {
            squares(&decoder.token_losses(&batch)).0
        });
    }

    #[test]
    fn distillation_has_the_gradient_of_its_divergence() {
        let batch = batch(&[7, 12].map(sequence));
        let teacher = Weights::random(&DecoderConfig { num_hidden_layers: 1, ..small() }, 9).expect("valid");
        let teacher = Decoder::new(&teacher, &Device::flex()).teach(&batch);
        let kind = Kind::JensenShannon { beta: 0.4 };
        let divergence = Divergence { kind, alpha: 0.8, ce_alpha: 0.3, temperature: 2.0 };
        let objective = Objective::Distill(&teacher, &divergence);
        let value = |decoder: &Decoder| sum(&decoder.gradients(&batch, objective).token_losses);
        check_gradients(&small(), objective, value);
    }

    #[test]
    fn recomputed_blocks_give_the_same_gradients() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let batch = batch(&[7, 12, 3].map(sequence));
        let gradients = |recompute| {
            let decoder = Decoder::new(&weights, &Device::flex()).recompute_blocks(recompute);
            decoder.gradients(&batch, Objective::CrossEntropy)
        };
        let (kept, recomputed) = (gradients(false), gradients(true));
        assert_eq!(kept.loss, recomputed.loss);
        assert!(kept.values == recomputed.values, "equal to the last bit");
    }

    #[test]
    fn a_decoder_shares_the_weights_of_its_maker() {
        let mut weights = Weights::random(&small(), 5).expect("valid config");
        let place = weights.values()[3].as_ptr();
        let gradients = Decoder::new(&weights, &Device::flex())
            .gradients(&batch(&[sequence(9)]), Objective::CrossEntropy);
        assert_eq!(gradients.values[3].len(), weights.values()[3].len());
        weights.values_mut()[3][0] += 1.0;
        assert_eq!(weights.values()[3].as_ptr(), place, "once the decoder is gone, nothing is copied");
    }
}
