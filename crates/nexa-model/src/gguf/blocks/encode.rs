//! Weights to the formats that are written.

use half::f16;

use super::BLOCK;

/// The numbers as they are.
pub(in crate::gguf) fn f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The nearest halves, ties to even.
pub(in crate::gguf) fn f16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
}

/// Blocks of 32 whose largest magnitude becomes 127: off by at most half a step of `max / 127`, and by the rounding of
/// the scale to a half.
///
/// # Panics
/// Panics when `values` are not whole blocks.
pub(in crate::gguf) fn q8_0(values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(BLOCK), "rows are whole blocks");
    let mut bytes = Vec::with_capacity(values.len() / BLOCK * 34);
    for block in values.chunks_exact(BLOCK) {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let step = largest / 127.0;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        bytes.extend(f16::from_f32(step).to_le_bytes());
        // The product is within 127 of zero, so the cast only drops the fraction, which is zero.
        bytes.extend(block.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned()));
    }
    bytes
}
