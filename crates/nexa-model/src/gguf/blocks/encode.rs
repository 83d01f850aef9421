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
pub(crate) fn q8_0(values: &[f32]) -> Vec<u8> {
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

/// Blocks of 32 whose number of the largest magnitude becomes -8: off by at most a step, `max / 8`.
///
/// # Panics
/// Panics when `values` are not whole blocks.
///
/// # Source
/// `quantize_row_q4_0_ref` of ggml.
pub(crate) fn q4_0(values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(BLOCK), "rows are whole blocks");
    let mut bytes = Vec::with_capacity(values.len() / BLOCK * 18);
    for block in values.chunks_exact(BLOCK) {
        let farthest =
            block.iter().fold(0.0_f32, |far, &value| if value.abs() > far.abs() { value } else { far });
        let step = farthest / -8.0;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        // From 0.5 to 16.5 before the cast, which drops the fraction.
        let quant = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        bytes.extend(f16::from_f32(step).to_le_bytes());
        let (low, high) = block.split_at(BLOCK / 2);
        bytes.extend(low.iter().zip(high).map(|(&low, &high)| quant(low) | quant(high) << 4));
    }
    bytes
}
