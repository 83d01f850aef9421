//! Causal grouped-query attention over sequences that lie one after another, with the rotary embedding inside, and
//! its derivative.
//!
//! A task is one sequence and one key-value head with the query heads that share it. The forward pass holds the
//! scores of six queries at a time; the backward pass computes the probabilities again instead of storing them, one
//! head's `[tokens, tokens]` at a time, so the memory kept between the passes grows with the tokens only.
//!
//! Source: Vaswani et al., "Attention Is All You Need", 2017; Ainslie et al., "GQA", 2023; recomputation in the
//! backward pass as in Dao et al., "FlashAttention", 2022.

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

    fn key_column(self, key_value_head: usize) -> usize {
        (self.query + key_value_head) * self.head_dim
    }

    fn value_column(self, key_value_head: usize) -> usize {
        (self.query + self.key_value + key_value_head) * self.head_dim
    }
}

/// Attends within every sequence.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`: all query heads, all key heads, all value heads. `offsets` holds the first token of
/// every sequence and, last, the number of tokens; positions count from 0 in each. Returns `[tokens, output_width]`.
pub(crate) fn forward(qkv: &[f32], heads: Heads, offsets: &[usize], rope: &RopeTable) -> Vec<f32> {
    let group_width = heads.group() * heads.head_dim;
    let parts = for_each_group(heads, offsets, |sequence, head| {
        let mut output = vec![0.0; (sequence.len()) * group_width];
        let rows = &qkv[sequence.start * heads.qkv_width()..sequence.end * heads.qkv_width()];
        forward_group(rows, heads, head, rope, &mut output);
        output
    });
    let mut output = vec![0.0; qkv.len() / heads.qkv_width() * heads.output_width()];
    place(&parts, heads.key_value, offsets, heads.output_width(), &mut output, |head| {
        vec![(0, head * group_width, group_width)]
    });
    output
}

/// Computes the gradient of `qkv` from that of the result.
pub(crate) fn backward(
    qkv: &[f32],
    heads: Heads,
    offsets: &[usize],
    rope: &RopeTable,
    gradient: &[f32],
) -> Vec<f32> {
    let (dim, group_width) = (heads.head_dim, heads.group() * heads.head_dim);
    let parts = for_each_group(heads, offsets, |sequence, head| {
        let mut output = vec![0.0; sequence.len() * (group_width + 2 * dim)];
        let rows = &qkv[sequence.start * heads.qkv_width()..sequence.end * heads.qkv_width()];
        let gradient = &gradient[sequence.start * heads.output_width()..sequence.end * heads.output_width()];
        backward_group(rows, gradient, heads, head, rope, &mut output);
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
    heads: Heads,
    offsets: &[usize],
    work: impl Fn(std::ops::Range<usize>, usize) -> Vec<f32> + Sync,
) -> Vec<Vec<f32>> {
    let tasks = (offsets.len() - 1) * heads.key_value;
    (0..tasks)
        .into_par_iter()
        .map(|task| {
            let (sequence, head) = (task / heads.key_value, task % heads.key_value);
            work(offsets[sequence]..offsets[sequence + 1], head)
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

/// Multiplies a strip of rows with the panels that cover `columns` columns.
#[inline(always)]
fn strip_times_panels(
    strip: &[LeftStrip],
    panels: &[RightPanel],
    inner: usize,
    columns: usize,
    output: &mut [f32],
) {
    let width = output.len() / ROWS;
    for (panel, column) in panels.chunks_exact(inner).zip((0..columns).step_by(LANES)) {
        store(&tile(strip, panel), output, width, 0, column);
    }
}

/// Computes the probabilities of `ROWS` queries, the first of which stands at `first`; future keys get zero.
#[inline(always)]
fn probabilities(
    strip: &[LeftStrip],
    key_panels: &[RightPanel],
    first: usize,
    tokens: usize,
    rows: &mut [f32],
) {
    let width = rows.len() / ROWS;
    let seen = tokens.min(first + ROWS);
    strip_times_panels(strip, key_panels, strip.len(), seen, rows);
    for (row, scores) in rows.chunks_exact_mut(width).enumerate() {
        let visible = (first + row + 1).min(tokens);
        softmax(&mut scores[..visible]);
        scores[visible..].fill(0.0);
    }
}

vectorised! {
    fn forward_group(rows: &[f32], heads: Heads, key_value_head: usize, rope: &RopeTable, output: &mut [f32]) {
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
                probabilities(strip, &key_panels, first, tokens, &mut scores);
                let seen = tokens.min(first + ROWS);
                let weights = pack::<ROWS>(&scores, ROWS, seen, Strides { row: padded, inner: 1 });
                for (panel, column) in value_panels.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
                    let sums = tile(&weights, &panel[..seen]);
                    let columns = (dim - column).min(LANES);
                    for (row, sums) in sums.iter().enumerate().take(seen - first) {
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
        heads: Heads,
        key_value_head: usize,
        rope: &RopeTable,
        output: &mut [f32],
    ) {
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
                let seen = tokens.min(first + ROWS);
                let p = &mut p[first * padded..(first + ROWS) * padded];
                let ds = &mut ds[first * padded..(first + ROWS) * padded];
                probabilities(&q_strips[strip.clone()], &key_panels, first, tokens, p);
                strip_times_panels(&g_strips[strip], &value_panels, dim, seen, ds);
                for (p, ds) in p.chunks_exact(padded).zip(ds.chunks_exact_mut(padded)) {
                    let seen = seen.next_multiple_of(LANES);
                    let mean = dot(&p[..seen], &ds[..seen]);
                    for (p, ds) in p[..seen].iter().zip(&mut ds[..seen]) {
                        *ds = p * (*ds - mean);
                    }
                }
                let weights = pack::<ROWS>(ds, ROWS, seen, Strides { row: padded, inner: 1 });
                for (panel, column) in key_panels_by_dim.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
                    store(&tile(&weights, &panel[..seen]), &mut dq, dim, first, column);
                }
            }
            let q_panels = pack::<LANES>(&q, dim, tokens, by_dim);
            let g_panels = pack::<LANES>(&g, dim, tokens, by_dim);
            add_transposed_product(&ds, padded, &q_panels, tokens, &mut dk);
            add_transposed_product(&p, padded, &g_panels, tokens, &mut dv);

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

/// Adds `matrix^T x right` to `output`, where row `i` of the lower-triangular `matrix` is zero beyond column `i`.
#[inline(always)]
fn add_transposed_product(
    matrix: &[f32],
    padded: usize,
    panels: &[RightPanel],
    tokens: usize,
    output: &mut [f32],
) {
    let dim = output.len() / tokens;
    for first in (0..tokens).step_by(ROWS) {
        // Queries before `first` do not see these keys, so the inner dimension starts there.
        let inner = tokens - first;
        let columns = (tokens - first).min(ROWS);
        let transposed = Strides { row: 1, inner: padded };
        let strip = pack::<ROWS>(&matrix[first * padded + first..], columns, inner, transposed);
        for (panel, column) in panels.chunks_exact(tokens).zip((0..dim).step_by(LANES)) {
            let sums = tile(&strip, &panel[first..]);
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
