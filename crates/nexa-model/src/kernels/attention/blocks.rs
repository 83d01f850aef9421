//! Blocks of tokens: how sequences are cut into them, how a head's rows come to them and go back.

use std::ops::Range;

use rayon::prelude::*;

use super::super::panel::{LeftStrip, ROWS, RightPanel, Strides, pack, pack_columns};
use super::super::rope::RopeTable;
use super::super::simd::LANES;
use super::Attention;

/// Tokens of a block: a multiple of both edges of a tile. The operands and the scores of a pair of blocks stay in the
/// second-level cache, and a pair is work enough for a task of its own.
pub(crate) const BLOCK: usize = 96;

/// A key-value head of a sequence, with the query heads that share it.
pub(super) struct Group<'a> {
    pub(super) attention: &'a Attention,
    pub(super) rope: &'a RopeTable,
    /// The sequence's rows of the whole matrix.
    pub(super) tokens: Range<usize>,
    pub(super) key_value_head: usize,
}

impl Group<'_> {
    /// Runs `work` for every block of the sequence, given by positions; the results stand in the blocks' order.
    pub(super) fn map_blocks<T: Send>(&self, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
        let tokens = self.tokens.len();
        let block = |index: usize| index * BLOCK..tokens.min((index + 1) * BLOCK);
        match tokens.div_ceil(BLOCK) {
            // Most sequences are short: they cost no task beyond their own.
            1 => vec![work(block(0))],
            blocks => (0..blocks).into_par_iter().with_max_len(1).map(|index| work(block(index))).collect(),
        }
    }

    /// Returns the query heads, counted over all groups.
    pub(super) fn members(&self) -> Range<usize> {
        let group = self.attention.heads.group();
        self.key_value_head * group..(self.key_value_head + 1) * group
    }

    /// Copies a head of a block out of rows of `width` numbers, which begin at `column`.
    #[inline(always)]
    pub(super) fn head(&self, rows: &[f32], width: usize, column: usize, block: &Range<usize>) -> Vec<f32> {
        let dim = self.attention.heads.head_dim;
        let mut head = Vec::with_capacity(block.len() * dim);
        let rows = &rows[(self.tokens.start + block.start) * width..(self.tokens.start + block.end) * width];
        for row in rows.chunks_exact(width) {
            head.extend_from_slice(&row[column..column + dim]);
        }
        head
    }

    /// Copies the rotated keys of a block.
    #[inline(always)]
    pub(super) fn keys(&self, qkv: &[f32], block: &Range<usize>) -> Vec<f32> {
        self.rotated(qkv, self.attention.heads.key_column(self.key_value_head), block, 1.0)
    }

    /// Copies the values of a block.
    #[inline(always)]
    pub(super) fn values(&self, qkv: &[f32], block: &Range<usize>) -> Vec<f32> {
        let heads = self.attention.heads;
        self.head(qkv, heads.qkv_width(), heads.value_column(self.key_value_head), block)
    }

    /// Copies the rotated and scaled queries of a block.
    #[inline(always)]
    pub(super) fn queries(&self, qkv: &[f32], member: usize, block: &Range<usize>) -> Vec<f32> {
        let heads = self.attention.heads;
        self.rotated(qkv, member * heads.head_dim, block, heads.scale())
    }

    #[inline(always)]
    fn rotated(&self, qkv: &[f32], column: usize, block: &Range<usize>, scale: f32) -> Vec<f32> {
        let heads = self.attention.heads;
        let mut head = self.head(qkv, heads.qkv_width(), column, block);
        for (position, head) in block.clone().zip(head.chunks_exact_mut(heads.head_dim)) {
            self.rope.rotate(head, position, scale);
        }
        head
    }
}

/// Runs `work` for every sequence and every key-value head; the results stand in that order.
pub(super) fn map_groups<T: Send>(attention: &Attention, work: impl Fn(&Group<'_>) -> T + Sync) -> Vec<T> {
    let (key_value, offsets) = (attention.heads.key_value, &attention.offsets);
    (0..(offsets.len() - 1) * key_value)
        .into_par_iter()
        .map(|index| {
            let (sequence, key_value_head) = (index / key_value, index % key_value);
            let tokens = offsets[sequence]..offsets[sequence + 1];
            work(&Group { attention, rope: &attention.rope[sequence], tokens, key_value_head })
        })
        .collect()
}

/// Lists sequence and number of every block, in the order of the rows.
pub(super) fn places(attention: &Attention) -> Vec<(usize, usize)> {
    let bounds = attention.offsets.windows(2).enumerate();
    bounds
        .flat_map(|(sequence, bounds)| {
            (0..(bounds[1] - bounds[0]).div_ceil(BLOCK)).map(move |block| (sequence, block))
        })
        .collect()
}

/// Cuts rows of `width` numbers into the blocks that [`places`] lists.
pub(super) fn split_blocks<'a>(
    attention: &Attention,
    mut rows: &'a mut [f32],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut blocks = Vec::new();
    for bounds in attention.offsets.windows(2) {
        let (sequence, rest) = rows.split_at_mut((bounds[1] - bounds[0]) * width);
        blocks.extend(sequence.chunks_mut(BLOCK * width));
        rows = rest;
    }
    blocks
}

/// Packs the rows of a block's head as left operand of a product over its dimensions.
#[inline(always)]
pub(super) fn strips(head: &[f32], dim: usize) -> Vec<LeftStrip> {
    pack::<ROWS>(head, head.len() / dim, dim, Strides { row: dim, inner: 1 })
}

/// Packs the rows of a block's head as right operand of a product over its dimensions.
#[inline(always)]
pub(super) fn panels(head: &[f32], dim: usize) -> Vec<RightPanel> {
    pack::<LANES>(head, head.len() / dim, dim, Strides { row: dim, inner: 1 })
}

/// Packs the rows of a block's head as right operand of a product over its tokens.
#[inline(always)]
pub(super) fn panels_by_token(head: &[f32], dim: usize) -> Vec<RightPanel> {
    pack_columns(head, dim)
}

/// Sums for one head of a block, in panels of `LANES` dimensions.
pub(super) struct Sums {
    panels: Vec<RightPanel>,
    /// The block's tokens and what a last tile writes past them.
    rows: usize,
}

impl Sums {
    pub(super) fn new(tokens: usize, dim: usize) -> Self {
        let rows = tokens.next_multiple_of(ROWS);
        Self { panels: vec![[0.0; LANES]; dim.div_ceil(LANES) * rows], rows }
    }

    /// Iterates over the panels of `ROWS` tokens.
    #[inline(always)]
    pub(super) fn strip(&mut self, first: usize) -> impl Iterator<Item = &mut [RightPanel; ROWS]> {
        let panels = self.panels.chunks_exact_mut(self.rows);
        panels.map(move |panel| panel[first..].first_chunk_mut().expect("the rows are whole strips"))
    }

    /// Writes a token's numbers.
    #[inline(always)]
    pub(super) fn write(&self, token: usize, output: &mut [f32]) {
        let (whole, rest) = output.as_chunks_mut::<LANES>();
        let mut panels = self.panels.chunks_exact(self.rows);
        for (output, panel) in whole.iter_mut().zip(panels.by_ref()) {
            *output = panel[token];
        }
        if let Some(panel) = panels.next() {
            rest.copy_from_slice(&panel[token][..rest.len()]);
        }
    }
}
