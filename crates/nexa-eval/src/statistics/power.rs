//! How small a difference a comparison could have shown.

use crate::statistics::{CONFIDENCE, Z};

/// The quantile of the standard normal distribution at 0.8, for a power of 80%.
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// Computes the smallest true difference that a two-sided test at 5% finds in four of five repetitions, from the
/// standard error of the difference.
///
/// # Source
/// E. Miller, "Adding error bars to evals", arXiv:2411.00640 (2024), section 5.
pub fn minimum_detectable_effect(standard_error: f64) -> f64 {
    (Z + Z_POWER) * standard_error
}

/// As [`minimum_detectable_effect`], where so many tests share the 5 %.
pub fn minimum_detectable_effect_among(standard_error: f64, tests: usize) -> f64 {
    let z = if tests <= 1 { Z } else { upper_quantile((1.0 - CONFIDENCE) / 2.0 / tests as f64) };
    (z + Z_POWER) * standard_error
}

/// The fewest documents that must differ, all to one side, before a paired test shows a difference where so many tests
/// share the 5 %: both McNemar's exact test and that of all swaps have `2^(1 - n)` as their smallest p-value.
pub fn fewest_to_show(tests: usize) -> usize {
    let smallest_p = |n: &usize| (1.0 - *n as f64).exp2() * tests.max(1) as f64;
    (1..=64).find(|n| smallest_p(n) < 1.0 - CONFIDENCE).unwrap_or(64)
}

/// The value that a standard normal variable exceeds with a chance of at most a half, to three decimals.
///
/// # Source
/// M. Abramowitz and I. A. Stegun, "Handbook of mathematical functions" (1964), 26.2.23.
fn upper_quantile(chance: f64) -> f64 {
    let t = (-2.0 * chance.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{assert_close, mcnemar};

    /// Expected: `(scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) * 0.02`, scipy 1.17.1.
    #[test]
    fn the_effect_is_a_multiple_of_the_standard_error() {
        assert_close(minimum_detectable_effect(0.02), 0.056_031_704_362_259_37, 1e-15, "effect");
    }

    /// Expected: `scipy.stats.norm.isf`, 1.17.1; the approximation is good to 4.5e-4.
    #[test]
    fn several_tests_need_a_larger_effect() {
        for (chance, expected) in [(0.025, 1.959_964), (0.005, 2.575_829), (0.000_5, 3.290_527)] {
            assert_close(upper_quantile(chance), expected, 4.5e-4, "quantile");
        }
        assert_eq!(minimum_detectable_effect_among(0.02, 1), minimum_detectable_effect(0.02));
        assert_close(minimum_detectable_effect_among(0.02, 5), (2.575_829 + Z_POWER) * 0.02, 1e-5, "effect");
    }

    #[test]
    fn few_documents_show_nothing() {
        for (tests, expected) in [(1, 6), (2, 7), (10, 9)] {
            let found = fewest_to_show(tests);
            assert_eq!(found, expected);
            assert!(mcnemar(found, 0) * tests as f64 <= 0.05 && mcnemar(found - 1, 0) * tests as f64 > 0.05);
        }
    }
}
