//! Blocks of 32 weights with one scale `d`, and in the `_1` formats a minimum `m`.
//!
//! Byte `j` of the nibbles holds weight `j` in its low half and weight `j + 16` in its high half. The fifth bits of the
//! 5-bit formats are a 32-bit number, bit `i` for weight `i`.

use super::{BLOCK, half_at};

const HALF: usize = BLOCK / 2;

/// `d: f16, nibbles: [u8; 16]`; a weight is `d * (q - 8)`.
pub(in crate::gguf) fn q4_0(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], values, |_, q| d * (f32::from(q) - 8.0));
}

/// `d: f16, m: f16, nibbles: [u8; 16]`; a weight is `d * q + m`.
pub(in crate::gguf) fn q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], values, |_, q| d * f32::from(q) + m);
}

/// `d: f16, fifth: u32, nibbles: [u8; 16]`; a weight is `d * (q - 16)`.
pub(in crate::gguf) fn q5_0(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    let fifth = fifth_bits(&block[2..6]);
    nibbles(&block[6..], values, |i, q| d * (f32::from(q | fifth(i)) - 16.0));
}

/// `d: f16, m: f16, fifth: u32, nibbles: [u8; 16]`; a weight is `d * q + m`.
pub(in crate::gguf) fn q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let fifth = fifth_bits(&block[4..8]);
    nibbles(&block[8..], values, |i, q| d * f32::from(q | fifth(i)) + m);
}

/// `d: f16, q: [i8; 32]`; a weight is `d * q`.
pub(in crate::gguf) fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    for (value, &q) in values.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(q.cast_signed());
    }
}

fn nibbles(bytes: &[u8], values: &mut [f32], weight: impl Fn(usize, u8) -> f32) {
    for (j, &byte) in bytes[..HALF].iter().enumerate() {
        values[j] = weight(j, byte & 0xf);
        values[j + HALF] = weight(j + HALF, byte >> 4);
    }
}

/// Gives the fifth bit of a weight, in its place.
fn fifth_bits(bytes: &[u8]) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    move |i| if bits >> i & 1 == 1 { 0x10 } else { 0 }
}
