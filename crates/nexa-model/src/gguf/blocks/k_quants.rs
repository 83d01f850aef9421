//! Super-blocks of 256 weights, whose groups have quantised scales of their own.

use super::half_at;

/// `d: f16, dmin: f16, scales: [u8; 12], nibbles: [u8; 128]`; a weight is `d * scale * q - dmin * min`.
///
/// Each 32 bytes of nibbles hold two groups of 32 weights: the low halves one, the high halves the next.
pub(in crate::gguf) fn q4_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, nibbles) = (&block[4..16], &block[16..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let bytes = &nibbles[group / 2 * 32..][..32];
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = scale * f32::from(nibble(byte, group)) - min;
        }
    }
}

/// `d: f16, dmin: f16, scales: [u8; 12], fifth: [u8; 32], nibbles: [u8; 128]`; as [`q4_k`], with the fifth bit of
/// weight `j` of group `g` in bit `g` of byte `j` of `fifth`.
pub(in crate::gguf) fn q5_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, fifth, nibbles) = (&block[4..16], &block[16..48], &block[48..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let bytes = &nibbles[group / 2 * 32..][..32];
        for ((value, &byte), &fifth) in values.iter_mut().zip(bytes).zip(fifth) {
            let q = nibble(byte, group) | (fifth >> group & 1) << 4;
            *value = scale * f32::from(q) - min;
        }
    }
}

/// `low: [u8; 128], high: [u8; 64], scales: [i8; 16], d: f16`; a weight is `d * scale * (q - 32)`.
///
/// Each half of 128 weights has 64 bytes of `low` and 32 of `high`. Its quarter `k` of 32 weights takes the low or
/// high nibbles (`k / 2`) of the 32 bytes `k % 2`, and bits `2k` and `2k + 1` of `high`; a scale is for 16 weights.
pub(in crate::gguf) fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (half, values) in values.chunks_exact_mut(128).enumerate() {
        let (low, high) = (&low[half * 64..][..64], &high[half * 32..][..32]);
        for (quarter, values) in values.chunks_exact_mut(32).enumerate() {
            for (j, value) in values.iter_mut().enumerate() {
                let four = nibble(low[quarter % 2 * 32 + j], quarter / 2);
                let q = four | (high[j] >> (2 * quarter) & 3) << 4;
                let scale = scales[half * 8 + quarter * 2 + j / 16].cast_signed();
                *value = d * f32::from(scale) * (f32::from(q) - 32.0);
            }
        }
    }
}

/// The low half of a byte for even groups, the high half for odd ones.
fn nibble(byte: u8, group: usize) -> u8 {
    if group.is_multiple_of(2) { byte & 0xf } else { byte >> 4 }
}

/// Unpacks the 6-bit scale and minimum of one of 8 groups from 12 bytes.
///
/// Groups 0 to 3 have theirs in the low six bits of bytes 0 to 3 and 4 to 7. Those of groups 4 to 7 have their low four
/// bits in bytes 8 to 11, scale below minimum, and their high two in the top bits of the bytes before.
pub(crate) fn scale_and_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (low & 0xf | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
}
