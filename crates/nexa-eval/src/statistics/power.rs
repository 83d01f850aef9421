//! How small a difference a comparison could have shown.

use crate::statistics::Z;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `(scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) * 0.02`, scipy 1.17.1.
    #[test]
    fn the_effect_is_a_multiple_of_the_standard_error() {
        assert_close(minimum_detectable_effect(0.02), 0.056_031_704_362_259_37, 1e-15, "effect");
    }
}
