//! Vectorised building blocks: the compilation of a kernel for each kind of processor, sums in a fixed order, and the exponential.

/// Lanes of the vectors that kernels are written in.
pub(crate) const LANES: usize = 16;

/// Defines a function whose body is compiled three times: for the baseline of the target and, on x86-64, for AVX2 with
/// FMA and for AVX-512; a call picks the last that the processor has. `mul_add` is exactly rounded in each and lanes are
/// added in the order in which they are written, so the result does not depend on the choice, only the speed does.
///
/// What the body calls must be inlined to be compiled with it: `#[inline(always)]`, and loops rather than iterators that
/// take closures. What is not is compiled for the baseline, where each `mul_add` is a call.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $output:ty)? $body:block) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $kind),*) $(-> $output)? {
            #[inline(always)]
            fn body($($argument: $kind),*) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn with_avx512($($argument: $kind),*) $(-> $output)? {
                    body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $kind),*) $(-> $output)? {
                    body($($argument),*)
                }
                let features = $crate::kernels::simd::Features::detect();
                #[expect(unsafe_code, reason = "code for optional processor features can only be called so")]
                // SAFETY: a processor has the features of what it is found to have.
                unsafe {
                    match features {
                        $crate::kernels::simd::Features::Avx512 => return with_avx512($($argument),*),
                        $crate::kernels::simd::Features::Avx2 => return with_avx2($($argument),*),
                        $crate::kernels::simd::Features::Baseline => {}
                    }
                }
            }
            body($($argument),*)
        }
    };
}
pub(crate) use vectorised;

/// Optional features of a processor that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Features {
    /// None.
    Baseline,
    /// AVX2 with FMA.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "a feature of x86-64"))]
    Avx2,
    /// Those, and the AVX-512 of servers, Intel's since 2017 and AMD's since 2022: F, BW, DQ and VL.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "a feature of x86-64"))]
    Avx512,
}

impl Features {
    /// Looks what this processor has. The standard library remembers it.
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let is_wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if is_wide { Self::Avx512 } else { Self::Avx2 };
        }
        Self::Baseline
    }
}

/// Asks for memory that lies some bytes after what `what` points to, so that it is there when it is needed.
#[inline(always)]
pub(crate) fn prefetch<T>(what: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let place = std::ptr::from_ref(what).cast::<i8>().wrapping_add(bytes);
        #[expect(unsafe_code, reason = "the instruction takes a pointer")]
        // SAFETY: nothing is read or written, whatever the address: where nothing is mapped, nothing happens.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(place);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (what, bytes);
}

/// Adds the lanes pairwise, in an order that is the same for every caller.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Computes the dot product of two slices of the same length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = a.mul_add(*b, *lane);
    }
    sum_lanes(lanes)
}

/// Sums a slice.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    sum_lanes(lanes)
}

/// Finds the largest value; minus infinity for an empty slice.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = if *value > *lane { *value } else { *lane };
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = if lanes[lane + width] > lanes[lane] { lanes[lane + width] } else { lanes[lane] };
        }
        width /= 2;
    }
    lanes[0]
}

/// Computes `e^x` to about two units in the last place, in a form that compilers vectorise.
///
/// Splits `x = n ln 2 + r` with `|r| <= ln 2 / 2`, takes the Taylor polynomial of degree 7 in `r` and puts `n` into
/// the exponent. Arguments outside the range of `f32` saturate; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with so few bits that its product with `n` is exact (Cody and Waite).
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut p = 1.0 / 5040.0f32;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, coefficient);
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * power
}

/// Turns a row of scores into probabilities.
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32]) {
    let largest = max(row);
    for value in row.iter_mut() {
        *value = exp(*value - largest);
    }
    let scale = 1.0 / sum(row);
    for value in row.iter_mut() {
        *value *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in -8_700..8_800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn softmax_sums_to_one_for_any_length() {
        for length in 1..70 {
            let mut row: Vec<f32> = (0..length).map(|i| (i * 7 % 13) as f32).collect();
            softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}
