//! Formats without blocks: one number at a time.

use half::bf16 as Bf16;

use super::half_at;

pub(in crate::gguf) fn f32(block: &[u8], values: &mut [f32]) {
    values[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

pub(in crate::gguf) fn f16(block: &[u8], values: &mut [f32]) {
    values[0] = half_at(block, 0);
}

pub(in crate::gguf) fn bf16(block: &[u8], values: &mut [f32]) {
    values[0] = Bf16::from_le_bytes([block[0], block[1]]).to_f32();
}
