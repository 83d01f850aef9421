//! The tails of the standard normal distribution, for tests over so many items that the mean is normal.

use std::f64::consts::PI;

/// From here on the continued fraction is short; below it the series is.
const SERIES_UNTIL: f64 = 3.0;
/// Terms after which either has converged to the last digit.
const TERMS: usize = 200;

/// The probability of a value at least as far from 0 as `z`, on either side.
///
/// # Source
/// M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.2.11 and 26.2.14.
pub(crate) fn two_sided(z: f64) -> f64 {
    let x = z.abs();
    let density = (-x * x / 2.0).exp() / (2.0 * PI).sqrt();
    if x < SERIES_UNTIL {
        // The area from 0 to x is the density times x + x³/3 + x⁵/(3·5) + …
        let mut term = x;
        let mut sum = x;
        for step in 1..TERMS {
            term *= x * x / (2 * step + 1) as f64;
            sum += term;
        }
        return (1.0 - 2.0 * density * sum).clamp(0.0, 1.0);
    }
    // The area behind x is the density over x + 1/(x + 2/(x + 3/(x + …))).
    let below = (1..TERMS).rev().fold(x, |below, step| x + step as f64 / below);
    2.0 * density / below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Z, assert_close};

    /// Expected: `2 * scipy.stats.norm.sf(z)` as 2 Φ(-z), to the digits that are published for these quantiles.
    #[test]
    fn the_tails_are_those_of_the_tables() {
        assert_eq!(two_sided(0.0), 1.0);
        assert_close(two_sided(Z), 0.05, 1e-15, "z of 95%");
        assert_close(two_sided(-1.0), 0.317_310_507_862_914, 1e-14, "one");
        assert_close(two_sided(2.999_999_999), two_sided(3.000_000_001), 1e-10, "where the methods meet");
        assert_close(two_sided(3.0), 0.002_699_796_063_260_19, 1e-16, "three");
        assert_close(two_sided(6.0) / 1.973_175_290_075_396e-9, 1.0, 1e-12, "six");
        assert!(two_sided(40.0) >= 0.0 && two_sided(40.0) < 1e-300);
    }
}
