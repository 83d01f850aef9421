//! The blocks of a file, taken apart: the quants of 32 weights with what they are worth.

use half::f16;

use super::BLOCK;
use crate::gguf::TensorType;

/// The bits in which quants are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    /// Half a byte.
    Four,
    /// Half a byte, and a quarter of another.
    Six,
    /// A byte.
    Eight,
}

/// 32 weights of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Unsigned quants, below 2 to the power of the format's bits.
    pub(super) quants: [u8; BLOCK],
    /// What the quants are worth.
    pub(super) worth: Worth,
}

/// What quants are worth: a weight is `scale * (quant - zero) + min`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Worth {
    /// A scale, and a minimum or nothing.
    Plain { scale: f16, min: f16 },
    /// A 6-bit scale and a 6-bit minimum, in units of the super-block; the minimum is subtracted.
    Grouped { unit: f16, scale: u8, min_unit: f16, min: u8 },
    /// A scale for the first and one for the last 16, in units of the super-block.
    Halved { unit: f16, scales: [i8; 2] },
}

impl TensorType {
    /// The bits in which the quants of a format are kept; none for formats without blocks.
    pub(crate) fn bits(self) -> Option<Bits> {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => Some(Bits::Four),
            Self::Q6K => Some(Bits::Six),
            Self::Q5_0 | Self::Q5_1 | Self::Q5K | Self::Q8_0 => Some(Bits::Eight),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }

    /// The quant that stands for zero.
    pub(super) fn zero(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q6K => 32,
            Self::Q8_0 => 128,
            _ => 0,
        }
    }
}

/// Takes group `index` of a row of blocks.
pub(super) fn group(format: TensorType, row: &[u8], index: usize) -> Group {
    let per_block = format.block_len() / BLOCK;
    let block = &row[index / per_block * format.block_bytes()..][..format.block_bytes()];
    let quants = quants(format, block, index % per_block);
    Group { quants, worth: worth(format, block, index % per_block) }
}

fn worth(format: TensorType, block: &[u8], group: usize) -> Worth {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
    match format {
        TensorType::Q4_1 | TensorType::Q5_1 => Worth::Plain { scale: half(0), min: half(2) },
        TensorType::Q4K | TensorType::Q5K => {
            let (scale, min) = crate::gguf::scale_and_min(&block[4..16], group);
            Worth::Grouped { unit: half(0), scale, min_unit: half(2), min }
        }
        TensorType::Q6K => {
            let scales = [0, 1].map(|half| block[192 + group * 2 + half].cast_signed());
            Worth::Halved { unit: half(208), scales }
        }
        _ => Worth::Plain { scale: half(0), min: f16::ZERO },
    }
}

fn quants(format: TensorType, block: &[u8], group: usize) -> [u8; BLOCK] {
    let nibble = |byte: u8, high: bool| if high { byte >> 4 } else { byte & 15 };
    // Of the formats of 32 weights: byte `j` holds weights `j` and `j + 16`.
    let legacy = |at: usize| -> [u8; BLOCK] { std::array::from_fn(|i| nibble(block[at + i % 16], i >= 16)) };
    let fifth = |at: usize, i: usize| (block[at + i / 8] >> (i % 8) & 1) << 4;
    // Of the formats of 256: 32 bytes hold two groups.
    let grouped = |at: usize| -> [u8; BLOCK] {
        std::array::from_fn(|i| nibble(block[at + group / 2 * BLOCK + i], group % 2 == 1))
    };
    match format {
        TensorType::Q4_0 => legacy(2),
        TensorType::Q4_1 => legacy(4),
        TensorType::Q5_0 => {
            let four = legacy(6);
            std::array::from_fn(|i| four[i] | fifth(2, i))
        }
        TensorType::Q5_1 => {
            let four = legacy(8);
            std::array::from_fn(|i| four[i] | fifth(4, i))
        }
        TensorType::Q8_0 => std::array::from_fn(|i| block[2 + i].wrapping_add(128)),
        TensorType::Q4K => grouped(16),
        TensorType::Q5K => {
            let four = grouped(48);
            std::array::from_fn(|i| four[i] | (block[16 + i] >> group & 1) << 4)
        }
        TensorType::Q6K => {
            let (half, quarter) = (group / 4, group % 4);
            std::array::from_fn(|i| {
                let four = nibble(block[half * 64 + quarter % 2 * BLOCK + i], quarter >= 2);
                four | (block[128 + half * BLOCK + i] >> (2 * quarter) & 3) << 4
            })
        }
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
            unreachable!("formats without blocks are refused")
        }
    }
}
