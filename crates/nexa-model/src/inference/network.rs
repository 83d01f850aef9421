//! The forward pass of inference: host kernels over packed weights, many sequences in one step.

use std::sync::Arc;

use rayon::prelude::*;

use crate::kernels::cache::LayerCache;
use crate::kernels::head_norm::{self, Norms};
use crate::kernels::panel::PackedLinear;
use crate::kernels::rope::RopeTable;
use crate::kernels::{bias, gather, rms_norm, swiglu};
use crate::rope::Rope;
use crate::weights::{Block, Network, Projection};
use crate::{Buffer, DecoderConfig, Weights};

/// Which tokens' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those after the last token of every sequence.
    Last,
    /// Those after every token of every sequence that has a successor.
    AllButLast,
}

/// What a sequence leaves behind for its next tokens.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) layers: Vec<LayerCache>,
    pub(super) tokens: usize,
}

/// The weights in the form that the kernels multiply with.
#[derive(Debug)]
pub(super) struct HostNetwork {
    pub(super) config: DecoderConfig,
    rope: Rope,
    still: Rope,
    embedding: Buffer,
    blocks: Vec<HostBlock>,
    norm: Buffer,
    head: PackedLinear,
}

/// One block of the decoder.
#[derive(Debug)]
struct HostBlock {
    input_norm: Buffer,
    qkv: HostProjection,
    qk_norm: Option<[Buffer; 2]>,
    output: HostProjection,
    mlp_norm: Buffer,
    gate_up: HostProjection,
    down: HostProjection,
}

/// A packed weight with its bias.
#[derive(Debug)]
struct HostProjection {
    weight: PackedLinear,
    bias: Option<Buffer>,
}

impl HostProjection {
    fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let mut output = self.weight.forward(rows);
        if let Some(bias) = &self.bias {
            bias::add(&mut output, bias);
        }
        output
    }
}

impl HostNetwork {
    /// Packs weights.
    pub(super) fn new(weights: &Weights) -> Self {
        let config = weights.config().clone();
        let vector = |place: usize| weights.values()[place].clone();
        let packed = |place: usize| {
            let [outputs, inputs] = weights.layout()[place].shape;
            PackedLinear::new(&weights.values()[place], outputs, inputs)
        };
        let projection = |places: Projection<usize>| HostProjection {
            weight: packed(places.weight),
            bias: places.bias.map(vector),
        };
        let block = |places: Block<usize>| HostBlock {
            input_norm: vector(places.input_norm),
            qkv: projection(places.qkv),
            qk_norm: places.qk_norm.map(|norms| norms.map(vector)),
            output: projection(places.output),
            mlp_norm: vector(places.mlp_norm),
            gate_up: projection(places.gate_up),
            down: projection(places.down),
        };
        let network = Network::of(&config);
        Self {
            rope: Rope::new(&config),
            still: Rope::still(&config),
            embedding: vector(network.embedding),
            blocks: network.blocks.into_iter().map(block).collect(),
            norm: vector(network.norm),
            head: packed(network.head.unwrap_or(network.embedding)),
            config,
        }
    }

    /// A sequence without tokens.
    pub(super) fn empty_sequence(&self) -> Sequence {
        let layer = LayerCache::new(self.config.heads());
        Sequence { layers: vec![layer; self.config.num_hidden_layers], tokens: 0 }
    }

    /// Feeds tokens to sequences and returns the logits of the wanted rows.
    ///
    /// # Shapes
    /// Returns `[wanted rows, vocab]`.
    pub(super) fn forward(&self, mut inputs: Vec<(&mut Sequence, &[u32])>, wanted: Rows) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let epsilon = self.config.rms_norm_eps as f32;
        let token_ids: Vec<u32> = inputs.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let rows = wanted_rows(&inputs, wanted);
        let tables = [&self.rope, &self.still].map(|rope| tables(rope, &inputs));

        let mut x = gather::forward(&self.embedding, hidden, &token_ids); // [tokens, hidden]
        for (layer, block) in self.blocks.iter().enumerate() {
            let normed = rms_norm::forward(&x, &block.input_norm, epsilon);
            let mut qkv = block.qkv.forward(&normed); // [tokens, qkv_width]
            if let Some([query, key]) = &block.qk_norm {
                qkv = head_norm::forward(&qkv, self.config.heads(), Norms { query, key, epsilon });
            }
            let tables = &tables[usize::from(!self.config.is_rotated(layer))];
            let mut mixed = self.attend(&mut inputs, layer, tables, &mut qkv); // [tokens, heads * head_dim]
            if layer + 1 == self.blocks.len() {
                // No later operation mixes rows, so only the wanted ones go on.
                mixed = gather::forward(&mixed, self.config.heads().output_width(), &rows);
                x = gather::forward(&x, hidden, &rows);
            }
            add(&mut x, &block.output.forward(&mixed));
            let normed = rms_norm::forward(&x, &block.mlp_norm, epsilon);
            let gated = swiglu::forward(&block.gate_up.forward(&normed), self.config.intermediate_size);
            add(&mut x, &block.down.forward(&gated));
        }
        for (sequence, token_ids) in inputs {
            sequence.tokens += token_ids.len();
        }
        self.head.forward(&rms_norm::forward(&x, &self.norm, epsilon))
    }

    /// Attends within every sequence, several of them at a time.
    fn attend(
        &self,
        inputs: &mut [(&mut Sequence, &[u32])],
        layer: usize,
        tables: &[Arc<RopeTable>],
        qkv: &mut [f32],
    ) -> Vec<f32> {
        let heads = self.config.heads();
        let window = self.config.window(layer);
        let tokens = qkv.len() / heads.qkv_width();
        let mut output = vec![0.0; tokens * heads.output_width()];
        let mut tasks = Vec::with_capacity(inputs.len());
        let (mut rest_qkv, mut rest_output) = (qkv, output.as_mut_slice());
        for ((sequence, token_ids), table) in inputs.iter_mut().zip(tables) {
            let (own_qkv, tail) = rest_qkv.split_at_mut(token_ids.len() * heads.qkv_width());
            let (own_output, output_tail) = rest_output.split_at_mut(token_ids.len() * heads.output_width());
            (rest_qkv, rest_output) = (tail, output_tail);
            tasks.push((&mut sequence.layers[layer], own_qkv, table, own_output));
        }
        if let [(cache, qkv, table, output)] = tasks.as_mut_slice() {
            cache.attend(qkv, heads, table, window, output);
        } else {
            let attend = |(cache, qkv, table, output): Task<'_>| {
                cache.attend(qkv, heads, table, window, output);
            };
            tasks.into_par_iter().with_min_len(4).for_each(attend);
        }
        output
    }
}

/// What attention of one sequence works on: its cache, its rows, its rotations, and where the result goes.
type Task<'a> = (&'a mut LayerCache, &'a mut [f32], &'a Arc<RopeTable>, &'a mut [f32]);

/// Returns the rotations of the tokens that are fed to every sequence.
fn tables(rope: &Rope, inputs: &[(&mut Sequence, &[u32])]) -> Vec<Arc<RopeTable>> {
    inputs
        .iter()
        .map(|(sequence, token_ids)| rope.table(sequence.tokens..sequence.tokens + token_ids.len()))
        .collect()
}

/// Lists the wanted rows of tokens that lie end to end.
fn wanted_rows(inputs: &[(&mut Sequence, &[u32])], wanted: Rows) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut first = 0;
    for (_, token_ids) in inputs {
        let last = first + token_ids.len() - 1;
        match wanted {
            Rows::Last => rows.push(last as u32),
            Rows::AllButLast => rows.extend((first..last).map(|row| row as u32)),
        }
        first += token_ids.len();
    }
    rows
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
