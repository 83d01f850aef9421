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

mod batch;
mod objective;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

pub use self::batch::Batch;
pub use self::objective::{Gradients, LossFunction, Objective, TeacherRows};
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
mod tests;
