//! The backward pass: probabilities computed again, pair of blocks by pair of blocks.
//!
//! With probabilities `p` and gradients `dp` of a query's probabilities, the scores' gradients are
//! `p * (dp - sum(p * dp))`, and that sum equals the product of the result with its gradient, which is known before.

use std::ops::Range;

use rayon::prelude::*;

use super::super::panel::{LeftStrip, ROWS, RightPanel, tile, tile_columns, tile_rows};
use super::super::rope::RopeTable;
use super::super::simd::{LANES, dot, exp, vectorised};
use super::Attention;
use super::blocks::{BLOCK, Group, Sums, map_groups, panels, panels_by_token, places, split_blocks, strips};

use super::schedule::Schedule;

/// Computes the gradient of `qkv` from that of the result.
pub(crate) fn backward(qkv: &[f32], attention: &Attention, forward: Saved<'_>, gradient: &[f32]) -> Vec<f32> {
    let heads = attention.heads;
    let groups: Vec<Vec<Gradients>> =
        map_groups(attention, |group| group_gradients(qkv, group, forward, gradient));
    let mut output = vec![0.0; qkv.len()];
    places(attention).into_par_iter().zip(split_blocks(attention, &mut output, heads.qkv_width())).for_each(
        |((sequence, block), rows)| {
            let groups = &groups[sequence * heads.key_value..(sequence + 1) * heads.key_value];
            for (head, group) in groups.iter().enumerate() {
                write_gradients(
                    &group[block],
                    attention,
                    head,
                    &attention.rope[sequence],
                    block * BLOCK,
                    rows,
                );
            }
        },
    );
    output
}

/// What the forward pass left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saved<'a> {
    /// [`Forward::output`]
    pub(crate) output: &'a [f32],
    /// [`Forward::log_sums`]
    pub(crate) log_sums: &'a [f32],
}

/// One query head of a block.
struct Queries {
    /// Left operand of the scores.
    queries: Vec<LeftStrip>,
    /// Right operand of the keys' gradients.
    queries_by_token: Vec<RightPanel>,
    /// Left operand of the probabilities' gradients.
    gradients: Vec<LeftStrip>,
    /// Right operand of the values' gradients.
    gradients_by_token: Vec<RightPanel>,
    log_sums: Vec<f32>,
    /// For every query `sum(p * dp)`.
    means: Vec<f32>,
}

/// The keys and values of a block.
struct Keys {
    block: Range<usize>,
    /// Right operand of the scores.
    keys: Vec<RightPanel>,
    /// Right operand of the queries' gradients.
    keys_by_token: Vec<RightPanel>,
    /// Right operand of the probabilities' gradients.
    values: Vec<RightPanel>,
}

/// The gradients of a block: one for every query head of the group, and those of key and value.
struct Gradients {
    queries: Vec<Sums>,
    key: Sums,
    value: Sums,
}

/// Computes the gradients of a group, block by block.
fn group_gradients(qkv: &[f32], group: &Group<'_>, forward: Saved<'_>, gradient: &[f32]) -> Vec<Gradients> {
    let (attention, dim) = (group.attention, group.attention.heads.head_dim);
    let keys = group.map_blocks(|block| pack_keys(qkv, group, block));
    let queries = group.map_blocks(|block| pack_queries(qkv, group, forward, gradient, block));
    let tokens = || keys.iter().map(|keys| keys.block.len());
    let mut to_queries: Vec<Vec<Sums>> =
        tokens().map(|tokens| group.members().map(|_| Sums::new(tokens, dim)).collect()).collect();
    let mut to_keys: Vec<[Sums; 2]> =
        tokens().map(|tokens| [(); 2].map(|()| Sums::new(tokens, dim))).collect();

    let schedule = Schedule::new(keys.len(), attention.window);
    for round in schedule.rounds() {
        let mut free_queries: Vec<_> = to_queries.iter_mut().map(Some).collect();
        let mut free_keys: Vec<_> = to_keys.iter_mut().map(Some).collect();
        let pairs: Vec<_> = schedule
            .pairs(round)
            .map(|(query, key)| {
                let to_queries = free_queries[query].take().expect("a round names a block of queries once");
                let to_keys = free_keys[key].take().expect("a round names a block of keys once");
                (query, key, to_queries, to_keys)
            })
            .collect();
        pairs.into_par_iter().with_max_len(1).for_each(|(query, key, to_queries, to_keys)| {
            add_pair(&queries[query], query * BLOCK, &keys[key], attention, to_queries, to_keys);
        });
    }
    to_queries
        .into_iter()
        .zip(to_keys)
        .map(|(queries, [key, value])| Gradients { queries, key, value })
        .collect()
}

vectorised! {
    fn pack_keys(qkv: &[f32], group: &Group<'_>, block: Range<usize>) -> Keys {
        let dim = group.attention.heads.head_dim;
        let keys = group.keys(qkv, &block);
        let values = panels(&group.values(qkv, &block), dim);
        Keys { block, keys: panels(&keys, dim), keys_by_token: panels_by_token(&keys, dim), values }
    }
}

vectorised! {
    fn pack_queries(
        qkv: &[f32],
        group: &Group<'_>,
        forward: Saved<'_>,
        gradient: &[f32],
        block: Range<usize>,
    ) -> Vec<Queries> {
        let heads = group.attention.heads;
        let (dim, width) = (heads.head_dim, heads.output_width());
        let padded = block.len().next_multiple_of(ROWS);
        let mut packed = Vec::with_capacity(group.members().len());
        for member in group.members() {
            let queries = group.queries(qkv, member, &block);
            let gradients = group.head(gradient, width, member * dim, &block);
            let (mut log_sums, mut means) = (vec![0.0; padded], vec![0.0; padded]);
            for (token, row) in (group.tokens.start + block.start..group.tokens.start + block.end).enumerate() {
                log_sums[token] = forward.log_sums[row * heads.query + member];
                let output = &forward.output[row * width + member * dim..][..dim];
                means[token] = dot(output, &gradients[token * dim..(token + 1) * dim]);
            }
            packed.push(Queries {
                queries: strips(&queries, dim),
                queries_by_token: panels_by_token(&queries, dim),
                gradients: strips(&gradients, dim),
                gradients_by_token: panels_by_token(&gradients, dim),
                log_sums,
                means,
            });
        }
        packed
    }
}

vectorised! {
    /// Adds what a block of queries, the first at `position`, and a block of keys give to each other's gradients.
    fn add_pair(
        queries: &[Queries],
        position: usize,
        keys: &Keys,
        attention: &Attention,
        to_queries: &mut [Sums],
        to_keys: &mut [Sums; 2],
    ) {
        let dim = attention.heads.head_dim;
        let tokens = keys.block.len();
        let rows = queries[0].log_sums.len();
        // Probabilities and gradients of scores: queries down, keys across.
        let (mut p, mut ds) = (vec![[0.0; BLOCK]; rows], vec![[0.0; BLOCK]; rows]);
        for (queries, to_queries) in queries.iter().zip(to_queries) {
            let strips = p.as_chunks_mut::<ROWS>().0.iter_mut().zip(ds.as_chunks_mut::<ROWS>().0);
            for ((p, ds), first) in strips.zip((0..).step_by(ROWS)) {
                let seen = differentiate_scores(queries, first, position, keys, attention, p, ds);
                let panels = keys.keys_by_token.chunks_exact(tokens);
                for (sums, panel) in to_queries.strip(first).zip(panels) {
                    add(sums, tile_rows(ds, seen.clone(), &panel[seen.clone()]));
                }
            }
            let [to_key, to_value] = &mut *to_keys;
            let count = queries.queries_by_token.len() / dim.div_ceil(LANES);
            let block = position..position + count;
            for first in (0..tokens).step_by(ROWS) {
                let seeing = attention.seeing_strip(&block, keys.block.start + first);
                for (weights, panels, sums) in [
                    (&ds, &queries.queries_by_token, &mut *to_key),
                    (&p, &queries.gradients_by_token, &mut *to_value),
                ] {
                    for (sums, panel) in sums.strip(first).zip(panels.chunks_exact(count)) {
                        add(sums, tile_columns(&weights[seeing.clone()], first, &panel[seeing.clone()]));
                    }
                }
            }
        }
    }
}

/// Computes the probabilities of `ROWS` queries, the first of which is `first` in its block, and the gradients of
/// their scores; where a query sees no key both are zero. Returns the keys that some of them see.
#[inline(always)]
fn differentiate_scores(
    queries: &Queries,
    first: usize,
    position: usize,
    keys: &Keys,
    attention: &Attention,
    p: &mut [[f32; BLOCK]; ROWS],
    ds: &mut [[f32; BLOCK]; ROWS],
) -> Range<usize> {
    let dim = attention.heads.head_dim;
    let seen = attention.visible_to_strip(&keys.block, position + first);
    let strip = first / ROWS * dim..(first / ROWS + 1) * dim;
    let (query, gradient) = (&queries.queries[strip.clone()], &queries.gradients[strip]);
    let log_sums = &queries.log_sums[first..first + ROWS];
    let means = &queries.means[first..first + ROWS];
    let panels = keys.keys.chunks_exact(dim).zip(keys.values.chunks_exact(dim)).zip((0..).step_by(LANES));
    let covered = seen.start / LANES..seen.end.div_ceil(LANES);
    for ((key, value), column) in panels.take(covered.end).skip(covered.start) {
        let (scores, to_p) = (tile(query, key), tile(gradient, value));
        for row in 0..ROWS {
            let lanes = column..column + LANES;
            let (p, ds) = (&mut p[row][lanes.clone()], &mut ds[row][lanes]);
            for lane in 0..LANES {
                p[lane] = exp(scores[row][lane] - log_sums[row]);
                ds[lane] = p[lane] * (to_p[row][lane] - means[row]);
            }
        }
    }
    for (row, (p, ds)) in p.iter_mut().zip(ds).enumerate() {
        let visible = attention.visible_in(&keys.block, position + first + row);
        for row in [p, ds] {
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
        }
    }
    seen
}

/// Adds a tile to sums.
#[inline(always)]
fn add(sums: &mut [RightPanel; ROWS], tile: [RightPanel; ROWS]) {
    for row in 0..ROWS {
        for lane in 0..LANES {
            sums[row][lane] += tile[row][lane];
        }
    }
}

vectorised! {
    /// Writes a group's part of a block's rows, the first of which stands at `position`.
    fn write_gradients(
        gradients: &Gradients,
        attention: &Attention,
        key_value_head: usize,
        rope: &RopeTable,
        position: usize,
        rows: &mut [f32],
    ) {
        let heads = attention.heads;
        let (dim, group) = (heads.head_dim, heads.group());
        for (token, row) in rows.chunks_exact_mut(heads.qkv_width()).enumerate() {
            let members = row[key_value_head * group * dim..].chunks_exact_mut(dim);
            for (sums, query) in gradients.queries.iter().zip(members) {
                sums.write(token, query);
                rope.rotate_back(query, position + token, heads.scale());
            }
            let key = &mut row[heads.key_column(key_value_head)..][..dim];
            gradients.key.write(token, key);
            rope.rotate_back(key, position + token, 1.0);
            gradients.value.write(token, &mut row[heads.value_column(key_value_head)..][..dim]);
        }
    }
}
