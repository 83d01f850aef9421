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

use burn::tensor::{Device, Tensor};

use crate::kernels::attention::Attention;
use crate::kernels::distill::Divergence;
use crate::kernels::dropout;
use crate::kernels::gather;
use crate::kernels::head::Wanted;
use crate::kernels::rope::RopeTable;
use crate::lora::BlockAdapters;
use crate::ops::{self, Adapter, HeadLoss, HeadResult, TeacherHidden};
use crate::rope::Rope;
use crate::weights::{self, Network, Projection};
use crate::{Buffer, DecoderConfig, Lora, Weights};

/// Sequences to train on, end to end.
#[derive(Debug, Clone)]
pub struct Batch {
    token_ids: Arc<[u32]>,
    offsets: Arc<[usize]>,
    rows: Arc<[u32]>,
    targets: Arc<[u32]>,
    noise: u64,
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
            noise: 0,
        }
    }

    /// Sets the key of what is random in a training pass over the batch: the same key gives the same bits.
    #[must_use]
    pub fn with_noise(self, key: u64) -> Self {
        Self { noise: key, ..self }
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
    /// Takes stored log-probabilities, in nats, of the teacher's `k` likeliest tokens before every trained token. A row
    /// that has fewer ends with log-probabilities of minus infinity, whose ids are not looked at.
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

/// A function of the negative log-likelihoods of a batch's trained tokens, and its derivatives by them.
pub type LossFunction<'a> = dyn Fn(&[f32]) -> (f64, Vec<f32>) + Sync + 'a;

/// How the losses of a batch's trained tokens become the number whose gradient is computed.
#[derive(Clone, Copy)]
pub enum Objective<'a> {
    /// The sum of the negative log-likelihoods, in nats.
    CrossEntropy,
    /// A function of the negative log-likelihoods: it returns its value and its derivative by each of them.
    Of(&'a LossFunction<'a>),
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

/// A decoder on a device, over weights that it shares with its maker where that device is the CPU. Clones share them.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    rope: Arc<Rope>,
    /// The rotation of layers without positions.
    still: Arc<Rope>,
    device: Device,
    weights: Network<Tensor<2>>,
    /// The adapters of every block; `None` where all weights are trained.
    adapters: Option<Vec<BlockAdapters>>,
    recompute: bool,
}

/// A block's weights and adapters as one pass uses them.
struct Block {
    weights: weights::Block<Tensor<2>>,
    adapters: BlockAdapters,
}

/// The graph of a block, from the input to the output.
struct Graph {
    input: Tensor<2>,
    leaves: Block,
    output: Tensor<2>,
}

/// What is kept of a block between the passes.
enum Kept {
    /// Its graph.
    Graph(Box<Graph>),
    /// Its input alone; the rest is computed again.
    Input(Box<Tensor<2>>),
}

impl Decoder {
    /// Puts weights on a device; all of them are trained.
    pub fn new(weights: &Weights, device: &Device) -> Self {
        Self::placed(weights, device, Buffer::to_tensor)
    }

    /// Puts weights on a device in 16 bits, and computes in them but for what sums over many numbers: norms, softmax
    /// and losses. Gradients come back in `f32`.
    pub fn in_bf16(weights: &Weights, device: &Device) -> Self {
        Self::placed(weights, device, Buffer::to_bf16)
    }

    fn placed(weights: &Weights, device: &Device, place: fn(&Buffer, &Device) -> Tensor<2>) -> Self {
        let config = weights.config().clone();
        let device = device.clone().without_autodiff();
        Self {
            rope: Rope::new(&config).into(),
            still: Rope::still(&config).into(),
            weights: Network::of(&config).map(|index| place(&weights.values()[index], &device)),
            adapters: None,
            recompute: false,
            config,
            device,
        }
    }

    /// Corrects the weights by adapters, which alone are trained.
    #[must_use]
    pub fn with_adapters(mut self, adapters: &Lora) -> Self {
        let dtype = self.weights.embedding.dtype();
        let blocks = adapters.place(self.config.num_hidden_layers, &self.device).into_iter();
        let as_weights = |_, it: Adapter| Adapter { a: it.a.cast(dtype), b: it.b.cast(dtype), ..it };
        self.adapters = Some(blocks.map(|block| block.map(as_weights)).collect());
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

    /// Computes the mixture of negative log-likelihood and divergence from a teacher for every trained token, in nats.
    pub fn divergences(&self, batch: &Batch, teacher: &TeacherRows, divergence: &Divergence) -> Vec<f32> {
        let loss = HeadLoss::Distill { targets: &batch.targets, teacher: &teacher.0, divergence };
        ops::head(self.last_hidden(batch), self.head(), loss, NOTHING).losses
    }

    /// Returns the shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Shows the distributions before every trained token to a student of the same vocabulary.
    pub fn teach(&self, batch: &Batch) -> TeacherRows {
        let hidden = TeacherHidden { x: self.last_hidden(batch), weight: self.head() };
        TeacherRows(ops::TeacherRows::Hidden(Box::new(hidden)))
    }

    /// Finds the `k` likeliest tokens before every trained token and their log-probabilities in nats, likeliest first:
    /// what [`TeacherRows::top`] takes.
    pub fn top(&self, batch: &Batch, k: usize) -> (Vec<u32>, Vec<f32>) {
        ops::top(self.last_hidden(batch), self.head(), k.clamp(1, self.config.vocab_size))
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
        let pass = &self.pass(batch);
        let mut kept = Vec::with_capacity(self.config.num_hidden_layers);
        let mut x = self.embed(batch);
        for layer in 0..self.config.num_hidden_layers {
            if self.recompute {
                kept.push(Kept::Input(Box::new(x.clone())));
                x = self.run(layer, x, &self.training_block(layer, batch), pass);
            } else {
                let graph = self.track(layer, x, pass);
                x = graph.output.clone().without_autodiff();
                kept.push(Kept::Graph(Box::new(graph)));
            }
        }

        // The last norm and the head.
        let input = x.autodiff().require_grad();
        let norm = self.weights.norm.clone().autodiff();
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
            let Graph { input, leaves, output } = match kept {
                Kept::Input(input) => self.track(layer, *input, pass),
                Kept::Graph(graph) => *graph,
            };
            let mut passed = ops::pull(output, gradient.clone()).backward();
            // With frozen weights, nothing below the first block is trained.
            if let Some(below) = input.grad_remove(&mut passed) {
                gradient = below;
            }
            let trained = leaves.trained(trains_weights);
            let of_block = trained.iter().rev().filter_map(|leaf| leaf.grad_remove(&mut passed));
            values.extend(of_block.map(Buffer::from_tensor));
        }
        values.reverse();
        if let (Some(norm), Some(mut head)) = (norm_gradient, head_gradient) {
            let norm = Buffer::from_tensor(norm);
            if self.weights.head.is_some() {
                let [rows, width] = self.weights.embedding.dims();
                let mut embedding = Buffer::new(vec![0.0; rows * width], [rows, width]);
                add_rows(&mut embedding, batch, gradient);
                values.insert(0, embedding);
                values.extend([norm, head]);
            } else {
                add_rows(&mut head, batch, gradient);
                values.insert(0, head);
                values.push(norm);
            }
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
        ops::gather(self.weights.embedding.clone(), &batch.token_ids) // [tokens, hidden]
    }

    /// Computes the normalised hidden states before every trained token, without a graph.
    fn last_hidden(&self, batch: &Batch) -> Tensor<2> {
        let pass = self.pass(batch);
        let x = (0..self.config.num_hidden_layers)
            .fold(self.embed(batch), |x, layer| self.run(layer, x, &self.block(layer), &pass));
        ops::rms_norm(x, self.weights.norm.clone(), self.epsilon())
    }

    /// Runs a block in a graph of its own.
    fn track(&self, layer: usize, input: Tensor<2>, pass: &Pass<'_>) -> Graph {
        let trains_weights = self.adapters.is_none();
        let input = input.autodiff();
        let input = if trains_weights || layer > 0 { input.require_grad() } else { input };
        let leaves = self.training_block(layer, pass.batch).tracked(trains_weights);
        let output = self.run(layer, input.clone(), &leaves, pass);
        Graph { input, leaves, output }
    }

    /// Runs a block. The last one hands on the rows that carry loss alone.
    fn run(
        &self,
        layer: usize,
        mut x: Tensor<2>, // [tokens, hidden]
        Block { weights, adapters }: &Block,
        Pass { batch, rotations }: &Pass<'_>,
    ) -> Tensor<2> {
        let (heads, epsilon) = (self.config.heads(), self.epsilon());
        let attention = Attention {
            heads,
            offsets: batch.offsets.clone(),
            rope: rotations[usize::from(!self.config.is_rotated(layer))].clone(),
            window: self.config.window(layer),
        };
        let normed = ops::rms_norm(x.clone(), weights.input_norm.clone(), epsilon);
        let mut qkv = project(normed, &weights.qkv, &adapters.qkv, None); // [tokens, qkv_width]
        if let Some([query, key]) = &weights.qk_norm {
            qkv = ops::head_norm(qkv, query.clone(), key.clone(), heads, epsilon);
        }
        let mut mixed = ops::attention(qkv, &attention); // [tokens, heads * head_dim]
        if layer + 1 == self.config.num_hidden_layers {
            mixed = ops::gather(mixed, &batch.rows); // [trained, heads * head_dim]
            x = ops::gather(x, &batch.rows); // [trained, hidden]
        }
        let x = project(mixed, &weights.output, &adapters.output, Some(x));
        let normed = ops::rms_norm(x.clone(), weights.mlp_norm.clone(), epsilon);
        let gated = ops::swiglu(project(normed, &weights.gate_up, &adapters.gate_up, None)); // [.., intermediate]
        project(gated, &weights.down, &adapters.down, Some(x))
    }

    fn block(&self, layer: usize) -> Block {
        let adapters = self.adapters.as_ref().map(|adapters| adapters[layer].clone()).unwrap_or_default();
        Block { weights: self.weights.blocks[layer].clone(), adapters }
    }

    /// A block with what its adapters drop of their inputs: a function of the batch's key and of the place alone.
    fn training_block(&self, layer: usize, batch: &Batch) -> Block {
        let block = self.block(layer);
        let key = dropout::mix(batch.noise, layer as u64);
        let drop = |number, adapter: Adapter| adapter.dropping(dropout::mix(key, number as u64));
        Block { adapters: block.adapters.map(drop), ..block }
    }

    fn head(&self) -> Tensor<2> {
        self.weights.head.as_ref().unwrap_or(&self.weights.embedding).clone()
    }

    /// Prepares what every block of a pass is told.
    fn pass<'a>(&self, batch: &'a Batch) -> Pass<'a> {
        let rotations = [&self.rope, &self.still].map(|rope| {
            batch.offsets.windows(2).map(|bounds| rope.table(0..bounds[1] - bounds[0])).collect()
        });
        Pass { batch, rotations }
    }

    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }
}

/// What every block of a pass is told.
struct Pass<'a> {
    batch: &'a Batch,
    /// The rotations of every sequence, in layers with positions and in those without.
    rotations: [Arc<[Arc<RopeTable>]>; 2],
}

/// No gradient is wanted.
const NOTHING: Wanted = Wanted { x: false, weight: false };

/// Multiplies rows with a weight and adds its bias, its correction and a residual, where there are.
fn project(
    x: Tensor<2>,
    projection: &Projection<Tensor<2>>,
    adapter: &Option<Adapter>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let product = match adapter {
        None => ops::linear(x, projection.weight.clone(), residual),
        Some(adapter) => {
            let product = ops::linear(x.clone(), projection.weight.clone(), residual);
            ops::lora(x, product, adapter.clone())
        }
    };
    match &projection.bias {
        Some(bias) => ops::add_bias(product, bias.clone()),
        None => product,
    }
}

impl Block {
    /// Makes leaves of a graph out of the weights or of the adapters.
    fn tracked(self, trains_weights: bool) -> Self {
        let Self { weights, adapters } = self;
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        if trains_weights {
            return Self { weights: weights.map(&mut { leaf }), adapters };
        }
        let adapters = adapters.map(|_, it| Adapter { a: leaf(it.a), b: leaf(it.b), ..it });
        Self { weights: weights.map(&mut Tensor::autodiff), adapters }
    }

    /// Lists what is trained, in the order of gradients.
    fn trained(&self, trains_weights: bool) -> Vec<Tensor<2>> {
        let mut list = Vec::new();
        if trains_weights {
            self.weights.clone().map(&mut |tensor| list.push(tensor));
        } else {
            list.extend(self.adapters.iter().flat_map(|adapter| [adapter.a.clone(), adapter.b.clone()]));
        }
        list
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
    use crate::LoraConfig;
    use crate::config::tests::{families, small};
    use crate::kernels::distill::Kind;
    use crate::ops::tests::without_kernels;
    use crate::weights::tests::scattered;

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
        let weights = scattered(config);
        let batch = batch(&[7, 20].map(sequence));
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
            let place = (config.architecture, &parameter.parts);
            assert!(error < 0.02, "{place:?}: {estimate} and {expected}");
        }
    }

    #[test]
    fn gradients_of_every_parameter_agree_with_finite_differences() {
        let batch = batch(&[7, 20].map(sequence));
        for config in families() {
            check_gradients(&config, Objective::CrossEntropy, |decoder| sum(&decoder.token_losses(&batch)));
        }
    }

    #[test]
    fn a_function_of_the_losses_has_its_own_gradient() {
        let batch = batch(&[7, 20].map(sequence));
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
        let batch = batch(&[7, 20].map(sequence));
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

    /// The losses of some steps of plain descent.
    fn descend(
        mut weights: Weights,
        batches: &[Batch],
        compute: fn(&Weights, &Batch) -> Gradients,
    ) -> Vec<f64> {
        let step = |batch: &Batch| {
            let gradients = compute(&weights, batch);
            for (values, gradient) in weights.values_mut().iter_mut().zip(&gradients.values) {
                for (value, gradient) in values.iter_mut().zip(gradient.iter()) {
                    *value -= 3e-3 * gradient;
                }
            }
            gradients.loss / batch.trained_tokens() as f64
        };
        batches.iter().map(step).collect()
    }

    /// Batches of several sequences for some steps; the last is the first once more.
    fn batches() -> Vec<Batch> {
        [7, 20, 13, 9, 7].map(|length| batch(&[length, 5, 11].map(sequence))).into()
    }

    fn cross_entropy(weights: &Weights, batch: &Batch) -> Gradients {
        Decoder::new(weights, &Device::flex()).gradients(batch, Objective::CrossEntropy)
    }

    #[test]
    fn training_without_kernels_is_training_with_them() {
        for config in families() {
            let name = config.architecture;
            let weights = Weights::random(&config, 5).expect("valid config");
            let fused = descend(weights.clone(), &batches(), cross_entropy);
            let plain = without_kernels(|| descend(weights, &batches(), cross_entropy));
            for (fused, plain) in fused.iter().zip(&plain) {
                assert!((fused - plain).abs() < 1e-4, "{name:?}: {fused} and {plain}");
            }
            assert!(fused[4] < fused[0], "{name:?} learns: {fused:?}");
        }
    }

    #[test]
    fn training_in_16_bits_follows_that_in_32() {
        let in_bf16 = |weights: &Weights, batch: &Batch| {
            let gradients =
                Decoder::in_bf16(weights, &Device::flex()).gradients(batch, Objective::CrossEntropy);
            assert!(gradients.values.iter().all(|gradient| gradient.iter().all(|value| value.is_finite())));
            gradients
        };
        let weights = Weights::random(&small(), 5).expect("valid config");
        let wide = descend(weights.clone(), &batches(), cross_entropy);
        let narrow = descend(weights, &batches(), in_bf16);
        for (wide, narrow) in wide.iter().zip(&narrow) {
            // Eight bits of mantissa, and a few layers of them.
            assert!((wide - narrow).abs() < 0.02 * wide && wide != narrow, "{wide} and {narrow}");
        }
    }

    #[test]
    fn adapters_train_without_kernels_as_with_them() {
        let weights = Weights::random(&small(), 5).expect("valid config");
        let target_modules = vec!["all-linear".to_owned()];
        let config = LoraConfig { r: 3, alpha: 6.0, dropout: 0.0, use_rslora: false, target_modules };
        let mut lora = Lora::new(config, &small(), 1).expect("valid");
        // Matrices `B` that are not zero, so that both factors have gradients.
        for values in lora.values_mut() {
            values.iter_mut().enumerate().for_each(|(index, value)| *value += (index % 7) as f32 / 50.0);
        }
        let gradients = || {
            let decoder = Decoder::new(&weights, &Device::flex()).with_adapters(&lora);
            decoder.gradients(&batches()[0], Objective::CrossEntropy).values
        };
        let (fused, plain) = (gradients(), without_kernels(gradients));
        assert_eq!(fused.len(), plain.len());
        for (fused, plain) in fused.iter().zip(&plain) {
            assert!(fused.iter().zip(plain.iter()).all(|(fused, plain)| (fused - plain).abs() < 1e-4));
        }
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
