//! Numbers that are no plain means, with intervals from resampled clusters of items.
//!
//! # Source
//! B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: percentiles; whole clusters are
//! drawn, so that items which share a source are drawn together.

use crate::statistics::random::Draws;
use crate::statistics::{Clusters, Estimate, spread};

/// Rounds of the bootstrap.
const ROUNDS: usize = 1_000;

/// Estimates what a statistic tells of `n` items, given by their positions; all of its numbers come from the same draws.
/// There is none where it tells nothing of all items together, and rounds of which it tells nothing are left out.
///
/// Where every round says the same, as those of one cluster do, they hold no hint of how far off a number may be, and its
/// interval is unknown.
pub(super) fn resampled<const N: usize>(
    n: usize,
    clusters: &Clusters,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> Option<[f64; N]>,
) -> Option<[Estimate; N]> {
    let mut chosen: Vec<usize> = (0..n).collect();
    let values = statistic(&chosen)?;
    let mut draws = Draws::new(seed);
    let mut rounds: Vec<[f64; N]> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        clusters.draw(&mut draws, &mut chosen);
        rounds.extend(statistic(&chosen));
    }
    let estimate = |at: usize| {
        let spread = spread(rounds.iter().map(|round| round[at]).collect());
        let spread = spread.filter(|spread| spread.low < spread.high);
        Estimate {
            value: values[at],
            standard_error: spread.map(|spread| spread.standard_error),
            ci_low: spread.map(|spread| spread.low),
            ci_high: spread.map(|spread| spread.high),
            n,
        }
    };
    Some(std::array::from_fn(estimate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{assert_close, clustered_mean};

    /// Of a mean the bootstrap must find what there is a formula for: 40 clusters of two, whose error it knows to a tenth.
    #[test]
    fn the_error_of_a_mean_is_that_of_its_formula() {
        let values: Vec<f64> =
            (0..80).map(|item| f64::from(item / 2 % 7) + 0.25 * f64::from(item % 3)).collect();
        let names: Vec<String> = (0..80).map(|item| (item / 2).to_string()).collect();
        let clusters = Clusters::of(names.iter().map(String::as_str));
        let mean = |chosen: &[usize]| {
            let sum: f64 = chosen.iter().map(|&at| values[at]).sum();
            Some([sum / chosen.len() as f64, chosen.len() as f64])
        };
        let [found, count] = resampled(80, &clusters, 3, mean).unwrap();
        let expected = clustered_mean(&values, &clusters).unwrap();
        assert_close(found.value, expected.value, 1e-12, "mean");
        let error = expected.standard_error.unwrap();
        assert_close(found.standard_error.unwrap(), error, 0.1 * error, "error");
        assert_close(found.ci_low.unwrap(), expected.ci_low.unwrap(), 0.4 * error, "low");
        assert_close(found.ci_high.unwrap(), expected.ci_high.unwrap(), 0.4 * error, "high");
        assert_eq!((count.value, count.ci_low, count.n), (80.0, None, 80), "it never varies");
        assert_eq!(resampled(80, &clusters, 3, mean).unwrap()[0], found, "the seed decides the draws");
        assert_eq!(resampled::<1>(80, &clusters, 3, |_| None), None);
    }

    #[test]
    fn one_cluster_has_no_interval() {
        let one = Clusters::of(["a"; 3]);
        let [found] = resampled(3, &one, 0, |chosen| Some([chosen.len() as f64])).unwrap();
        assert_eq!((found.value, found.standard_error, found.ci_low, found.ci_high), (3.0, None, None, None));
    }
}
