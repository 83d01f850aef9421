//! Proportions, with the score interval of Wilson.

use crate::statistics::{Estimate, Z, mean};

/// Computes the Wilson score interval of `successes` out of `n`; there is none for `n = 0`.
///
/// # Source
/// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
pub fn wilson(successes: usize, n: usize) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    Some(score_interval(successes as f64 / n as f64, n as f64))
}

/// The same for a share of any number of outcomes, which need not be whole.
pub(crate) fn score_interval(p: f64, n: f64) -> (f64, f64) {
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At the ends the formula gives exactly 0 and 1, which rounding must not miss.
    let low = if p == 0.0 { 0.0 } else { centre - half };
    let high = if p == 1.0 { 1.0 } else { centre + half };
    (low, high)
}

/// Estimates the share of right outcomes, with its Wilson interval; there is none of no outcomes.
pub fn proportion(outcomes: &[bool]) -> Option<Estimate> {
    let values: Vec<f64> = outcomes.iter().map(|&right| f64::from(u8::from(right))).collect();
    let mean = mean(&values)?;
    let (low, high) = wilson(outcomes.iter().filter(|&&right| right).count(), outcomes.len())?;
    Some(Estimate {
        value: mean.value,
        standard_error: mean.standard_error,
        ci_low: Some(low),
        ci_high: Some(high),
        n: outcomes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")` 1.17.1.
    #[test]
    fn the_interval_is_that_of_scipy() {
        let check = |k: usize, n: usize, low: f64, high: f64| {
            let found = wilson(k, n).unwrap();
            assert_close(found.0, low, 1e-14, "low");
            assert_close(found.1, high, 1e-14, "high");
        };
        check(0, 10, 0.0, 0.277_532_799_862_889_26);
        check(10, 10, 0.722_467_200_137_110_9, 1.0);
        check(5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436_1);
        check(81, 263, 0.255_288_519_878_274_2, 0.366_209_576_982_800_04);
        check(15, 148, 0.062_386_399_530_736_29, 0.160_487_241_723_303_1);
        check(1, 29, 0.006_113_214_292_762_667, 0.171_755_218_793_202_83);
        check(660, 1319, 0.473_433_850_018_849_6, 0.527_322_098_468_652_1);
    }

    #[test]
    fn a_proportion_of_nothing_is_unknown() {
        assert_eq!(proportion(&[]), None);
        let one = proportion(&[true]).unwrap();
        assert_eq!((one.value, one.standard_error, one.ci_high), (1.0, None, Some(1.0)));
    }
}
