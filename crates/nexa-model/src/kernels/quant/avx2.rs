//! The product of a panel with rows of activations on processors with AVX2, FMA and F16C, and faster on those that have
//! VNNI too.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds neighbours to 16 bits, so quants are unsigned. Eight such
//! sums of 4-bit quants fit into 16 bits (`8 * 2 * 15 * 127 = 30,480`), two of 6-bit quants do (`2 * 2 * 63 * 127 =
//! 32,004`); bytes are multiplied as two halves of 4 bits. Only then are they widened to 32 bits, which is where other
//! arrangements spend most of their instructions.

#[cfg(target_arch = "x86_64")]
pub(super) use self::x86_64::{has_dots_of_bytes, is_supported, multiply, widen, widen_both};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use self::elsewhere::{has_dots_of_bytes, is_supported, multiply};

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::super::activations::ActivationBlock;
    use super::super::panels::{Panel, ROWS};

    pub(in super::super) fn is_supported() -> bool {
        false
    }

    pub(in super::super) fn has_dots_of_bytes() -> bool {
        false
    }

    pub(in super::super) fn multiply<const R: usize>(
        _: Panel<'_>,
        _: [&[ActivationBlock]; R],
        _: bool,
    ) -> [[f32; ROWS]; R] {
        unreachable!("nobody calls it where it is not supported")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::*;

    use bytemuck::cast;
    use half::f16;

    use super::super::activations::ActivationBlock;
    use super::super::groups::Bits;
    use super::super::panels::{Panel, ROWS};
    use crate::kernels::simd::prefetch;

    /// Whether the processor has what the kernels of this module are compiled for.
    #[inline]
    pub(in super::super) fn is_supported() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    /// Whether the processor multiplies bytes and adds four neighbours in one instruction.
    #[inline]
    pub(in super::super) fn has_dots_of_bytes() -> bool {
        is_supported() && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni")
    }

    /// How far ahead of the quants that are multiplied those are asked for that will be: what a thread computes until they
    /// come from memory.
    const AHEAD: usize = 2048;
    /// Bytes that come from memory at a time.
    const LINE: usize = 64;

    /// Widens eight halves each.
    pub(in super::super) fn widen(halves: &[[f16; ROWS]], to: &mut Vec<[f32; ROWS]>) {
        #[target_feature(enable = "avx,f16c")]
        fn each(halves: &[[f16; ROWS]], to: &mut Vec<[f32; ROWS]>) {
            to.resize(halves.len(), [0.0; ROWS]);
            let panel = size_of_val(halves);
            for (to, halves) in to.iter_mut().zip(halves) {
                prefetch(halves, panel);
                *to = cast(_mm256_cvtph_ps(cast(halves.map(f16::to_bits))));
            }
        }
        assert!(is_supported(), "the caller has asked");
        #[expect(unsafe_code, reason = "code for optional processor features can only be called so")]
        // SAFETY: the features that `each` is compiled for were detected in the line above.
        unsafe {
            each(halves, to);
        }
    }

    /// Widens pairs of eight halves each.
    pub(in super::super) fn widen_both(
        both: &[[[f16; ROWS]; 2]],
        first: &mut Vec<[f32; ROWS]>,
        second: &mut Vec<[f32; ROWS]>,
    ) {
        #[target_feature(enable = "avx,f16c")]
        fn each(both: &[[[f16; ROWS]; 2]], first: &mut Vec<[f32; ROWS]>, second: &mut Vec<[f32; ROWS]>) {
            first.resize(both.len(), [0.0; ROWS]);
            second.resize(both.len(), [0.0; ROWS]);
            let panel = size_of_val(both);
            for ((first, second), both) in first.iter_mut().zip(second).zip(both) {
                prefetch(both, panel);
                *first = cast(_mm256_cvtph_ps(cast(both[0].map(f16::to_bits))));
                *second = cast(_mm256_cvtph_ps(cast(both[1].map(f16::to_bits))));
            }
        }
        assert!(is_supported(), "the caller has asked");
        #[expect(unsafe_code, reason = "code for optional processor features can only be called so")]
        // SAFETY: the features that `each` is compiled for were detected in the line above.
        unsafe {
            each(both, first, second);
        }
    }

    /// Computes eight results for every row.
    #[inline]
    pub(in super::super) fn multiply<const R: usize>(
        panel: Panel<'_>,
        rows: [&[ActivationBlock]; R],
        has_byte_dots: bool,
    ) -> [[f32; ROWS]; R] {
        assert!(is_supported() && (!has_byte_dots || has_dots_of_bytes()), "the caller has asked");
        macro_rules! by {
            ($way:ident) => {
                match (panel.bits, panel.mins.is_empty()) {
                    (Bits::Four, true) => $way::blocks::<4, false, R>(panel, rows),
                    (Bits::Four, false) => $way::blocks::<4, true, R>(panel, rows),
                    (Bits::Eight, true) => $way::blocks::<8, false, R>(panel, rows),
                    (Bits::Eight, false) => $way::blocks::<8, true, R>(panel, rows),
                    (Bits::Six, _) => $way::six(panel, rows),
                }
            };
        }
        #[expect(unsafe_code, reason = "code for optional processor features can only be called so")]
        // SAFETY: the features that the kernels are compiled for were detected in the first line.
        unsafe {
            if has_byte_dots { by!(by_bytes) } else { by!(by_halves) }
        }
    }

    /// What both ways of multiplying have in common, compiled for the features of each; `four_bits`, `eight_bits` and
    /// `six_bits` are theirs.
    macro_rules! kernels {
        ($features:literal) => {
            /// Adds up the blocks of quants that have one scale each.
            #[target_feature(enable = $features)]
            pub(super) fn blocks<const BITS: usize, const MIN: bool, const R: usize>(
                panel: Panel<'_>,
                rows: [&[ActivationBlock]; R],
            ) -> [[f32; ROWS]; R] {
                let mut sums = [_mm256_setzero_ps(); R];
                let quants = panel.quants.chunks_exact(ROWS * 32 / 8 * BITS);
                for (at, (quants, scales)) in quants.zip(panel.scales).enumerate() {
                    for line in quants.iter().step_by(LINE) {
                        prefetch(line, AHEAD);
                    }
                    let blocks: [&ActivationBlock; R] = std::array::from_fn(|row| &rows[row][at]);
                    let dots = match BITS {
                        4 => four_bits(quants, blocks),
                        _ => eight_bits(quants, blocks),
                    };
                    let scales: __m256 = cast(*scales);
                    for row in 0..R {
                        let block = blocks[row];
                        let total = i32::from(block.sums[0]) + i32::from(block.sums[1]);
                        let dot = _mm256_sub_epi32(dots[row], _mm256_set1_epi32(panel.zero * total));
                        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(block.scale));
                        sums[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sums[row]);
                        if MIN {
                            let total = _mm256_set1_ps(block.scale * total as f32);
                            sums[row] = _mm256_fmadd_ps(cast(panel.mins[at]), total, sums[row]);
                        }
                    }
                }
                sums.map(cast)
            }

            /// Adds up the blocks of 6-bit quants, whose halves have a scale each.
            #[target_feature(enable = $features)]
            pub(super) fn six<const R: usize>(
                panel: Panel<'_>,
                rows: [&[ActivationBlock]; R],
            ) -> [[f32; ROWS]; R] {
                let mut sums = [_mm256_setzero_ps(); R];
                let quants = panel.quants.chunks_exact(ROWS * 32 / 8 * 6);
                for (at, (quants, scales)) in quants.zip(panel.scales.as_chunks::<2>().0).enumerate() {
                    for line in quants.iter().step_by(LINE) {
                        prefetch(line, AHEAD);
                    }
                    let blocks: [&ActivationBlock; R] = std::array::from_fn(|row| &rows[row][at]);
                    let dots = six_bits(quants, blocks);
                    for half in 0..2 {
                        let scales: __m256 = cast(scales[half]);
                        for row in 0..R {
                            let block = blocks[row];
                            let total = _mm256_set1_epi32(panel.zero * i32::from(block.sums[half]));
                            let dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(dots[half][row], total));
                            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(block.scale));
                            sums[row] = _mm256_fmadd_ps(dot, scale, sums[row]);
                        }
                    }
                }
                sums.map(cast)
            }

            /// A vector of quants.
            #[target_feature(enable = $features)]
            #[inline]
            fn vector(quants: &[u8], index: usize) -> __m256i {
                let bytes: [u8; 32] = *quants[32 * index..].first_chunk().expect("a block is whole vectors");
                cast(bytes)
            }

            /// Four activations, for all rows of the panel.
            #[target_feature(enable = $features)]
            #[inline]
            fn activations(block: &ActivationBlock, vector: usize) -> __m256i {
                _mm256_set1_epi32(cast(block.quants[vector]))
            }

            /// The low and the high halves of bytes.
            #[target_feature(enable = $features)]
            #[inline]
            fn nibbles(bytes: __m256i) -> [__m256i; 2] {
                let mask = _mm256_set1_epi8(15);
                [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
            }

            /// The quants of a block of six bits: for both pairs of vectors, for both halves of 16 inputs, two vectors.
            #[target_feature(enable = $features)]
            #[inline]
            fn six_bit_quants(quants: &[u8]) -> [[[__m256i; 2]; 2]; 2] {
                let mask = _mm256_set1_epi8(0x30);
                let upper = [vector(quants, 4), vector(quants, 5)];
                let mut found = [[[_mm256_setzero_si256(); 2]; 2]; 2];
                for (pair, found) in found.iter_mut().enumerate() {
                    // Vectors `2 * pair` and `2 * pair + 1` of both halves: their upper bits are shifted to bits 4 and 5.
                    let halves = [nibbles(vector(quants, 2 * pair)), nibbles(vector(quants, 2 * pair + 1))];
                    for (half, found) in found.iter_mut().enumerate() {
                        let upper = match pair {
                            0 => [_mm256_slli_epi16::<4>(upper[half]), _mm256_slli_epi16::<2>(upper[half])],
                            _ => [upper[half], _mm256_srli_epi16::<2>(upper[half])],
                        };
                        for which in 0..2 {
                            let upper = _mm256_and_si256(upper[which], mask);
                            found[which] = _mm256_or_si256(halves[which][half], upper);
                        }
                    }
                }
                found
            }
        };
    }

    /// By `vpmaddubsw`, whose sums of 16 bits are added as long as they cannot overflow.
    mod by_halves {
        use super::*;

        kernels!("avx2,fma,f16c");

        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        fn four_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [__m256i; R] {
            let mut sums = [_mm256_setzero_si256(); R];
            for index in 0..4 {
                let [low, high] = nibbles(vector(quants, index));
                for row in 0..R {
                    let low = _mm256_maddubs_epi16(low, activations(blocks[row], index));
                    let high = _mm256_maddubs_epi16(high, activations(blocks[row], index + 4));
                    sums[row] = _mm256_add_epi16(sums[row], _mm256_add_epi16(low, high));
                }
            }
            sums.map(|sums| _mm256_madd_epi16(sums, _mm256_set1_epi16(1)))
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        fn eight_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [__m256i; R] {
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for index in 0..8 {
                let [low, high] = nibbles(vector(quants, index));
                for row in 0..R {
                    let activations = activations(blocks[row], index);
                    sums[row][0] = _mm256_add_epi16(sums[row][0], _mm256_maddubs_epi16(low, activations));
                    sums[row][1] = _mm256_add_epi16(sums[row][1], _mm256_maddubs_epi16(high, activations));
                }
            }
            sums.map(|[low, high]| {
                let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
                _mm256_add_epi32(low, _mm256_madd_epi16(high, _mm256_set1_epi16(16)))
            })
        }

        /// Returns the sums of the first and of the last 16 inputs.
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        fn six_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [[__m256i; R]; 2] {
            let ones = _mm256_set1_epi16(1);
            let mut sums = [[_mm256_setzero_si256(); R]; 2];
            for (pair, halves) in six_bit_quants(quants).into_iter().enumerate() {
                for (half, quants) in halves.into_iter().enumerate() {
                    for row in 0..R {
                        let first = 4 * half + 2 * pair;
                        let one = _mm256_maddubs_epi16(quants[0], activations(blocks[row], first));
                        let other = _mm256_maddubs_epi16(quants[1], activations(blocks[row], first + 1));
                        let both = _mm256_madd_epi16(_mm256_add_epi16(one, other), ones);
                        sums[half][row] = _mm256_add_epi32(sums[half][row], both);
                    }
                }
            }
            sums
        }
    }

    /// By `vpdpbusd`, which multiplies bytes and adds four neighbours to 32 bits at once. Sums of whole numbers are exact
    /// either way.
    mod by_bytes {
        use super::*;

        kernels!("avx2,fma,f16c,avx512vl,avx512vnni");

        #[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
        #[inline]
        fn four_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [__m256i; R] {
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for index in 0..4 {
                let [low, high] = nibbles(vector(quants, index));
                for row in 0..R {
                    let [first, second] = [index, index + 4].map(|at| activations(blocks[row], at));
                    sums[row][0] = _mm256_dpbusd_epi32(sums[row][0], low, first);
                    sums[row][1] = _mm256_dpbusd_epi32(sums[row][1], high, second);
                }
            }
            sums.map(|[low, high]| _mm256_add_epi32(low, high))
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
        #[inline]
        fn eight_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [__m256i; R] {
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for index in 0..8 {
                let quants = vector(quants, index);
                for row in 0..R {
                    let sum = &mut sums[row][index % 2];
                    *sum = _mm256_dpbusd_epi32(*sum, quants, activations(blocks[row], index));
                }
            }
            sums.map(|[even, odd]| _mm256_add_epi32(even, odd))
        }

        /// Returns the sums of the first and of the last 16 inputs.
        #[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
        #[inline]
        fn six_bits<const R: usize>(quants: &[u8], blocks: [&ActivationBlock; R]) -> [[__m256i; R]; 2] {
            let mut sums = [[_mm256_setzero_si256(); R]; 2];
            for (pair, halves) in six_bit_quants(quants).into_iter().enumerate() {
                for (half, quants) in halves.into_iter().enumerate() {
                    for row in 0..R {
                        let first = 4 * half + 2 * pair;
                        let sum = &mut sums[half][row];
                        *sum = _mm256_dpbusd_epi32(*sum, quants[0], activations(blocks[row], first));
                        *sum = _mm256_dpbusd_epi32(*sum, quants[1], activations(blocks[row], first + 1));
                    }
                }
            }
            sums
        }
    }
}
