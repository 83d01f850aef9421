//! The percentile bootstrap, for corpus ratios such as bits per byte.
//!
//! A corpus ratio is a sum over a sum, never a mean of ratios, so its items are resampled and the ratio is taken anew.
//!
//! # Source
//! B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 13.

use crate::statistics::random::Draws;
use crate::statistics::{CONFIDENCE, Estimate};

/// The number of draws.
pub const DRAWS: usize = 10_000;

/// What one item adds to the two sums of a corpus ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Above the line.
    pub numerator: f64,
    /// Below it; not negative.
    pub denominator: f64,
}

impl Ratio {
    /// A whole item that is right or wrong.
    pub fn outcome(is_right: bool) -> Self {
        Self { numerator: f64::from(u8::from(is_right)), denominator: 1.0 }
    }
}

/// Sums the items and divides.
pub(crate) fn divide(items: impl Iterator<Item = Ratio>) -> f64 {
    let (above, below) =
        items.fold((0.0, 0.0), |(above, below), item| (above + item.numerator, below + item.denominator));
    above / below
}

/// Estimates `transform(sum of numerators / sum of denominators)`.
///
/// The interval lies between the percentiles of [`DRAWS`] resamples, and the standard error is their standard
/// deviation. A resample whose denominators sum to 0 is left out. There is no estimate where those of all items do.
pub fn ratio(items: &[Ratio], seed: u64, transform: fn(f64) -> f64) -> Option<Estimate> {
    if items.iter().all(|item| item.denominator == 0.0) {
        return None;
    }
    let value = transform(divide(items.iter().copied()));
    let spread = (items.len() > 1)
        .then(|| resample(items.len(), seed, |chosen| transform(divide(chosen.iter().map(|&at| items[at])))));
    let spread = spread.flatten();
    Some(Estimate {
        value,
        standard_error: spread.map(|spread| spread.standard_error),
        ci_low: spread.map(|spread| spread.low),
        ci_high: spread.map(|spread| spread.high),
        n: items.len(),
    })
}

/// How a statistic varies over resamples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) standard_error: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Computes a statistic over [`DRAWS`] resamples of `n` items with replacement; undefined values are left out.
pub(super) fn resample(n: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Option<Spread> {
    let mut draws = Draws::new(seed);
    let mut chosen = vec![0; n];
    let mut values = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        chosen.fill_with(|| draws.index(n));
        values.push(statistic(&chosen));
    }
    spread(values)
}

/// How values of resamples vary; undefined ones are left out.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.retain(|value| value.is_finite());
    if values.len() < 2 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Spread {
        standard_error: variance.sqrt(),
        low: percentile(&values, tail),
        high: percentile(&values, 1.0 - tail),
    })
}

/// Interpolates linearly between the two nearest of some sorted values, at `share * (count - 1)`.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    fn items() -> Vec<Ratio> {
        let above = [10.5, 3.2, 7.7, 12.1, 4.4, 9.9, 6.3, 8.8, 2.1, 11.0, 5.5, 7.1];
        let below = [20.0, 9.0, 14.0, 22.0, 10.0, 17.0, 15.0, 16.0, 5.0, 21.0, 12.0, 13.0];
        let pair = |(numerator, denominator)| Ratio { numerator, denominator };
        above.into_iter().zip(below).map(pair).collect()
    }

    /// Expected: `scipy.stats.bootstrap(…, paired=True, method="percentile", n_resamples=2_000_000)` 1.17.1. The
    /// tolerance is five times the Monte Carlo error of 10,000 draws.
    #[test]
    fn the_interval_agrees_with_scipy() {
        let found = ratio(&items(), 1, |x| x).unwrap();
        assert_close(found.value, 0.509_195_402_298_850_5, 1e-15, "value");
        assert_close(found.ci_low.unwrap(), 0.471_428_571, 2e-3, "low");
        assert_close(found.ci_high.unwrap(), 0.537_681_159, 2e-3, "high");
        assert_close(found.standard_error.unwrap(), 0.016_970_208, 6e-4, "standard error");
    }

    #[test]
    fn the_transform_acts_on_value_and_ends() {
        let (plain, exp) = (ratio(&items(), 5, |x| x).unwrap(), ratio(&items(), 5, f64::exp).unwrap());
        assert_eq!(exp.value, plain.value.exp());
        assert_close(exp.ci_low.unwrap(), plain.ci_low.unwrap().exp(), 1e-6, "low");
        assert_close(exp.ci_high.unwrap(), plain.ci_high.unwrap().exp(), 1e-6, "high");
    }

    #[test]
    fn the_seed_alone_decides_the_draws() {
        assert_eq!(ratio(&items(), 3, |x| x), ratio(&items(), 3, |x| x));
        assert_ne!(ratio(&items(), 3, |x| x), ratio(&items(), 4, |x| x));
    }

    #[test]
    fn what_cannot_be_known_is_absent() {
        let item = |numerator, denominator| Ratio { numerator, denominator };
        assert_eq!(ratio(&[], 0, |x| x), None);
        assert_eq!(ratio(&[item(1.0, 0.0)], 0, |x| x), None);
        let one = ratio(&[item(1.0, 2.0)], 0, |x| x).unwrap();
        assert_eq!((one.value, one.standard_error, one.ci_low, one.ci_high), (0.5, None, None, None));
        let partly = ratio(&[item(1.0, 0.0), item(1.0, 2.0)], 0, |x| x).unwrap();
        assert!(partly.ci_high.is_some_and(f64::is_finite), "{partly:?}");
    }

    #[test]
    fn percentiles_interpolate() {
        let check = |share: f64, expected: f64| assert_eq!(percentile(&[0.0, 10.0, 20.0], share), expected);
        check(0.0, 0.0);
        check(0.25, 5.0);
        check(1.0, 20.0);
    }
}
