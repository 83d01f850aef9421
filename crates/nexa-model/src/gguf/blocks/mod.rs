//! One function for each block format: the bytes of a block to its weights, and back for those that are written.
//!
//! The layouts are those of `ggml-common.h`. All numbers are little-endian. A block's weights are the rows' numbers in
//! order; only which bits hold which weight differs.

pub(crate) mod encode;
pub(crate) mod k_quants;
pub(super) mod legacy;
pub(super) mod plain;

use half::f16;

/// Weights of a block of the older formats.
pub(super) const BLOCK: usize = 32;
/// Weights of a block of the K formats.
pub(super) const SUPER_BLOCK: usize = 256;

/// Reads the half-precision number at a place of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests;
