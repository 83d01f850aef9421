//! Rows of activations in 8 bits, 32 numbers to a scale.

use super::BLOCK;
use crate::kernels::simd::vectorised;
use crate::kernels::team;

/// Blocks that one part quantises.
const BLOCKS_PER_PART: usize = 1024;

/// Rows that products with quantised weights take.
#[derive(Debug)]
pub(crate) struct Activations {
    pub(super) blocks: Vec<ActivationBlock>,
    /// Blocks of a row.
    pub(super) per_row: usize,
}

/// 32 numbers: each is `scale` times its quant.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct ActivationBlock {
    /// Quants from -127 to 127, four to a word so that a word can be broadcast.
    pub(super) quants: [[i8; 4]; BLOCK / 4],
    /// What a quant is worth.
    pub(super) scale: f32,
    /// The sums of the first and the last 16 quants: what a weight's offset is multiplied with.
    pub(super) sums: [i16; 2],
}

impl Activations {
    /// Quantises rows of whole blocks: the largest magnitude of a block becomes 127.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`.
    pub(crate) fn new(rows: &[f32], inputs: usize) -> Self {
        let empty = ActivationBlock { quants: [[0; 4]; BLOCK / 4], scale: 0.0, sums: [0; 2] };
        let mut blocks = vec![empty; rows.len() / BLOCK];
        team::chunks(&mut blocks, BLOCKS_PER_PART, |index, blocks| {
            let first = index * BLOCKS_PER_PART * BLOCK;
            quantise(&rows[first..first + blocks.len() * BLOCK], blocks);
        });
        Self { blocks, per_row: inputs / BLOCK }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.blocks.len() / self.per_row
    }

    /// Numbers of a row.
    pub(super) fn inputs(&self) -> usize {
        self.per_row * BLOCK
    }

    /// The blocks of a row.
    pub(super) fn row(&self, index: usize) -> &[ActivationBlock] {
        &self.blocks[index * self.per_row..][..self.per_row]
    }
}

vectorised! {
    fn quantise(rows: &[f32], blocks: &mut [ActivationBlock]) {
        /// 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, and leaves it in the low bits.
        const ROUND: f32 = 12_582_912.0;

        for (values, block) in rows.as_chunks::<BLOCK>().0.iter().zip(blocks) {
            let mut largest = [0.0_f32; 8];
            for values in values.as_chunks::<8>().0 {
                for lane in 0..8 {
                    let magnitude = values[lane].abs();
                    largest[lane] = if magnitude > largest[lane] { magnitude } else { largest[lane] };
                }
            }
            let largest = largest.into_iter().fold(0.0_f32, |a, b| if b > a { b } else { a });
            block.scale = largest / 127.0;
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut quants = [0_i8; BLOCK];
            for (quant, value) in quants.iter_mut().zip(values) {
                // Within 127 of zero, so the low byte of the mantissa is the quant in two's complement.
                *quant = (value.mul_add(inverse, ROUND).to_bits() as u8).cast_signed();
            }
            let (first, last) = quants.split_at(BLOCK / 2);
            let sum = |quants: &[i8]| quants.iter().map(|&quant| i16::from(quant)).sum();
            block.sums = [sum(first), sum(last)];
            block.quants = bytemuck::cast(quants);
        }
    }
}
