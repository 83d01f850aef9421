//! The product of a panel with some rows of activations, spelled out: what every processor computes.

use super::activations::{ActivationBlock, Activations};
use super::groups::Bits;
use super::panels::{Panel, ROWS, quant};
use super::{BLOCK, avx2};

/// Rows of activations that a panel is multiplied with at a time.
pub(super) const MOST_ROWS: usize = 4;

/// Some rows of activations, at most [`MOST_ROWS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TileRows<'a> {
    rows: [&'a [ActivationBlock]; MOST_ROWS],
    len: usize,
}

impl<'a> TileRows<'a> {
    /// Takes rows from one on.
    pub(super) fn new(activations: &'a Activations, first: usize, len: usize) -> Self {
        // What is past the end is never looked at.
        let rows = std::array::from_fn(|row| activations.row(first + row.min(len - 1)));
        Self { rows, len }
    }
}

/// A panel with the way in which it is multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a> {
    panel: Panel<'a>,
    way: Way,
}

/// How a processor multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is spelled out here.
    Plain,
    /// With AVX2.
    Avx2,
    /// With AVX2 and dot products of bytes.
    ByteDots,
}

impl Way {
    /// Those that this processor has, the fastest last.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let vector = avx2::is_supported().then_some(Self::Avx2);
        let byte_dots = avx2::has_dots_of_bytes().then_some(Self::ByteDots);
        std::iter::once(Self::Plain).chain(vector).chain(byte_dots)
    }
}

impl<'a> Tile<'a> {
    /// Chooses the fastest way that the processor has.
    pub(super) fn of(panel: Panel<'a>) -> Self {
        Self { panel, way: Way::all().last().unwrap_or(Way::Plain) }
    }

    /// Takes a way, for tests.
    #[cfg(test)]
    pub(super) fn by(panel: Panel<'a>, way: Way) -> Self {
        Self { panel, way }
    }

    /// Computes eight results for every row.
    #[inline]
    pub(super) fn multiply(self, rows: TileRows<'_>, results: &mut [[f32; ROWS]]) {
        let [a, b, c, d] = rows.rows;
        match rows.len {
            1 => self.rows([a], results),
            2 => self.rows([a, b], results),
            3 => self.rows([a, b, c], results),
            _ => self.rows([a, b, c, d], results),
        }
    }

    #[inline]
    fn rows<const R: usize>(self, rows: [&[ActivationBlock]; R], results: &mut [[f32; ROWS]]) {
        let sums = match self.way {
            Way::Plain => rows.map(|row| multiply(self.panel, row)),
            way => avx2::multiply(self.panel, rows, way == Way::ByteDots),
        };
        results.copy_from_slice(&sums);
    }
}

/// Multiplies a panel with one row: for every block, the exact sum of the products of quants, times both scales, added
/// to what stands there by one fused operation; then the minimum, where there is one, times the sum of the activations.
fn multiply(panel: Panel<'_>, row: &[ActivationBlock]) -> [f32; ROWS] {
    let halves = if panel.bits == Bits::Six { 2 } else { 1 };
    let mut sums = [0.0_f32; ROWS];
    let size = panel.quants.len() / row.len();
    for (at, (quants, block)) in panel.quants.chunks_exact(size).zip(row).enumerate() {
        let activations: [i8; BLOCK] = bytemuck::cast(block.quants);
        for (half, activations) in activations.chunks_exact(BLOCK / halves).enumerate() {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let first = half * BLOCK / halves;
                let products = activations.iter().enumerate().map(|(input, &activation)| {
                    let quant = quant(panel.bits, quants, lane, first + input);
                    (i32::from(quant) - panel.zero) * i32::from(activation)
                });
                let scale = panel.scales[at * halves + half][lane] * block.scale;
                *sum = (products.sum::<i32>() as f32).mul_add(scale, *sum);
            }
        }
        if let Some(mins) = panel.mins.get(at) {
            let total = block.scale * (i32::from(block.sums[0]) + i32::from(block.sums[1])) as f32;
            for (sum, min) in sums.iter_mut().zip(mins) {
                *sum = min.mul_add(total, *sum);
            }
        }
    }
    sums
}
