//! McNemar's test, exact for every number of items.

/// Computes the two-sided p-value for `only_a` items that one model alone got right and `only_b` that the other did.
///
/// Were both equally good, each of these items would fall to either side like a fair coin, so the p-value is twice the
/// lower tail of the binomial distribution. Items on which both agree say nothing.
///
/// # Source
/// Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
/// Psychometrika 12 (1947), in its exact form.
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let (fewer, n) = (only_a.min(only_b), only_a + only_b);
    if only_a == only_b {
        return 1.0;
    }
    // The largest term of the tail, C(n, fewer) / 2^n; the halvings are spread over the product so that it neither
    // overflows nor loses digits to logarithms.
    let (mut largest, mut halvings) = (1.0, n);
    for k in 0..fewer {
        largest *= (n - k) as f64 / (k + 1) as f64;
        while largest > 1.0 && halvings > 0 {
            largest *= 0.5;
            halvings -= 1;
        }
    }
    largest *= (-(halvings as f64)).exp2();
    // Each smaller term is a share of the one before.
    let (mut share, mut tail) = (1.0, 1.0);
    for k in (1..=fewer).rev() {
        share *= k as f64 / (n - k + 1) as f64;
        tail += share;
        if share < tail * f64::EPSILON {
            break;
        }
    }
    (2.0 * largest * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue` 1.17.1.
    #[test]
    fn the_p_value_is_that_of_scipy() {
        let check = |only_a: usize, only_b: usize, expected: f64| {
            let found = mcnemar(only_a, only_b);
            assert_close(found, expected, expected * 1e-11, &format!("{only_a} against {only_b}"));
            assert_eq!(found, mcnemar(only_b, only_a));
        };
        check(0, 0, 1.0);
        check(1, 0, 1.0);
        check(5, 0, 0.0625);
        check(6, 0, 0.031_25);
        check(12, 2, 0.012_939_453_125);
        check(10, 10, 1.0);
        check(3, 15, 0.007_537_841_796_875);
        check(45, 70, 0.024_793_536_339_643_683);
        check(500, 600, 0.002_819_544_991_434_228_4);
        check(5_000, 5_300, 0.003_215_819_673_645_259);
        check(200_000, 201_500, 0.017_996_125_533_935_804);
    }

    /// By hand: 2 (1 + 7) / 2^7.
    #[test]
    fn a_small_table_can_be_counted() {
        assert_close(mcnemar(6, 1), 0.125, 1e-15, "6 against 1");
    }
}
