//! Products with quantised weights: what decoding on a CPU is made of, because reading weights is what it waits for.
//!
//! A weight stays in its file's bits, 4 to 8 of them, with the scales of its blocks. Rows of activations are
//! quantised to 8 bits, one scale for 32 numbers, and multiplied as integers; every block's sum of products is exact,
//! and the sums of a row's blocks are added in their order. So a row of the result depends on its own row of
//! activations alone, bit for bit, and is the same with and without AVX2.
//!
//! - [`QuantLinear`] is a weight, in [`panels`] of eight rows whose quants lie side by side.
//! - [`activations`] are the other side of the product, `tile` the product of a panel with some rows of them, spelled
//!   out, and `avx2` the same for processors that have that.
//!
//! # Source
//! The block formats are those of ggml; one scale for 32 activations is its `Q8_0`. Eight rows side by side for one
//! load of activations is what its repacked formats do; the rest of the arrangement is ours.

pub(crate) mod activations;
mod avx2;
mod groups;
mod panels;
#[cfg(test)]
mod tests;
mod tile;

use self::activations::Activations;
use self::panels::{Panels, ROWS, Scratch};
use self::tile::{Tile, TileRows};
use super::team;
use crate::gguf::TensorType;

/// Weights of a block, and activations that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Rows of activations up to which threads share the panels of a weight; above, they share the rows.
const FEW_ROWS: usize = 48;
/// Rows of activations that one part takes: they stay in the cache while the panels run past them.
const ROWS_PER_PART: usize = 64;

/// A weight matrix `[outputs, inputs]` in few bits.
#[derive(Debug)]
pub(crate) struct QuantLinear {
    panels: Panels,
    outputs: usize,
}

impl QuantLinear {
    /// Whether products with a format can be computed in its own bits, for rows of some length.
    pub(crate) fn supports(format: TensorType, inputs: usize) -> bool {
        format.bits().is_some() && inputs.is_multiple_of(format.block_len()) && inputs.is_multiple_of(BLOCK)
    }

    /// Arranges the blocks of a weight, row after row.
    ///
    /// # Panics
    /// Panics when the format is not one that [`Self::supports`] names, or `bytes` are not whole rows.
    pub(crate) fn new(format: TensorType, bytes: &[u8], inputs: usize) -> Self {
        let row_bytes = inputs / format.block_len() * format.block_bytes();
        assert!(
            Self::supports(format, inputs) && bytes.len().is_multiple_of(row_bytes),
            "whole rows of blocks"
        );
        Self { panels: Panels::new(format, bytes, inputs), outputs: bytes.len() / row_bytes }
    }

    /// Rows of the weight.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that a product reads of the weight.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    /// Widens a row of the weight, as for an embedding.
    pub(crate) fn row(&self, index: usize) -> Vec<f32> {
        self.panels.row(index)
    }

    /// Computes `rows x weight^T` into some columns of a matrix, from `column` on.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`, `output` is `[n, width]`.
    pub(crate) fn forward(&self, rows: &Activations, output: &mut [f32], width: usize, column: usize) {
        let count = rows.len();
        if count <= FEW_ROWS {
            let panels_per_part = self.panels.len().div_ceil(self.parts(rows));
            let mut tiles = vec![[0.0; ROWS]; self.panels.len() * count];
            team::chunks(&mut tiles, panels_per_part * count, |index, tiles| {
                let mut scratch = Scratch::default();
                for (panel, tiles) in (index * panels_per_part..).zip(tiles.chunks_exact_mut(count)) {
                    self.panel(panel, rows, 0..count, &mut scratch, tiles);
                }
            });
            for (panel, tiles) in tiles.chunks_exact(count).enumerate() {
                self.store(panel, tiles, &mut output[column..], width);
            }
            return;
        }
        let rows_per_part =
            count.div_ceil(team::threads()).next_multiple_of(tile::MOST_ROWS).min(ROWS_PER_PART);
        team::chunks(output, rows_per_part * width, |index, output| {
            let first = index * rows_per_part;
            let own = first..(first + rows_per_part).min(count);
            let mut scratch = Scratch::default();
            let mut tiles = vec![[0.0; ROWS]; own.len()];
            for panel in 0..self.panels.len() {
                self.panel(panel, rows, own.clone(), &mut scratch, &mut tiles);
                self.store(panel, &tiles, &mut output[column..], width);
            }
        });
    }

    /// Into how many parts a product is split.
    fn parts(&self, rows: &Activations) -> usize {
        team::parts(rows.len() * self.outputs * rows.inputs())
    }

    /// Multiplies one panel with some rows.
    fn panel(
        &self,
        panel: usize,
        rows: &Activations,
        range: std::ops::Range<usize>,
        scratch: &mut Scratch,
        tiles: &mut [[f32; ROWS]],
    ) {
        let weight = self.panels.panel(panel, scratch);
        let tile = Tile::of(weight);
        let starts = range.clone().step_by(tile::MOST_ROWS);
        for (first, tiles) in starts.zip(tiles.chunks_mut(tile::MOST_ROWS)) {
            tile.multiply(TileRows::new(rows, first, tiles.len()), tiles);
        }
    }

    /// Puts the results of a panel, eight for each row, where they belong.
    fn store(&self, panel: usize, tiles: &[[f32; ROWS]], output: &mut [f32], width: usize) {
        let first = panel * ROWS;
        let columns = ROWS.min(self.outputs - first);
        for (row, tile) in tiles.iter().enumerate() {
            let start = row * width + first;
            output[start..start + columns].copy_from_slice(&tile[..columns]);
        }
    }
}
