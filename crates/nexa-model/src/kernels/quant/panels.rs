//! How a quantised weight lies in memory: eight rows side by side, so that one load of activations serves them all.
//!
//! The 32 inputs of a block are taken four at a time. The quants of eight rows for four inputs fill a vector of 32
//! bytes, four bytes to a row. In four bits a vector holds inputs `4 g..4 g + 4` in the low halves of its bytes and
//! inputs `4 g + 16..4 g + 20` in the high halves; six bits add, in vectors of their own, the two upper bits of four
//! such vectors.

use half::f16;
use rayon::prelude::*;

use super::BLOCK;
use super::groups::{Bits, Worth, group};
use crate::gguf::TensorType;

/// Rows of a panel.
pub(super) const ROWS: usize = 8;

/// The quants and scales of a weight.
#[derive(Debug)]
pub(super) struct Panels {
    bits: Bits,
    zero: i32,
    /// For every panel, for every block, its vectors.
    quants: Vec<u8>,
    worths: Worths,
    /// Blocks of a row.
    blocks: usize,
}

/// What the quants of every block are worth, as compact as in the file.
#[derive(Debug)]
enum Worths {
    Scales(Vec<[f16; ROWS]>),
    ScalesAndMins(Vec<[[f16; ROWS]; 2]>),
    /// Units of the super-blocks for scales and minima, then both for every block.
    Grouped(Vec<[[f16; ROWS]; 2]>, Vec<[[u8; ROWS]; 2]>),
    /// Units of the super-blocks, then the two scales of every block.
    Halved(Vec<[f16; ROWS]>, Vec<[[i8; ROWS]; 2]>),
}

/// One panel, with its scales widened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) bits: Bits,
    /// The quant that stands for zero.
    pub(super) zero: i32,
    pub(super) quants: &'a [u8],
    /// One for every block; two, for its halves, where quants have six bits.
    pub(super) scales: &'a [[f32; ROWS]],
    /// What is added for every unit of activation: one for every block, or none at all.
    pub(super) mins: &'a [[f32; ROWS]],
}

/// Where the scales of a panel are widened, kept from panel to panel.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    scales: Vec<[f32; ROWS]>,
    mins: Vec<[f32; ROWS]>,
    /// What the scales and minima of super-blocks are counted in.
    units: Vec<[f32; ROWS]>,
    min_units: Vec<[f32; ROWS]>,
}

impl Bits {
    /// Bytes of the quants of a block of eight rows.
    fn block_bytes(self) -> usize {
        ROWS * BLOCK / 8
            * match self {
                Self::Four => 4,
                Self::Six => 6,
                Self::Eight => 8,
            }
    }
}

impl Panels {
    /// Arranges rows of blocks.
    pub(super) fn new(format: TensorType, bytes: &[u8], inputs: usize) -> Self {
        let bits = format.bits().expect("the caller has asked whether the format is supported");
        let blocks = inputs / BLOCK;
        let row_bytes = inputs / format.block_len() * format.block_bytes();
        let rows: Vec<&[u8]> = bytes.chunks_exact(row_bytes).collect();
        let block = |index: usize| {
            let panel = &rows[index / blocks * ROWS..];
            // Rows that fill up the last panel are zero, as are the bytes of their blocks.
            std::array::from_fn(|row| match panel.get(row) {
                Some(bytes) => group(format, bytes, index % blocks),
                None => group(format, &vec![0; row_bytes], index % blocks),
            })
        };
        let groups: Vec<[_; ROWS]> =
            (0..rows.len().div_ceil(ROWS) * blocks).into_par_iter().map(block).collect();
        let mut quants = vec![0; groups.len() * bits.block_bytes()];
        quants.par_chunks_exact_mut(bits.block_bytes()).zip(&groups).for_each(|(block, groups)| {
            interleave(bits, &std::array::from_fn(|row| groups[row].quants), block);
        });
        let worths: Vec<[Worth; ROWS]> =
            groups.iter().map(|groups| groups.map(|group| group.worth)).collect();
        let has_min = matches!(format, TensorType::Q4_1 | TensorType::Q5_1);
        let worths = Worths::new(&worths, format.block_len() / BLOCK, has_min);
        Self { bits, zero: format.zero(), quants, worths, blocks }
    }

    /// Number of panels.
    pub(super) fn len(&self) -> usize {
        self.quants.len() / (self.blocks * self.bits.block_bytes())
    }

    /// Bytes of all quants and scales.
    pub(super) fn bytes(&self) -> usize {
        let worths = match &self.worths {
            Worths::Scales(scales) => size_of_val(scales.as_slice()),
            Worths::ScalesAndMins(both) => size_of_val(both.as_slice()),
            Worths::Grouped(units, both) => size_of_val(units.as_slice()) + size_of_val(both.as_slice()),
            Worths::Halved(units, scales) => size_of_val(units.as_slice()) + size_of_val(scales.as_slice()),
        };
        self.quants.len() + worths
    }

    /// Looks at a panel.
    pub(super) fn panel<'a>(&'a self, index: usize, scratch: &'a mut Scratch) -> Panel<'a> {
        let size = self.blocks * self.bits.block_bytes();
        self.worths.widen(index * self.blocks..(index + 1) * self.blocks, scratch);
        Panel {
            bits: self.bits,
            zero: self.zero,
            quants: &self.quants[index * size..][..size],
            scales: &scratch.scales,
            mins: &scratch.mins,
        }
    }

    /// Widens one row.
    pub(super) fn row(&self, index: usize) -> Vec<f32> {
        let mut scratch = Scratch::default();
        let panel = self.panel(index / ROWS, &mut scratch);
        let row = index % ROWS;
        let mut values = Vec::with_capacity(self.blocks * BLOCK);
        for (at, block) in panel.quants.chunks_exact(self.bits.block_bytes()).enumerate() {
            for input in 0..BLOCK {
                let scale = match self.bits {
                    Bits::Six => panel.scales[2 * at + input / (BLOCK / 2)][row],
                    Bits::Four | Bits::Eight => panel.scales[at][row],
                };
                let min = panel.mins.get(at).map_or(0.0, |mins| mins[row]);
                let quant = i32::from(quant(self.bits, block, row, input)) - self.zero;
                values.push(scale.mul_add(quant as f32, min));
            }
        }
        values
    }
}

impl Worths {
    /// Lays scales and minima side by side; `per_unit` blocks share a unit.
    fn new(worths: &[[Worth; ROWS]], per_unit: usize, has_min: bool) -> Self {
        let plain = |worth: Worth| match worth {
            Worth::Plain { scale, min } => [scale, min],
            Worth::Grouped { unit, min_unit, .. } => [unit, min_unit],
            Worth::Halved { unit, .. } => [unit, f16::ZERO],
        };
        let first = |worths: &[Worth; ROWS]| worths.map(|worth| plain(worth)[0]);
        let both = |worths: &[Worth; ROWS]| [first(worths), worths.map(|worth| plain(worth)[1])];
        match worths.first().map(|worths| worths[0]) {
            Some(Worth::Grouped { .. }) => {
                let small = |worth: Worth| match worth {
                    Worth::Grouped { scale, min, .. } => [scale, min],
                    Worth::Plain { .. } | Worth::Halved { .. } => [0, 0],
                };
                let small =
                    |worths: &[Worth; ROWS]| [0, 1].map(|which| worths.map(|worth| small(worth)[which]));
                Self::Grouped(
                    worths.iter().step_by(per_unit).map(both).collect(),
                    worths.iter().map(small).collect(),
                )
            }
            Some(Worth::Halved { .. }) => {
                let small = |worth: Worth| match worth {
                    Worth::Halved { scales, .. } => scales,
                    Worth::Plain { .. } | Worth::Grouped { .. } => [0, 0],
                };
                let small =
                    |worths: &[Worth; ROWS]| [0, 1].map(|which| worths.map(|worth| small(worth)[which]));
                Self::Halved(
                    worths.iter().step_by(per_unit).map(first).collect(),
                    worths.iter().map(small).collect(),
                )
            }
            _ if has_min => Self::ScalesAndMins(worths.iter().map(both).collect()),
            _ => Self::Scales(worths.iter().map(first).collect()),
        }
    }

    /// Widens what some blocks of one panel are worth.
    fn widen(&self, blocks: std::ops::Range<usize>, scratch: &mut Scratch) {
        /// Blocks that share a unit.
        const PER_UNIT: usize = 8;

        scratch.scales.clear();
        scratch.mins.clear();
        let units = blocks.start / PER_UNIT..blocks.end / PER_UNIT;
        match self {
            Self::Scales(scales) => widen(&scales[blocks], &mut scratch.scales),
            Self::ScalesAndMins(both) => widen_both(&both[blocks], &mut scratch.scales, &mut scratch.mins),
            Self::Grouped(all_units, both) => {
                let Scratch { units: scale_units, min_units, .. } = scratch;
                scale_units.clear();
                min_units.clear();
                widen_both(&all_units[units], scale_units, min_units);
                let all_units = scratch.units.iter().zip(&scratch.min_units);
                for ((unit, min_unit), both) in all_units.zip(both[blocks].as_chunks::<PER_UNIT>().0) {
                    for [scales, mins] in both {
                        scratch.scales.push(std::array::from_fn(|row| unit[row] * f32::from(scales[row])));
                        scratch.mins.push(std::array::from_fn(|row| -min_unit[row] * f32::from(mins[row])));
                    }
                }
            }
            Self::Halved(all_units, scales) => {
                scratch.units.clear();
                widen(&all_units[units], &mut scratch.units);
                for (unit, scales) in scratch.units.iter().zip(scales[blocks].as_chunks::<PER_UNIT>().0) {
                    for scales in scales.iter().flatten() {
                        scratch.scales.push(std::array::from_fn(|row| unit[row] * f32::from(scales[row])));
                    }
                }
            }
        }
    }
}

/// Widens scales, by the processor where it can.
fn widen(halves: &[[f16; ROWS]], to: &mut Vec<[f32; ROWS]>) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_supported() {
        return super::avx2::widen(halves, to);
    }
    to.extend(halves.iter().map(|halves| halves.map(f16::to_f32)));
}

/// Widens scales and minima that lie side by side.
fn widen_both(both: &[[[f16; ROWS]; 2]], scales: &mut Vec<[f32; ROWS]>, mins: &mut Vec<[f32; ROWS]>) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_supported() {
        return super::avx2::widen_both(both, scales, mins);
    }
    scales.extend(both.iter().map(|[scales, _]| scales.map(f16::to_f32)));
    mins.extend(both.iter().map(|[_, mins]| mins.map(f16::to_f32)));
}

/// Puts the quants of a block of eight rows into their places.
fn interleave(bits: Bits, quants: &[[u8; BLOCK]; ROWS], block: &mut [u8]) {
    for (row, quants) in quants.iter().enumerate() {
        for (input, &quant) in quants.iter().enumerate() {
            let (vector, lane) = (input / 4, 4 * row + input % 4);
            match bits {
                Bits::Eight => block[32 * vector + lane] = quant,
                Bits::Four => block[32 * (vector % 4) + lane] |= quant << (vector / 4 * 4),
                Bits::Six => {
                    block[32 * (vector % 4) + lane] |= (quant & 15) << (vector / 4 * 4);
                    block[128 + 32 * (vector / 4) + lane] |= quant >> 4 << (vector % 4 * 2);
                }
            }
        }
    }
}

/// Takes one quant of a block of eight rows.
pub(super) fn quant(bits: Bits, block: &[u8], row: usize, input: usize) -> u8 {
    let (vector, lane) = (input / 4, 4 * row + input % 4);
    let four = || block[32 * (vector % 4) + lane] >> (vector / 4 * 4) & 15;
    match bits {
        Bits::Eight => block[32 * vector + lane],
        Bits::Four => four(),
        Bits::Six => four() | (block[128 + 32 * (vector / 4) + lane] >> (vector % 4 * 2) & 3) << 4,
    }
}
