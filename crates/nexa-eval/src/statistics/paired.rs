//! Two models on the same items.
//!
//! Which items are hard is common to both models and cancels in the difference; an unpaired test would throw that away.

use serde::{Deserialize, Serialize};

use crate::statistics::bootstrap::{DRAWS, Ratio, divide, resample};
use crate::statistics::random::Draws;
use crate::statistics::{Clusters, Difference, mcnemar, mean, wilson};

/// How two models' right and wrong answers fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairedOutcomes {
    /// Items that both got right.
    pub both: usize,
    /// Items that the first alone got right.
    pub only_a: usize,
    /// Items that the second alone got right.
    pub only_b: usize,
    /// Items that both got wrong.
    pub neither: usize,
}

impl PairedOutcomes {
    /// Counts pairs of outcomes, of the first and the second model.
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for pair in pairs {
            match pair {
                (true, true) => counts.both += 1,
                (true, false) => counts.only_a += 1,
                (false, true) => counts.only_b += 1,
                (false, false) => counts.neither += 1,
            }
        }
        counts
    }

    /// Counts pairs of ratios, where each is of a whole item that is right, 1, or wrong, 0; none where one is anything else.
    pub fn of_ratios(a: &[Ratio], b: &[Ratio]) -> Option<Self> {
        let is_outcome =
            |one: &Ratio| one.denominator == 1.0 && (one.numerator == 0.0 || one.numerator == 1.0);
        let right = |(a, b): (&Ratio, &Ratio)| (a.numerator == 1.0, b.numerator == 1.0);
        a.iter().chain(b).all(is_outcome).then(|| Self::count(a.iter().zip(b).map(right)))
    }

    /// Number of items.
    pub fn n(&self) -> usize {
        self.both + self.only_a + self.only_b + self.neither
    }
}

/// Computes the difference of two shares of right answers; there is none on no items.
///
/// The p-value is McNemar's, exact, and decides; the interval is Newcombe's, which has a width even where the models
/// never disagree.
///
/// # Source
/// R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
/// data", Statistics in Medicine 17 (1998), method 10.
pub fn proportion_difference(counts: &PairedOutcomes) -> Option<Difference> {
    let PairedOutcomes { both, only_a, only_b, neither } = *counts;
    let n = counts.n();
    let (right_a, right_b) = (both + only_a, both + only_b);
    let ((low_a, high_a), (low_b, high_b)) = (wilson(right_a, n)?, wilson(right_b, n)?);
    let (share_a, share_b) = (right_a as f64 / n as f64, right_b as f64 / n as f64);
    let value = (only_a as f64 - only_b as f64) / n as f64;
    let correlation = correlation(counts);
    let reach =
        |one: f64, other: f64| (one * one - 2.0 * correlation * one * other + other * other).max(0.0).sqrt();
    let differences: Vec<f64> = [(1.0, only_a), (-1.0, only_b), (0.0, both + neither)]
        .iter()
        .flat_map(|&(difference, count)| std::iter::repeat_n(difference, count))
        .collect();
    Some(Difference {
        value,
        standard_error: mean(&differences)?.standard_error,
        ci_low: Some(value - reach(share_a - low_a, high_b - share_b)),
        ci_high: Some(value + reach(high_a - share_a, share_b - low_b)),
        p_value: mcnemar(only_a, only_b),
        n,
    })
}

/// What two models have of the same items, put together where the items are not independent: those of one source become one
/// item, and one that names no source stays as it is.
///
/// Resampling and swapping whole sources is the paired test that goes with a clustered standard error.
pub fn independent<'a>(
    pairs: impl IntoIterator<Item = (Ratio, Ratio, Option<&'a str>)>,
) -> (Vec<Ratio>, Vec<Ratio>) {
    let (mut a, mut b, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (of_a, of_b, source) in pairs {
        a.push(of_a);
        b.push(of_b);
        sources.push(source);
    }
    match Clusters::shared(&sources) {
        Some(clusters) => (clusters.sums(&a), clusters.sums(&b)),
        None => (a, b),
    }
}

/// Computes the difference of two models over the same items by the test that is theirs: [`proportion_difference`] where every
/// item is right or wrong, else [`ratio_difference`].
///
/// # Panics
/// As [`ratio_difference`].
pub fn paired_difference(a: &[Ratio], b: &[Ratio], seed: u64) -> Option<Difference> {
    match PairedOutcomes::of_ratios(a, b) {
        Some(outcomes) => proportion_difference(&outcomes),
        None => ratio_difference(a, b, seed),
    }
}

/// The correlation of two models' outcomes as method 10 estimates it: a positive one is corrected for continuity.
fn correlation(counts: &PairedOutcomes) -> f64 {
    let [both, only_a, only_b, neither] =
        [counts.both, counts.only_a, counts.only_b, counts.neither].map(|count| count as f64);
    let margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither);
    if margins == 0.0 {
        return 0.0;
    }
    let excess = both * neither - only_a * only_b;
    let corrected = if excess > 0.0 { (excess - counts.n() as f64 / 2.0).max(0.0) } else { excess };
    corrected / margins.sqrt()
}

/// Computes the difference of two corpus ratios over the same items; there is none where either is undefined.
///
/// The interval is a percentile bootstrap over items; the p-value is that of the permutation test that swaps the two
/// models' results of an item, over all swaps where they are at most [`DRAWS`], else over as many random ones.
///
/// # Panics
/// If the two slices differ in length.
///
/// # Source
/// M. D. Ernst, "Permutation methods: a basis for exact inference", Statistical Science 19 (2004), section 2. A
/// p-value of random swaps counts the observed one in, so that it is never 0.
pub fn ratio_difference(a: &[Ratio], b: &[Ratio], seed: u64) -> Option<Difference> {
    assert_eq!(a.len(), b.len(), "paired items come in pairs");
    let undefined = |items: &[Ratio]| items.iter().all(|item| item.denominator == 0.0);
    if undefined(a) || undefined(b) {
        return None;
    }
    let n = a.len();
    let value = divide(a.iter().copied()) - divide(b.iter().copied());
    let spread = (n > 1).then(|| {
        resample(n, seed, |chosen| {
            divide(chosen.iter().map(|&at| a[at])) - divide(chosen.iter().map(|&at| b[at]))
        })
    });
    let spread = spread.flatten();
    Some(Difference {
        value,
        standard_error: spread.map(|spread| spread.standard_error),
        ci_low: spread.map(|spread| spread.low),
        ci_high: spread.map(|spread| spread.high),
        p_value: permutation(a, b, value.abs(), seed),
        n,
    })
}

fn permutation(a: &[Ratio], b: &[Ratio], observed: f64, seed: u64) -> f64 {
    let n = a.len();
    // Swaps that give the same difference in another order of summation must count as equal.
    let threshold = observed * (1.0 - 1e-12);
    let difference = |is_swapped: &dyn Fn(usize) -> bool| {
        let side = |keep: &[Ratio], swap: &[Ratio]| {
            divide((0..n).map(|at| if is_swapped(at) { swap[at] } else { keep[at] }))
        };
        side(a, b) - side(b, a)
    };
    let reaches = |is_swapped: &dyn Fn(usize) -> bool| {
        let found = difference(is_swapped).abs();
        usize::from(found >= threshold)
    };
    if n < usize::BITS as usize && 1_usize << n <= DRAWS {
        let all = 1_usize << n;
        let reached: usize = (0..all).map(|swaps| reaches(&|at| swaps >> at & 1 == 1)).sum();
        return reached as f64 / all as f64;
    }
    let mut draws = Draws::new(seed);
    let mut swaps = vec![0; n.div_ceil(64)];
    let mut reached = 0;
    for _ in 0..DRAWS {
        swaps.fill_with(|| draws.bits());
        reached += reaches(&|at| swaps[at / 64] >> (at % 64) & 1 == 1);
    }
    (reached + 1) as f64 / (DRAWS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    #[test]
    fn items_of_one_source_become_one() {
        let outcome = Ratio::outcome;
        let items = [(true, false, "x"), (true, true, "y"), (false, false, "x"), (true, false, "x")];
        let pair = |(a, b, source): (bool, bool, &'static str)| (outcome(a), outcome(b), Some(source));
        let (a, b) = independent(items.map(pair));
        let ratio = |numerator, denominator| Ratio { numerator, denominator };
        assert_eq!(a, [ratio(2.0, 3.0), ratio(1.0, 1.0)]);
        assert_eq!(b, [ratio(0.0, 3.0), ratio(1.0, 1.0)]);
        let found = paired_difference(&a, &b, 0).unwrap();
        assert_eq!((found.value, found.n), (0.5, 2));
        // One without a source is one of its own, and nothing is put together where none has any.
        let mut loose = items.map(pair);
        loose[1].2 = None;
        assert_eq!(independent(loose), (a, b));
        let (a, b) = independent(items.map(|(a, b, _)| (outcome(a), outcome(b), None)));
        assert_eq!((a.len(), b.len()), (4, 4));
        assert_eq!(paired_difference(&a, &b, 0).unwrap().value, 0.5);
    }

    /// Expected: the published formula over the Wilson limits of scipy 1.17.1.
    #[test]
    fn the_interval_is_newcombes() {
        let check = |[both, only_a, only_b, neither]: [usize; 4], value: f64, low: f64, high: f64| {
            let counts = PairedOutcomes { both, only_a, only_b, neither };
            let found = proportion_difference(&counts).unwrap();
            assert_close(found.value, value, 1e-14, "value");
            assert_close(found.ci_low.unwrap(), low, 1e-12, "low");
            assert_close(found.ci_high.unwrap(), high, 1e-12, "high");
        };
        check([36, 12, 2, 0], 0.2, 0.056_929_584_003_238_75, 0.340_427_602_974_940_8);
        check([36, 14, 0, 0], 0.28, 0.152_839_517_855_857_23, 0.416_651_236_959_565_63);
        check([2, 98, 0, 0], 0.98, 0.917_793_102_299_938_4, 0.994_498_032_449_837_6);
        check(
            [212, 144, 256, 707],
            -0.084_912_812_736_921_92,
            -0.114_191_532_805_067_1,
            -0.055_433_472_684_332_88,
        );
        check([53, 0, 0, 1], 0.0, -0.072_938_145_478_577_02, 0.072_938_145_478_577_02);
        check([0, 0, 30, 0], -1.0, -1.0, -0.839_467_819_862_383_8);
    }

    #[test]
    fn pairs_are_counted_and_tested() {
        let pairs = [(true, true), (true, false), (true, false), (false, true), (false, false)];
        let counts = PairedOutcomes::count(pairs);
        assert_eq!(counts, PairedOutcomes { both: 1, only_a: 2, only_b: 1, neither: 1 });
        let found = proportion_difference(&counts).unwrap();
        assert_eq!(found.p_value, 1.0);
        // By hand: the differences 0, 1, 1, -1, 0 have mean 0.2 and variance 0.7.
        assert_close(found.standard_error.unwrap(), (0.7_f64 / 5.0).sqrt(), 1e-15, "standard error");
        assert_eq!(proportion_difference(&PairedOutcomes::default()), None);
    }

    fn pair(above: &[f64], below: &[f64]) -> Vec<Ratio> {
        let item = |(&numerator, &denominator)| Ratio { numerator, denominator };
        above.iter().zip(below).map(item).collect()
    }

    /// Expected: `scipy.stats.permutation_test(…, permutation_type="samples", n_resamples=inf)`, which goes through
    /// all swaps, and `scipy.stats.bootstrap` with 2,000,000 draws, both 1.17.1.
    #[test]
    fn few_items_are_tested_exactly() {
        let below = [20.0, 9.0, 14.0, 22.0, 10.0, 17.0, 15.0, 16.0, 5.0, 21.0, 12.0, 13.0];
        let a = pair(&[10.5, 3.2, 7.7, 12.1, 4.4, 9.9, 6.3, 8.8, 2.1, 11.0, 5.5, 7.1], &below);
        let b = pair(&[9.9, 3.5, 7.0, 11.0, 4.6, 9.0, 6.1, 8.9, 2.0, 10.1, 5.0, 7.3], &below);
        let found = ratio_difference(&a, &b, 1).unwrap();
        assert_close(found.value, 0.024_137_931_034_482_776, 1e-15, "value");
        assert_eq!(found.p_value, 0.039_550_781_25);
        assert_close(found.ci_low.unwrap(), 0.006_666_667, 1e-3, "low");
        assert_close(found.ci_high.unwrap(), 0.038_095_238, 1e-3, "high");
        assert_close(found.standard_error.unwrap(), 0.008_050_055, 3e-4, "standard error");
    }

    /// Expected: as above, over all 2^20 swaps; the tolerance is four standard errors of 10,000 draws.
    #[test]
    fn many_items_are_tested_by_random_swaps() {
        let a = [
            1.3, 0.2, 2.4, 1.1, 0.9, 3.1, 2.2, 0.7, 1.8, 1.4, 2.0, 0.5, 1.6, 1.9, 2.7, 0.8, 1.2, 2.3, 1.7,
            0.6,
        ];
        let step = [
            0.3, -0.1, 0.2, 0.4, -0.2, 0.1, 0.5, -0.3, 0.2, 0.1, -0.1, 0.3, 0.2, -0.4, 0.6, 0.1, -0.2, 0.3,
            0.2, -0.1,
        ];
        let b: Vec<f64> = a.iter().zip(step).map(|(a, step)| a - step).collect();
        let ones = [1.0; 20];
        let found = ratio_difference(&pair(&a, &ones), &pair(&b, &ones), 9).unwrap();
        assert_close(found.p_value, 0.114_048_004_150_390_62, 4.0 * 0.003_18, "p");
        let turned = ratio_difference(&pair(&b, &ones), &pair(&a, &ones), 9).unwrap();
        assert_eq!((turned.value, turned.p_value), (-found.value, found.p_value));
    }

    #[test]
    fn equal_models_do_not_differ() {
        let a = pair(&[1.0, 2.0, 3.0], &[2.0, 2.0, 2.0]);
        let found = ratio_difference(&a, &a, 0).unwrap();
        assert_eq!((found.value, found.p_value), (0.0, 1.0));
        assert_eq!(ratio_difference(&[], &[], 0), None);
    }
}
