//! Keys and values of one layer of one sequence, and attention of new tokens over them.
//!
//! They are stored as the panels that [`super::panel::tile`] multiplies with, so that nothing is packed again when a
//! token comes. A query's scores, their softmax and the mix of the values depend on that query and on the tokens
//! before it alone, whatever stands in the same step.

use std::ops::Range;

use super::attention::{Heads, visible};
use super::panel::{RightPanel, Strides, pack, store, tile};
use super::rope::RopeTable;
use super::simd::{LANES, softmax, vectorised};

/// The keys and values of one key-value head.
#[derive(Debug, Clone, Default)]
struct HeadCache {
    /// For every block of `LANES` tokens, `head_dim` vectors that hold one dimension of them all.
    keys: Vec<RightPanel>,
    /// For every block of `LANES` dimensions, one vector a token.
    values: Vec<Vec<RightPanel>>,
}

/// The keys and values of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    heads: Vec<HeadCache>,
    tokens: usize,
}

impl LayerCache {
    /// Makes an empty cache.
    pub(crate) fn new(heads: Heads) -> Self {
        let panels = heads.head_dim.div_ceil(LANES);
        let head = HeadCache { keys: Vec::new(), values: vec![Vec::new(); panels] };
        Self { heads: vec![head; heads.key_value], tokens: 0 }
    }

    /// Appends the keys and values of new tokens and attends from each of them to the tokens that it sees: `window` of
    /// them, itself included, or all.
    ///
    /// # Shapes
    /// `qkv` is `[new tokens, qkv_width]`, `output` is `[new tokens, heads * head_dim]`.
    pub(crate) fn attend(
        &mut self,
        qkv: &mut [f32],
        heads: Heads,
        rope: &RopeTable,
        window: Option<usize>,
        output: &mut [f32],
    ) {
        let first = self.tokens;
        for row in qkv.chunks_exact_mut(heads.qkv_width()) {
            self.push(row, heads, rope);
        }
        let rows = qkv.chunks_exact(heads.qkv_width()).zip(output.chunks_exact_mut(heads.output_width()));
        for (index, (row, output)) in rows.enumerate() {
            let group_width = heads.group() * heads.head_dim;
            let queries = row.chunks_exact(group_width).zip(output.chunks_exact_mut(group_width));
            for (head, (queries, output)) in self.heads.iter().zip(queries) {
                attend_group(queries, head, heads.head_dim, visible(first + index, window), output);
            }
        }
    }

    /// Rotates the queries and keys of a token in place and stores the keys and values.
    fn push(&mut self, row: &mut [f32], heads: Heads, rope: &RopeTable) {
        let dim = heads.head_dim;
        let (queries, rest) = row.split_at_mut(heads.query * dim);
        let (keys, values) = rest.split_at_mut(heads.key_value * dim);
        for query in queries.chunks_exact_mut(dim) {
            rope.rotate(query, self.tokens, heads.scale());
        }
        let lane = self.tokens % LANES;
        let pairs = keys.chunks_exact_mut(dim).zip(values.chunks_exact(dim));
        for (head, (key, value)) in self.heads.iter_mut().zip(pairs) {
            rope.rotate(key, self.tokens, 1.0);
            if lane == 0 {
                head.keys.resize(head.keys.len() + dim, [0.0; LANES]);
            }
            let block = head.keys.len() - dim;
            for (panel, key) in head.keys[block..].iter_mut().zip(key) {
                panel[lane] = *key;
            }
            for (panel, value) in head.values.iter_mut().zip(value.chunks(LANES)) {
                let mut entry = [0.0; LANES];
                entry[..value.len()].copy_from_slice(value);
                panel.push(entry);
            }
        }
        self.tokens += 1;
    }
}

vectorised! {
    /// Attends from the queries that share a key-value head to some of its tokens.
    fn attend_group(queries: &[f32], cache: &HeadCache, dim: usize, seen: Range<usize>, output: &mut [f32]) {
        let mut rest = queries.chunks_exact(4 * dim);
        let mut rest_output = output.chunks_exact_mut(4 * dim);
        for (queries, output) in rest.by_ref().zip(rest_output.by_ref()) {
            attend_some::<4>(queries, cache, dim, seen.clone(), output);
        }
        let output = rest_output.into_remainder();
        match rest.remainder().len() / dim {
            0 => {}
            1 => attend_some::<1>(rest.remainder(), cache, dim, seen, output),
            2 => attend_some::<2>(rest.remainder(), cache, dim, seen, output),
            _ => attend_some::<3>(rest.remainder(), cache, dim, seen, output),
        }
    }
}

#[inline(always)]
fn attend_some<const R: usize>(
    queries: &[f32],
    cache: &HeadCache,
    dim: usize,
    seen: Range<usize>,
    output: &mut [f32],
) {
    // Scores begin with the panel that holds the first token seen.
    let base = seen.start - seen.start % LANES;
    let visible = seen.start - base..seen.end - base;
    let padded = visible.end.next_multiple_of(LANES);
    let strip = pack::<R>(queries, R, dim, Strides { row: dim, inner: 1 });
    let mut scores = vec![0.0; R * padded];
    let panels = cache.keys[base / LANES * dim..].chunks_exact(dim);
    for (panel, column) in panels.zip((0..visible.end).step_by(LANES)) {
        store(&tile(&strip, panel), &mut scores, padded, 0, column);
    }
    for row in scores.chunks_exact_mut(padded) {
        row[..visible.start].fill(0.0);
        softmax(&mut row[visible.clone()]);
    }
    let weights = pack::<R>(&scores, R, visible.end, Strides { row: padded, inner: 1 });
    for (panel, column) in cache.values.iter().zip((0..dim).step_by(LANES)) {
        store(&tile(&weights, &panel[base..seen.end]), output, dim, 0, column);
    }
}
