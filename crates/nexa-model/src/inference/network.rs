//! The forward pass of inference: host kernels over arranged weights, many sequences in one step.

use std::ops::Range;
use std::sync::Arc;

use super::adapters::{HostAdapter, HostCorrection};
use super::host::{HostWeights, Numbers};
use super::pages::{PageId, Pool};
use crate::kernels::attention::Heads;
use crate::kernels::cache::{self, CacheNumber, PAGE_TOKENS, Page, PageShape, Queries};
use crate::kernels::head_norm::{self, Norms};
use crate::kernels::log_softmax::RatedRow;
use crate::kernels::rope::RopeTable;
use crate::kernels::simd::LANES;
use crate::kernels::{gather, rms_norm, swiglu, team};
use crate::lora::PerProjection;
use crate::rope::Rope;
use crate::{DecoderConfig, Error};

/// Tokens of one sequence whose attention one task computes.
const TOKENS_PER_TASK: usize = 8;
/// Multiply-adds of an attention below which a second thread costs more than it brings.
pub(super) const WORTH_A_THREAD: usize = 1 << 15;

/// What a sequence leaves behind for its next tokens.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) pages: Vec<Arc<Page>>,
    /// The tokens whose keys and values are in the pages.
    pub(super) token_ids: Vec<u32>,
    /// The name of the last page that is remembered.
    pub(super) last_full: PageId,
    /// Pages that are remembered, which others may read.
    pub(super) remembered: usize,
    /// What corrects the weights for this sequence.
    pub(super) adapter: Option<Arc<HostAdapter>>,
}

impl Sequence {
    /// A sequence without tokens.
    pub(super) fn empty(adapter: Option<Arc<HostAdapter>>) -> Self {
        let last_full = root(adapter.as_deref());
        Self { pages: Vec::new(), token_ids: Vec::new(), last_full, remembered: 0, adapter }
    }

    /// Remembers the pages that have become full. What was guessed wrong is taken back before the next step, so they
    /// are full of tokens that stay.
    pub(super) fn remember(&mut self, pool: &mut Pool) {
        let full = self.token_ids.as_chunks::<PAGE_TOKENS>().0;
        for (tokens, page) in full.iter().zip(&mut self.pages).skip(self.remembered) {
            self.last_full = pool.remember(self.last_full, *tokens, page);
        }
        self.remembered = full.len();
    }

    /// How many pages the sequence lacks for more tokens.
    pub(super) fn lacks(&self, tokens: usize) -> usize {
        (self.token_ids.len() + tokens).div_ceil(PAGE_TOKENS) - self.pages.len()
    }
}

/// What comes before the first page of sequences with an adapter.
pub(super) fn root(adapter: Option<&HostAdapter>) -> PageId {
    PageId::Root(adapter.map_or(0, HostAdapter::generation))
}

/// Tokens that a sequence grows by, and how many rows of logits are wanted, counted from its end.
pub(super) struct Input<'a> {
    pub(super) sequence: &'a mut Sequence,
    pub(super) token_ids: &'a [u32],
    pub(super) wanted: usize,
}

/// A decoder that is ready to compute.
#[derive(Debug)]
pub(super) struct HostNetwork {
    pub(super) config: DecoderConfig,
    rope: Rope,
    still: Rope,
    weights: HostWeights,
    /// Multiply-adds from which the attention of a single token is split further. Both ways give the same numbers.
    pub(super) split_from: usize,
}

impl HostNetwork {
    /// Arranges weights.
    ///
    /// # Errors
    /// Fails when they cannot be read.
    pub(super) fn new(config: &DecoderConfig, numbers: &dyn Numbers) -> Result<Self, Error> {
        Ok(Self {
            rope: Rope::new(config),
            still: Rope::still(config),
            weights: HostWeights::new(config, numbers)?,
            config: config.clone(),
            split_from: WORTH_A_THREAD,
        })
    }

    /// The pages of this network's sequences.
    pub(super) fn page_shape(&self, number: CacheNumber) -> PageShape {
        PageShape { layers: self.config.num_hidden_layers, heads: self.config.heads(), number }
    }

    /// Bytes of weights that one step reads, however many rows it has.
    pub(super) fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Feeds tokens to sequences, which have pages for them, and returns the logits of the wanted rows.
    ///
    /// # Shapes
    /// Returns `[wanted rows, vocab]`.
    pub(super) fn forward(&self, inputs: Vec<Input<'_>>) -> Vec<f32> {
        match self.hidden(inputs) {
            hidden if hidden.is_empty() => hidden,
            hidden => self.logits(&hidden),
        }
    }

    /// The output layer.
    ///
    /// # Shapes
    /// Takes `[rows, hidden]` and returns `[rows, vocab]`.
    pub(super) fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        self.weights.head.forward(hidden)
    }

    /// The output layer and the softmax behind it: the softmax of each row, and the logits of the columns that are asked for.
    ///
    /// # Shapes
    /// Takes `[rows, hidden]` and a list of columns for each row.
    pub(super) fn rate(&self, hidden: &[f32], asked: &[Vec<u32>]) -> Vec<RatedRow> {
        self.weights.head.rate(hidden, asked)
    }

    /// Feeds tokens as [`Self::forward`], and returns what the output layer reads of the wanted rows.
    ///
    /// # Shapes
    /// Returns `[wanted rows, hidden]`.
    pub(super) fn hidden(&self, mut inputs: Vec<Input<'_>>) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let epsilon = self.config.rms_norm_eps as f32;
        let token_ids: Vec<u32> = inputs.iter().flat_map(|input| input.token_ids.iter().copied()).collect();
        let rows = wanted_rows(&inputs);
        let tables = [&self.rope, &self.still].map(|rope| tables(rope, &inputs));
        let (all, wanted) =
            (Spans::new(&inputs, |input| input.token_ids.len()), Spans::new(&inputs, |input| input.wanted));

        let mut x = self.weights.embed(hidden, &token_ids); // [tokens, hidden]
        for (layer, block) in self.weights.blocks.iter().enumerate() {
            let normed = rms_norm::forward(&x, &block.input_norm, epsilon);
            let mut qkv = block.qkv.forward(&normed); // [tokens, qkv_width]
            all.correct(layer, |block| block.qkv.as_ref(), &normed, &mut qkv);
            if let Some([query, key]) = &block.qk_norm {
                qkv = head_norm::forward(&qkv, self.config.heads(), Norms { query, key, epsilon });
            }
            let tables = &tables[usize::from(!self.config.is_rotated(layer))];
            self.push(&mut inputs, layer, tables, &mut qkv);
            let is_last = layer + 1 == self.weights.blocks.len();
            if is_last && rows.is_empty() {
                // Keys and values are all that anybody will see of these tokens.
                x.clear();
                break;
            }
            let mut mixed = self.attend(&inputs, layer, &qkv); // [tokens, heads * head_dim]
            let mut spans = &all;
            if is_last {
                // No later operation mixes rows, so only the wanted ones go on.
                mixed = gather::forward(&mixed, self.config.heads().output_width(), &rows);
                x = gather::forward(&x, hidden, &rows);
                spans = &wanted;
            }
            let mut output = block.output.forward(&mixed);
            spans.correct(layer, |block| block.output.as_ref(), &mixed, &mut output);
            add(&mut x, &output);
            let normed = rms_norm::forward(&x, &block.mlp_norm, epsilon);
            let mut gate_up = block.gate_up.forward(&normed);
            spans.correct(layer, |block| block.gate_up.as_ref(), &normed, &mut gate_up);
            let gated = swiglu::forward(&gate_up, self.config.intermediate_size);
            let mut down = block.down.forward(&gated);
            spans.correct(layer, |block| block.down.as_ref(), &gated, &mut down);
            add(&mut x, &down);
        }
        for input in inputs {
            input.sequence.token_ids.extend(input.token_ids);
        }
        rms_norm::forward(&x, &self.weights.norm, epsilon)
    }

    /// Rotates queries and keys, and stores keys and values in the pages of their sequences.
    fn push(&self, inputs: &mut [Input<'_>], layer: usize, tables: &[Arc<RopeTable>], qkv: &mut [f32]) {
        let width = self.config.heads().qkv_width();
        let mut rest = qkv;
        for (input, table) in inputs.iter_mut().zip(tables) {
            let (own, tail) = rest.split_at_mut(input.token_ids.len() * width);
            rest = tail;
            let first = input.sequence.token_ids.len();
            cache::push(&mut input.sequence.pages, layer, first, own, table);
        }
    }

    /// Attends within every sequence: some tokens of one are a task; a single token that sees many is split further.
    fn attend(&self, inputs: &[Input<'_>], layer: usize, qkv: &[f32]) -> Vec<f32> {
        let heads = self.config.heads();
        let (width, group_width) = (heads.output_width(), heads.group() * heads.head_dim);
        let window = self.config.window(layer);
        let mut output = vec![0.0; qkv.len() / heads.qkv_width() * width];
        let (mut tasks, mut singles) = (Vec::new(), Vec::new());
        let mut work = 0;
        let (mut rest_qkv, mut rest) = (qkv, output.as_mut_slice());
        for input in inputs {
            let mut first = input.sequence.token_ids.len();
            let mut left = input.token_ids.len();
            while left > 0 {
                let tokens = left.min(TOKENS_PER_TASK);
                let (own_qkv, tail_qkv) = rest_qkv.split_at(tokens * heads.qkv_width());
                let (own, tail) = rest.split_at_mut(tokens * width);
                (rest_qkv, rest) = (tail_qkv, tail);
                let queries = Queries { pages: &input.sequence.pages, layer, first, window, qkv: own_qkv };
                if tokens == 1 && first * width >= self.split_from {
                    singles.push((queries, own));
                } else {
                    tasks.push((queries, own));
                    work += tokens * (first + tokens) * width;
                }
                (first, left) = (first + tokens, left - tokens);
            }
        }
        let attend = |_, (queries, output): (Queries<'_>, &mut [f32])| {
            for head in 0..heads.key_value {
                queries.attend(head, output, width, head * group_width);
            }
        };
        if work < WORTH_A_THREAD {
            tasks.into_iter().for_each(|task| attend(0, task));
        } else {
            team::tasks(tasks.into_iter(), attend);
        }
        attend_singles(heads, singles);
        output
    }
}

/// Attends with single tokens, of which each sees many: first the scores of their pages are shared by all threads, then
/// the dimensions of what is mixed.
fn attend_singles(heads: Heads, singles: Vec<(Queries<'_>, &mut [f32])>) {
    /// Pages that one part scores.
    const PAGES_PER_PART: usize = 8;
    /// Blocks of dimensions that one part mixes.
    const BLOCKS_PER_PART: usize = 2;

    let group = heads.group();
    let blocks = heads.head_dim.div_ceil(LANES);
    let empty = |length: usize| vec![[0.0; LANES]; heads.key_value * length * group];
    let mut scores: Vec<_> = singles.iter().map(|(queries, _)| empty(queries.seen_pages().len())).collect();
    let parts = singles.iter().zip(&mut scores).flat_map(|((queries, _), scores)| {
        let seen = queries.seen_pages();
        let of_heads = scores.chunks_exact_mut(seen.len() * group).enumerate();
        of_heads.flat_map(move |(head, scores)| {
            let firsts = seen.clone().step_by(PAGES_PER_PART);
            firsts.zip(scores.chunks_mut(PAGES_PER_PART * group)).map(move |part| (queries, head, part))
        })
    });
    team::tasks(parts, |_, (queries, head, (first, scores))| {
        queries.score(head, first..first + scores.len() / group, scores);
    });

    let mut mixed: Vec<_> = singles.iter().map(|_| empty(blocks)).collect();
    let parts = singles.iter().zip(&scores).zip(&mut mixed).flat_map(|(((queries, _), scores), mixed)| {
        let of_heads = scores.chunks_exact(queries.seen_pages().len() * group).enumerate();
        of_heads.zip(mixed.chunks_exact_mut(blocks * group)).flat_map(move |((head, scores), mixed)| {
            let firsts = (0..blocks).step_by(BLOCKS_PER_PART);
            firsts
                .zip(mixed.chunks_mut(BLOCKS_PER_PART * group))
                .map(move |part| (queries, head, scores, part))
        })
    });
    team::tasks(parts, |_, (queries, head, scores, (first, mixed))| {
        queries.mix(head, scores, first..first + mixed.len() / group, mixed);
    });

    for ((_, output), mixed) in singles.into_iter().zip(&mixed) {
        for (query, output) in output.chunks_exact_mut(heads.head_dim).enumerate() {
            let (head, member) = (query / group, query % group);
            let own = mixed[head * blocks * group..].iter().skip(member).step_by(group);
            for (output, mixed) in output.chunks_mut(LANES).zip(own) {
                output.copy_from_slice(&mixed[..output.len()]);
            }
        }
    }
}

/// The rows of a matrix that adapters correct.
struct Spans {
    rows: usize,
    adapted: Vec<(Range<usize>, Arc<HostAdapter>)>,
}

impl Spans {
    /// Of a matrix that holds some rows of every input, end to end.
    fn new(inputs: &[Input<'_>], rows: impl Fn(&Input<'_>) -> usize) -> Self {
        let mut spans = Self { rows: 0, adapted: Vec::new() };
        for input in inputs {
            let first = spans.rows;
            spans.rows += rows(input);
            if let Some(adapter) = &input.sequence.adapter {
                spans.adapted.push((first..spans.rows, Arc::clone(adapter)));
            }
        }
        spans
    }

    /// Adds to the product of some rows what the adapters correct in one projection of a block.
    fn correct(
        &self,
        layer: usize,
        projection: impl Fn(&PerProjection<Option<HostCorrection>>) -> Option<&HostCorrection>,
        rows: &[f32],
        product: &mut [f32],
    ) {
        for (own, adapter) in &self.adapted {
            if let Some(correction) = projection(&adapter.blocks[layer]) {
                let [inputs, outputs] = [rows.len(), product.len()].map(|numbers| numbers / self.rows);
                let product = &mut product[own.start * outputs..own.end * outputs];
                correction.add(&rows[own.start * inputs..own.end * inputs], product);
            }
        }
    }
}

/// Returns the rotations of the tokens that are fed to every sequence.
fn tables(rope: &Rope, inputs: &[Input<'_>]) -> Vec<Arc<RopeTable>> {
    let range = |input: &Input<'_>| {
        let first = input.sequence.token_ids.len();
        first..first + input.token_ids.len()
    };
    inputs.iter().map(|input| rope.table(range(input))).collect()
}

/// Lists the wanted rows of tokens that lie end to end.
fn wanted_rows(inputs: &[Input<'_>]) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut end = 0;
    for input in inputs {
        end += input.token_ids.len();
        rows.extend((end - input.wanted..end).map(|row| row as u32));
    }
    rows
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
