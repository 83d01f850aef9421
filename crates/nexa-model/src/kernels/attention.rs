//! Causal grouped-query attention over sequences that lie one after another, with the rotary embedding inside and
//! perhaps a sliding window, and its derivative.
//!
//! A task is one sequence and one key-value head with the query heads that share it. The forward pass holds the
//! scores of six queries at a time; the backward pass computes the probabilities again instead of storing them, one
//! head's `[tokens, tokens]` at a time, so the memory kept between the passes grows with the tokens only. Keys that lie
//! outside of the window of all six queries are not computed with at all.
//!
//! Source: Vaswani et al., "Attention Is All You Need", 2017; Ainslie et al., "GQA", 2023; recomputation in the
//! backward pass as in Dao et al., "FlashAttention", 2022.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::panel::{LeftStrip, ROWS, RightPanel, Strides, pack, store, tile};
use super::rope::RopeTable;
use super::simd::{LANES, dot, softmax, vectorised};

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key-value heads; each serves `query / key_value` query heads.
    pub(crate) key_value: usize,
    /// Numbers of one head.
    pub(crate) head_dim: usize,
}

impl Heads {
    /// Returns how many query heads share a key-value head.
    pub(crate) fn group(self) -> usize {
        self.query / self.key_value
    }

    /// Returns the width of queries, keys and values side by side.
    pub(crate) fn qkv_width(self) -> usize {
        (self.query + 2 * self.key_value) * self.head_dim
    }

    /// Returns the width of the attention's result.
    pub(crate) fn output_width(self) -> usize {
        self.query * self.head_dim
    }

    /// Returns what the scores are scaled by.
    pub(crate) fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Returns the columns of all queries.
    pub(crate) fn queries(self) -> Range<usize> {
        0..self.query * self.head_dim
    }

    /// Returns the columns of all keys.
    pub(crate) fn keys(self) -> Range<usize> {
        self.key_column(0)..self.value_column(0)
    }

    fn key_column(self, key_value_head: usize) -> usize {
        (self.query + key_value_head) * self.head_dim
    }

    fn value_column(self, key_value_head: usize) -> usize {
        (self.query + self.key_value + key_value_head) * self.head_dim
    }
}

/// What attention needs to know beside its input.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    /// The heads.
    pub(crate) heads: Heads,
    /// First token of every sequence and, last, the number of tokens. Positions count from 0 in each sequence.
    pub(crate) offsets: Arc<[usize]>,
    /// The rotations of every sequence.
    pub(crate) rope: Arc<[Arc<RopeTable>]>,
    /// How many tokens a token sees, itself included; `None` where it sees all before it.
    pub(crate) window: Option<usize>,
}

impl Attention {
    /// Returns the keys that a query sees.
    #[inline(always)]
    fn visible(&self, query: usize) -> Range<usize> {
        visible(query, self.window)
    }

    /// Returns the keys that some of `ROWS` queries see, the first of which stands at `first`, from the beginning of
    /// a panel on.
    #[inline(always)]
    fn visible_to_strip(&self, first: usize, tokens: usize) -> Range<usize> {
        let start = self.visible(first).start;
        start - start % LANES..tokens.min(first + ROWS)
    }

    /// Returns the queries that see some of `ROWS` keys, the first of which stands at `first`.
    #[inline(always)]
    fn seeing_strip(&self, first: usize, tokens: usize) -> Range<usize> {
        first..self.window.map_or(tokens, |window| tokens.min((first + ROWS - 1).saturating_add(window)))
    }
}

/// Returns the keys that a query sees under a window.
#[inline(always)]
pub(crate) fn visible(query: usize, window: Option<usize>) -> Range<usize> {
    window.map_or(0, |window| (query + 1).saturating_sub(window))..query + 1
}

/// Attends within every sequence.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`: all query heads, all key heads, all value heads. Returns `[tokens, output_width]`.
pub(crate) fn forward(qkv: &[f32], attention: &Attention) -> Vec<f32> {
    let (heads, offsets) = (attention.heads, &attention.offsets);
    let group_width = heads.group() * heads.head_dim;
    let parts = for_each_group(attention, |sequence, head, rope| {
        let mut output = vec![0.0; (sequence.len()) * group_width];
        let rows = &qkv[sequence.start * heads.qkv_width()..sequence.end * heads.qkv_width()];
        forward_group(rows, attention, head, rope, &mut output);
        output
    });
    let mut output = vec![0.0; qkv.len() / heads.qkv_width() * heads.output_width()];
    place(&parts, heads.key_value, offsets, heads.output_width(), &mut output, |head| {
        vec![(0, head * group_width, group_width)]
    });
    output
}

/// Computes the gradient of `qkv` from that of the result.
pub(crate) fn backward(qkv: &[f32], attention: &Attention, gradient: &[f32]) -> Vec<f32> {
    let (heads, offsets) = (attention.heads, &attention.offsets);
    let (dim, group_width) = (heads.head_dim, heads.group() * heads.head_dim);
    let parts = for_each_group(attention, |sequence, head, rope| {
        let mut output = vec![0.0; sequence.len() * (group_width + 2 * dim)];
        let rows = &qkv[sequence.start * heads.qkv_width()..sequence.end * heads.qkv_width()];
        let gradient = &gradient[sequence.start * heads.output_width()..sequence.end * heads.output_width()];
        backward_group(rows, gradient, attention, head, rope, &mut output);
        output
    });
    let mut output = vec![0.0; qkv.len()];
    place(&parts, heads.key_value, offsets, heads.qkv_width(), &mut output, |head| {
        vec![
            (0, head * group_width, group_width),
            (group_width, heads.key_column(head), dim),
            (group_width + dim, heads.value_column(head), dim),
        ]
    });
    output
}

/// Runs `work` for every sequence and key-value head; the results stand in that order.
fn for_each_group(
    attention: &Attention,
    work: impl Fn(Range<usize>, usize, &RopeTable) -> Vec<f32> + Sync,
) -> Vec<Vec<f32>> {
    let (heads, offsets) = (attention.heads, &attention.offsets);
    let tasks = (offsets.len() - 1) * heads.key_value;
    (0..tasks)
        .into_par_iter()
        .map(|task| {
            let (sequence, head) = (task / heads.key_value, task % heads.key_value);
            work(offsets[sequence]..offsets[sequence + 1], head, &attention.rope[sequence])
        })
        .collect()
}

/// Copies the columns that the tasks computed to their places in the rows of `output`.
///
/// `columns` names them for a head: where they start in the part, where in the output, and how many they are.
fn place(
    parts: &[Vec<f32>],
    key_value_heads: usize,
    offsets: &[usize],
    width: usize,
    output: &mut [f32],
    columns: impl Fn(usize) -> Vec<(usize, usize, usize)>,
) {
    for (task, part) in parts.iter().enumerate() {
        let (sequence, head) = (task / key_value_heads, task % key_value_heads);
        let tokens = offsets[sequence + 1] - offsets[sequence];
        let part_width = part.len() / tokens.max(1);
        let rows = &mut output[offsets[sequence] * width..offsets[sequence + 1] * width];
        for (from, to, count) in columns(head) {
            for (row, part) in rows.chunks_exact_mut(width).zip(part.chunks_exact(part_width.max(1))) {
                row[to..to + count].copy_from_slice(&part[from..from + count]);
            }
        }
    }
}

/// Copies one head out of rows of `width` numbers.
#[inline(always)]
fn head_of(rows: &[f32], width: usize, column: usize, dim: usize) -> Vec<f32> {
    let mut head = Vec::with_capacity(rows.len() / width * dim);
    for row in rows.chunks_exact(width) {
        head.extend_from_slice(&row[column..column + dim]);
    }
    head
}

/// Copies one head and rotates it to its positions.
#[inline(always)]
fn rotated_head_of(rows: &[f32], heads: Heads, column: usize, rope: &RopeTable, scale: f32) -> Vec<f32> {
    let mut head = head_of(rows, heads.qkv_width(), column, heads.head_dim);
    for (position, head) in head.chunks_exact_mut(heads.head_dim).enumerate() {
        rope.rotate(head, position, scale);
    }
    head
}

/// Multiplies a strip of rows with the panels that cover some columns, which begin with a panel.
#[inline(always)]
fn strip_times_panels(
    strip: &[LeftStrip],
    panels: &[RightPanel],
    inner: usize,
    columns: Range<usize>,
    output: &mut [f32],
) {
    let width = output.len() / ROWS;
    let panels = panels[columns.start / LANES * inner..].chunks_exact(inner);
    for (panel, column) in panels.zip(columns.step_by(LANES)) {
        store(&tile(strip, panel), output, width, 0, column);
    }
}

/// Computes the probabilities of `ROWS` queries, the first of which stands at `first`, for the keys `seen`; those that
/// a query does not see get zero.
#[inline(always)]
fn probabilities(
    strip: &[LeftStrip],
    key_panels: &[RightPanel],
    attention: &Attention,
    first: usize,
    seen: Range<usize>,
    rows: &mut [f32],
) {
    let width = rows.len() / ROWS;
    strip_times_panels(strip, key_panels, strip.len(), seen.clone(), rows);
    for (row, scores) in rows.chunks_exact_mut(width).enumerate() {
        let visible = attention.visible((first + row).min(seen.end - 1));
        softmax(&mut scores[visible.clone()]);
        scores[seen.start..visible.start].fill(0.0);
        scores[visible.end..seen.end.next_multiple_of(LANES)].fill(0.0);
    }
}

vectorised! {
    fn forward_group(
        rows: &[f32],
        attention: &Attention,
        key_value_head: usize,
        rope: &RopeTable,
        output: &mut [f32],
    ) {
        let heads = attention.heads;
        let (dim, width) = (heads.head_dim, heads.qkv_width());
        let tokens = rows.len() / width;
        let output_width = heads.group() * dim;
        let k = rotated_head_of(rows, heads, heads.key_column(key_value_head), rope, 1.0);
        let v = head_of(rows, width, heads.value_column(key_value_head), dim);
        let key_panels = pack::<LANES>(&k, tokens, dim, Strides { row: dim, inner: 1 });
        let value_panels = pack::<LANES>(&v, dim, tokens, Strides { row: 1, inner: dim });
        let padded = tokens.next_multiple_of(LANES);
        let mut scores = vec![0.0; ROWS * padded];

        for member in 0..heads.group() {
            let column = (key_value_head * heads.group() + member) * dim;
            let q = rotated_head_of(rows, heads, column, rope, heads.scale());
            let strips = pack::<ROWS>(&q, tokens, dim, Strides { row: dim, inner: 1 });
            for (strip, first) in strips.chunks_exact(dim).zip((0..tokens).step_by(ROWS)) {
                let seen = attention.visible_to_strip(first, tokens);
                probabilities(strip, &key_panels, attention, first, seen.clone(), &mut scores);
                let by_row = Strides { row: padded, inner: 1 };
                let weights = pack::<ROWS>(&scores[seen.start..], ROWS, seen.len(), by_row);
                for (panel, column) in value_panels.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
                    let sums = tile(&weights, &panel[seen.clone()]);
                    let columns = (dim - column).min(LANES);
                    for (row, sums) in sums.iter().enumerate().take(seen.end - first) {
                        let start = (first + row) * output_width + member * dim + column;
                        output[start..start + columns].copy_from_slice(&sums[..columns]);
                    }
                }
            }
        }
    }
}

vectorised! {
    /// Writes the gradients of the group's queries, of its key and of its value side by side.
    fn backward_group(
        rows: &[f32],
        gradient: &[f32],
        attention: &Attention,
        key_value_head: usize,
        rope: &RopeTable,
        output: &mut [f32],
    ) {
        let heads = attention.heads;
        let (dim, width) = (heads.head_dim, heads.qkv_width());
        let tokens = rows.len() / width;
        let by_token = Strides { row: dim, inner: 1 };
        let by_dim = Strides { row: 1, inner: dim };
        let k = rotated_head_of(rows, heads, heads.key_column(key_value_head), rope, 1.0);
        let v = head_of(rows, width, heads.value_column(key_value_head), dim);
        let key_panels = pack::<LANES>(&k, tokens, dim, by_token);
        let key_panels_by_dim = pack::<LANES>(&k, dim, tokens, by_dim);
        let value_panels = pack::<LANES>(&v, tokens, dim, by_token);
        let padded = tokens.next_multiple_of(LANES);
        let padded_rows = tokens.next_multiple_of(ROWS);
        // p: probabilities; ds: gradients of the scores.            [tokens, tokens], padded
        let (mut p, mut ds) = (vec![0.0; padded_rows * padded], vec![0.0; padded_rows * padded]);
        let mut dq = vec![0.0; tokens * dim];
        let (mut dk, mut dv) = (vec![0.0; tokens * dim], vec![0.0; tokens * dim]);

        for member in 0..heads.group() {
            let column = (key_value_head * heads.group() + member) * dim;
            let q = rotated_head_of(rows, heads, column, rope, heads.scale());
            let g = head_of(gradient, heads.output_width(), column, dim);
            let q_strips = pack::<ROWS>(&q, tokens, dim, by_token);
            let g_strips = pack::<ROWS>(&g, tokens, dim, by_token);
            for first in (0..tokens).step_by(ROWS) {
                let strip = first / ROWS * dim..(first / ROWS + 1) * dim;
                let seen = attention.visible_to_strip(first, tokens);
                let p = &mut p[first * padded..(first + ROWS) * padded];
                let ds = &mut ds[first * padded..(first + ROWS) * padded];
                probabilities(&q_strips[strip.clone()], &key_panels, attention, first, seen.clone(), p);
                strip_times_panels(&g_strips[strip], &value_panels, dim, seen.clone(), ds);
                for (p, ds) in p.chunks_exact(padded).zip(ds.chunks_exact_mut(padded)) {
                    let whole = seen.start..seen.end.next_multiple_of(LANES);
                    let mean = dot(&p[whole.clone()], &ds[whole.clone()]);
                    for (p, ds) in p[whole.clone()].iter().zip(&mut ds[whole]) {
                        *ds = p * (*ds - mean);
                    }
                }
                let by_row = Strides { row: padded, inner: 1 };
                let weights = pack::<ROWS>(&ds[seen.start..], ROWS, seen.len(), by_row);
                for (panel, column) in key_panels_by_dim.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
                    store(&tile(&weights, &panel[seen.clone()]), &mut dq, dim, first, column);
                }
            }
            let q_panels = pack::<LANES>(&q, dim, tokens, by_dim);
            let g_panels = pack::<LANES>(&g, dim, tokens, by_dim);
            add_transposed_product(&ds, padded, &q_panels, attention, &mut dk);
            add_transposed_product(&p, padded, &g_panels, attention, &mut dv);

            let output_width = (heads.group() + 2) * dim;
            for ((position, dq), output) in
                dq.chunks_exact_mut(dim).enumerate().zip(output.chunks_exact_mut(output_width))
            {
                rope.rotate_back(dq, position, heads.scale());
                output[member * dim..(member + 1) * dim].copy_from_slice(dq);
            }
        }

        let (group, output_width) = (heads.group(), (heads.group() + 2) * dim);
        let keys_and_values = dk.chunks_exact_mut(dim).zip(dv.chunks_exact(dim));
        for ((position, (dk, dv)), output) in
            keys_and_values.enumerate().zip(output.chunks_exact_mut(output_width))
        {
            rope.rotate_back(dk, position, 1.0);
            output[group * dim..(group + 1) * dim].copy_from_slice(dk);
            output[(group + 1) * dim..].copy_from_slice(dv);
        }
    }
}

/// Adds `matrix^T x right` to `output`, where row `i` of `matrix` is zero outside of the keys that query `i` sees.
#[inline(always)]
fn add_transposed_product(
    matrix: &[f32],
    padded: usize,
    panels: &[RightPanel],
    attention: &Attention,
    output: &mut [f32],
) {
    let dim = attention.heads.head_dim;
    let tokens = output.len() / dim;
    for first in (0..tokens).step_by(ROWS) {
        let seeing = attention.seeing_strip(first, tokens);
        let columns = (tokens - first).min(ROWS);
        let transposed = Strides { row: 1, inner: padded };
        let strip = pack::<ROWS>(&matrix[first * padded + first..], columns, seeing.len(), transposed);
        for (panel, column) in panels.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
            let sums = tile(&strip, &panel[seeing.clone()]);
            let width = (dim - column).min(LANES);
            for (row, sums) in sums.iter().enumerate().take(columns) {
                let start = (first + row) * dim + column;
                for (value, sum) in output[start..start + width].iter_mut().zip(sums) {
                    *value += sum;
                }
            }
        }
    }
}
