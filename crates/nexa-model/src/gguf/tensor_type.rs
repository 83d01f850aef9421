//! The formats in which GGUF files hold numbers.

use rayon::prelude::*;

use super::blocks;

/// A number format: how many weights make a block, and how a block lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits and a scale for 32 weights.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 weights.
    Q4_1,
    /// 5 bits and a scale for 32 weights.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 weights.
    Q5_1,
    /// 8 bits and a scale for 32 weights.
    Q8_0,
    /// 4 bits; 8 groups of 32 weights with 6-bit scales and minima.
    Q4K,
    /// 5 bits; 8 groups of 32 weights with 6-bit scales and minima.
    Q5K,
    /// 6 bits; 16 groups of 16 weights with 8-bit scales.
    Q6K,
}

/// Blocks that one task decodes; a block is 34 to 1,024 bytes, so that a task is well above its overhead.
const BLOCKS_PER_TASK: usize = 512;

impl TensorType {
    /// Every format that is read.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The name that the format is known by.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The number that stands for it in files.
    ///
    /// # Source
    /// `enum ggml_type` of ggml.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.id() == id)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Weights of a block.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => blocks::BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => blocks::SUPER_BLOCK,
        }
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Widens whole blocks.
    ///
    /// # Panics
    /// Panics when `bytes` are not whole blocks.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let (length, size) = (self.block_len(), self.block_bytes());
        assert!(bytes.len().is_multiple_of(size), "the reader hands out whole blocks");
        let decode = match self {
            Self::F32 => blocks::plain::f32,
            Self::F16 => blocks::plain::f16,
            Self::Bf16 => blocks::plain::bf16,
            Self::Q4_0 => blocks::legacy::q4_0,
            Self::Q4_1 => blocks::legacy::q4_1,
            Self::Q5_0 => blocks::legacy::q5_0,
            Self::Q5_1 => blocks::legacy::q5_1,
            Self::Q8_0 => blocks::legacy::q8_0,
            Self::Q4K => blocks::k_quants::q4_k,
            Self::Q5K => blocks::k_quants::q5_k,
            Self::Q6K => blocks::k_quants::q6_k,
        };
        let mut values = vec![0.0; bytes.len() / size * length];
        values
            .par_chunks_mut(length * BLOCKS_PER_TASK)
            .zip(bytes.par_chunks(size * BLOCKS_PER_TASK))
            .for_each(|(values, bytes)| {
                for (values, block) in values.chunks_exact_mut(length).zip(bytes.chunks_exact(size)) {
                    decode(block, values);
                }
            });
        values
    }
}
