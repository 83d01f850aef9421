//! Causal grouped-query attention over sequences that lie one after another, with the rotary embedding inside and
//! perhaps a sliding window, and its derivative.
//!
//! Both passes walk over pairs of a block of queries and a block of keys and leave out the pairs where no query sees
//! a key, so neither ever holds a `[tokens, tokens]` matrix: what a pair needs beside its operands has the size of a
//! block. The forward pass ([`forward`]) keeps, beside its result, the logarithm of every softmax's sum; the
//! backward pass ([`backward`]) computes the probabilities of a pair again from that. Blocks are counted from the
//! beginning of each sequence, so a sequence's numbers do not depend on its neighbours.
//!
//! Source: Vaswani et al., "Attention Is All You Need", 2017; Ainslie et al., "GQA", 2023; Dao, "FlashAttention-2",
//! 2023.

mod backward;
mod blocks;
mod forward;
mod schedule;

use std::ops::Range;
use std::sync::Arc;

pub(crate) use backward::{Saved, backward};
#[cfg(test)]
pub(crate) use blocks::BLOCK;
pub(crate) use forward::{Forward, forward};

use super::panel::ROWS;
use super::rope::RopeTable;

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
    /// Returns the keys out of a block that a query sees, counted from the block's beginning.
    #[inline(always)]
    fn visible_in(&self, block: &Range<usize>, query: usize) -> Range<usize> {
        let visible = visible(query, self.window);
        let local = |key: usize| key.clamp(block.start, block.end) - block.start;
        local(visible.start)..local(visible.end)
    }

    /// Returns the keys out of a block that some of `ROWS` queries see, the first of which stands at `first`.
    #[inline(always)]
    fn visible_to_strip(&self, block: &Range<usize>, first: usize) -> Range<usize> {
        self.visible_in(block, first).start..self.visible_in(block, first + ROWS - 1).end
    }

    /// Returns the queries out of a block that see some of `ROWS` keys, the first of which stands at `first`, counted
    /// from the block's beginning.
    #[inline(always)]
    fn seeing_strip(&self, block: &Range<usize>, first: usize) -> Range<usize> {
        let end = self.window.map_or(usize::MAX, |window| (first + ROWS - 1).saturating_add(window));
        let local = |query: usize| query.clamp(block.start, block.end) - block.start;
        local(first)..local(end)
    }
}

/// Returns the keys that a query sees under a window.
#[inline(always)]
pub(crate) fn visible(query: usize, window: Option<usize>) -> Range<usize> {
    window.map_or(0, |window| (query + 1).saturating_sub(window))..query + 1
}
