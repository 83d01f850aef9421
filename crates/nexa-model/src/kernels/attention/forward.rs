//! The forward pass: a softmax over one block of keys after another.
//!
//! Every query keeps the largest score so far and, relative to it, the sum of the exponentials and the mix of the
//! values; a block with a larger score scales both down.
//!
//! Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.

use std::ops::Range;

use rayon::prelude::*;

use super::super::panel::{LeftStrip, ROWS, RightPanel, tile, tile_rows};
use super::super::simd::{LANES, exp, max, sum, vectorised};
use super::blocks::{BLOCK, Group, Sums, map_groups, panels, panels_by_token, places, split_blocks, strips};
use super::{Attention, visible};

/// The result of attention and what its derivative needs of it.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// `[tokens, output_width]`
    pub(crate) output: Vec<f32>,
    /// For every query the logarithm of the sum of its scores' exponentials, `[tokens, query heads]`.
    pub(crate) log_sums: Vec<f32>,
}

/// Attends within every sequence.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`: all query heads, all key heads, all value heads.
pub(crate) fn forward(qkv: &[f32], attention: &Attention) -> Forward {
    let heads = attention.heads;
    let groups: Vec<Vec<Vec<Mix>>> = map_groups(attention, |group| {
        let keys = group.map_blocks(|block| pack_keys(qkv, group, block));
        group.map_blocks(|block| attend(qkv, group, &keys, block))
    });
    let tokens = qkv.len() / heads.qkv_width();
    let mut output = vec![0.0; tokens * heads.output_width()];
    let mut log_sums = vec![0.0; tokens * heads.query];
    places(attention)
        .into_par_iter()
        .zip(split_blocks(attention, &mut output, heads.output_width()))
        .zip(split_blocks(attention, &mut log_sums, heads.query))
        .for_each(|(((sequence, block), output), log_sums)| {
            let groups = &groups[sequence * heads.key_value..(sequence + 1) * heads.key_value];
            for (head, mix) in groups.iter().flat_map(|group| &group[block]).enumerate() {
                let rows = output.chunks_exact_mut(heads.output_width());
                let rows = rows.zip(log_sums.chunks_exact_mut(heads.query));
                for (token, (output, log_sums)) in rows.enumerate() {
                    let output = &mut output[head * heads.head_dim..(head + 1) * heads.head_dim];
                    log_sums[head] = mix.write(token, output);
                }
            }
        });
    Forward { output, log_sums }
}

/// The keys and values of a block.
struct Keys {
    block: Range<usize>,
    /// Right operand of the scores.
    keys: Vec<RightPanel>,
    /// Right operand of the mix.
    values: Vec<RightPanel>,
}

/// What the queries of a block, of one head, have gathered.
struct Mix {
    values: Sums,
    largest: Vec<f32>,
    totals: Vec<f32>,
}

impl Mix {
    /// Writes a token's result and returns the logarithm of its sum.
    fn write(&self, token: usize, output: &mut [f32]) -> f32 {
        self.values.write(token, output);
        let scale = 1.0 / self.totals[token];
        for value in output {
            *value *= scale;
        }
        self.largest[token] + self.totals[token].ln()
    }
}

vectorised! {
    fn pack_keys(qkv: &[f32], group: &Group<'_>, block: Range<usize>) -> Keys {
        let dim = group.attention.heads.head_dim;
        let keys = panels(&group.keys(qkv, &block), dim);
        let values = panels_by_token(&group.values(qkv, &block), dim);
        Keys { block, keys, values }
    }
}

vectorised! {
    /// Attends from a block of queries, for every head of the group.
    fn attend(qkv: &[f32], group: &Group<'_>, keys: &[Keys], block: Range<usize>) -> Vec<Mix> {
        let attention = group.attention;
        let dim = attention.heads.head_dim;
        let seen = visible(block.start, attention.window).start / BLOCK..block.start / BLOCK + 1;
        let padded = block.len().next_multiple_of(ROWS);
        let mut mixes = Vec::with_capacity(group.members().len());
        for member in group.members() {
            let queries = strips(&group.queries(qkv, member, &block), dim);
            let mut mix = Mix {
                values: Sums::new(block.len(), dim),
                largest: vec![f32::NEG_INFINITY; padded],
                totals: vec![0.0; padded],
            };
            for keys in &keys[seen.clone()] {
                for (strip, first) in queries.chunks_exact(dim).zip((0..).step_by(ROWS)) {
                    attend_strip(strip, keys, attention, block.start + first, first, &mut mix);
                }
            }
            mixes.push(mix);
        }
        mixes
    }
}

/// Attends from `ROWS` queries to a block of keys; the first query is `first` in its block.
#[inline(always)]
fn attend_strip(
    strip: &[LeftStrip],
    keys: &Keys,
    attention: &Attention,
    position: usize,
    first: usize,
    mix: &mut Mix,
) {
    let seen = attention.visible_to_strip(&keys.block, position);
    if seen.is_empty() {
        return;
    }
    // Whole panels of keys from the first that is seen on.
    let base = seen.start - seen.start % LANES;
    let width = seen.end.next_multiple_of(LANES);
    let mut scores = [[0.0; BLOCK]; ROWS];
    for (panel, column) in
        keys.keys.chunks_exact(strip.len()).zip((0..width).step_by(LANES)).skip(base / LANES)
    {
        for (scores, sums) in scores.iter_mut().zip(tile(strip, panel)) {
            scores[column..column + LANES].copy_from_slice(&sums);
        }
    }
    let mut factors = [1.0; ROWS];
    for (row, scores) in scores.iter_mut().enumerate() {
        let visible = attention.visible_in(&keys.block, position + row);
        if visible.is_empty() {
            scores[base..width].fill(0.0);
            continue;
        }
        let (largest, total) = (&mut mix.largest[first + row], &mut mix.totals[first + row]);
        let before = *largest;
        *largest = before.max(max(&scores[visible.clone()]));
        for score in &mut scores[base..width] {
            *score = exp(*score - *largest);
        }
        scores[base..visible.start].fill(0.0);
        scores[visible.end..width].fill(0.0);
        factors[row] = exp(before - *largest);
        *total = total.mul_add(factors[row], sum(&scores[base..width]));
    }
    let values = keys.values.chunks_exact(keys.block.len());
    for (sums, panel) in mix.values.strip(first).zip(values) {
        let mixed = tile_rows(&scores, base..seen.end, &panel[base..seen.end]);
        for ((sums, mixed), factor) in sums.iter_mut().zip(mixed).zip(factors) {
            let before = *sums;
            for lane in 0..LANES {
                sums[lane] = before[lane].mul_add(factor, mixed[lane]);
            }
        }
    }
}
