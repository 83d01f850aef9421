//! The number formats of weight files.

use safetensors::tensor::Dtype;

/// Renders numbers in the format that is written.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    /// Recognises a format; `None` where it is not read.
    pub(super) fn of(format: Dtype) -> Option<Self> {
        match format {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Appends numbers of this format to others.
    pub(super) fn append(self, bytes: &[u8], values: &mut Vec<f32>) {
        let halves = || bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
        match self {
            Self::F32 => {
                values.extend(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            }
            Self::Bf16 => values.extend(halves().map(|bits| f32::from_bits(u32::from(bits) << 16))),
            Self::F16 => values.extend(halves().map(half_to_single)),
        }
    }
}

/// Widens an IEEE half-precision number.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let mantissa = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: the mantissa counts units of 2^-24, which a product gives exactly.
        0 => (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits(),
        0x1f => 0x7f80_0000 | mantissa << 13,
        _ => (exponent + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_formats_are_widened_exactly() {
        let check = |format: Format, bits: u16, expected: f32| {
            let mut values = Vec::new();
            format.append(&bits.to_le_bytes(), &mut values);
            assert_eq!(values, [expected]);
        };
        check(Format::F16, 0x3c00, 1.0);
        check(Format::F16, 0xc248, -3.140_625);
        check(Format::F16, 0x0001, 5.960_464_5e-8);
        check(Format::F16, 0x7c00, f32::INFINITY);
        check(Format::Bf16, 0x4049, 3.140_625);
    }
}
