//! Means of items that are not independent of each other: those of one cluster share a source.
//!
//! # Source
//! E. Miller, "Adding error bars to evals", arXiv:2411.00640 (2024), section 2.2: the clustered standard error.
//!
//! # Departures
//! With the factor `G / (G - 1)` for `G` clusters, so that items which are each a cluster of their own get exactly the
//! standard error of [`mean`](super::mean()).

use std::collections::HashMap;

use crate::statistics::bootstrap::{Ratio, Spread, ratio, spread};
use crate::statistics::proportion::score_interval;
use crate::statistics::random::Draws;
use crate::statistics::{Estimate, Z};

/// The positions of the items of each cluster, in the order in which clusters first occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters(Vec<Vec<usize>>);

impl Clusters {
    /// Puts together items whose clusters have the same name.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_sources(names.into_iter().map(Some))
    }

    /// Puts together items of the same source; one that names none is a cluster of its own.
    pub(crate) fn of_sources<'a>(sources: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut known = HashMap::new();
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        for (position, source) in sources.into_iter().enumerate() {
            let next = clusters.len();
            let at = source.map_or(next, |name| *known.entry(name).or_insert(next));
            if at == next {
                clusters.push(Vec::new());
            }
            clusters[at].push(position);
        }
        Self(clusters)
    }

    /// The clusters of items, where some share a source: else items are independent.
    pub(crate) fn shared(sources: &[Option<&str>]) -> Option<Self> {
        Some(Self::of_sources(sources.iter().copied())).filter(|clusters| clusters.len() < sources.len())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds up the items of each cluster, which make one item of the same ratio.
    pub(crate) fn sums(&self, items: &[Ratio]) -> Vec<Ratio> {
        let add = |a: Ratio, b: Ratio| Ratio {
            numerator: a.numerator + b.numerator,
            denominator: a.denominator + b.denominator,
        };
        let sum = |cluster: &Vec<usize>| cluster.iter().map(|&at| items[at]).reduce(add);
        self.0.iter().filter_map(sum).collect()
    }

    /// Computes a statistic over so many resamples of whole clusters; undefined values are left out.
    pub(crate) fn resample(
        &self,
        rounds: usize,
        seed: u64,
        mut statistic: impl FnMut(&[usize]) -> Option<f64>,
    ) -> Option<Spread> {
        let mut draws = Draws::new(seed);
        let mut chosen = Vec::new();
        let mut values = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            self.draw(&mut draws, &mut chosen);
            values.extend(statistic(&chosen));
        }
        spread(values)
    }

    /// Draws as many clusters as there are, with replacement, and puts their items together.
    pub(crate) fn draw(&self, draws: &mut Draws, chosen: &mut Vec<usize>) {
        chosen.clear();
        for _ in 0..self.0.len() {
            chosen.extend_from_slice(&self.0[draws.index(self.0.len())]);
        }
    }
}

/// The mean of all items and its standard error over clusters; there is none of no items, and no error of one cluster.
fn moments(values: &[f64], clusters: &Clusters) -> Option<(f64, Option<f64>)> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let of_cluster = |items: &Vec<usize>| items.iter().map(|&at| values[at] - value).sum::<f64>().powi(2);
    let squares: f64 = clusters.0.iter().map(of_cluster).sum();
    let count = clusters.len() as f64;
    let error = (clusters.len() > 1).then(|| (squares * count / (count - 1.0)).sqrt() / n);
    Some((value, error))
}

/// The standard error of a mean over clusters; unknown for one cluster.
pub fn clustered_standard_error(values: &[f64], clusters: &Clusters) -> Option<f64> {
    moments(values, clusters)?.1
}

/// Estimates a corpus ratio as [`ratio`] does; where items share sources, whole sources are resampled for the interval.
pub fn clustered_ratio(
    items: &[Ratio],
    clusters: Option<&Clusters>,
    seed: u64,
    transform: fn(f64) -> f64,
) -> Option<Estimate> {
    let clustered = clusters.and_then(|clusters| ratio(&clusters.sums(items), seed, transform));
    Some(ratio(items, seed, transform)?.within(clustered))
}

/// Estimates the mean of some values, with a normal interval over clusters.
///
/// # Panics
/// If the clusters are not of these values.
pub fn clustered_mean(values: &[f64], clusters: &Clusters) -> Option<Estimate> {
    let (value, error) = moments(values, clusters)?;
    Some(Estimate {
        value,
        standard_error: error,
        ci_low: error.map(|error| value - Z * error),
        ci_high: error.map(|error| value + Z * error),
        n: values.len(),
    })
}

/// Estimates the mean of values from 0 to 1, such as preferences with ties, with Wilson's interval at the number of
/// independent outcomes that the clustered standard error amounts to: it keeps within the bounds and has a width even
/// where all values are the same.
///
/// # Panics
/// If the clusters are not of these values.
///
/// # Source
/// N. Dean and M. Pagano, "Evaluating confidence interval methods for binomial proportions in clustered surveys", Journal
/// of Survey Statistics and Methodology 3 (2015): the Wilson interval at the effective sample size.
pub fn clustered_share(values: &[f64], clusters: &Clusters) -> Option<Estimate> {
    let (value, error) = moments(values, clusters)?;
    // A sum of thirds may be a last digit more than it is.
    let value = value.clamp(0.0, 1.0);
    let effective = match error {
        Some(error) if error > 0.0 => value * (1.0 - value) / (error * error),
        _ => clusters.len() as f64,
    };
    let (low, high) = score_interval(value, effective);
    Some(Estimate { value, standard_error: error, ci_low: Some(low), ci_high: Some(high), n: values.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{assert_close, mean, wilson};

    #[test]
    fn items_alone_in_their_clusters_are_independent() {
        let values = [2.5, -1.0, 7.25, 0.0, 3.0, 3.0];
        let found = clustered_mean(&values, &Clusters::of(["a", "b", "c", "d", "e", "f"])).unwrap();
        let expected = mean(&values).unwrap();
        assert_close(found.value, expected.value, 1e-15, "mean");
        assert_close(found.standard_error.unwrap(), expected.standard_error.unwrap(), 1e-15, "error");
    }

    /// By hand: the mean is 4, the clusters deviate by -4 and 4 in sum, so the error is sqrt(32 * 2) / 4.
    #[test]
    fn a_cluster_counts_as_its_sum() {
        let values = [1.0, 3.0, 5.0, 7.0];
        let found = clustered_mean(&values, &Clusters::of(["a", "a", "b", "b"])).unwrap();
        assert_close(found.standard_error.unwrap(), 2.0, 1e-15, "error");
        let one = clustered_mean(&values, &Clusters::of(["a"; 4])).unwrap();
        assert_eq!((one.standard_error, one.ci_low), (None, None));
        assert_eq!(clustered_mean(&[], &Clusters::of([])), None);
    }

    #[test]
    fn the_interval_of_a_ratio_is_over_sources() {
        let items: Vec<Ratio> =
            (0..12).map(|at| Ratio { numerator: f64::from(at / 3), denominator: 2.0 }).collect();
        let names = ["a", "a", "a", "b", "b", "b", "c", "c", "c", "d", "d", "d"];
        let alone = clustered_ratio(&items, None, 0, |share| share).unwrap();
        let clusters = Clusters::of(names);
        let found = clustered_ratio(&items, Some(&clusters), 0, |share| share).unwrap();
        assert_eq!((found.value, found.n, found.standard_error), (0.75, 12, alone.standard_error));
        let width = |one: &Estimate| one.ci_high.unwrap() - one.ci_low.unwrap();
        // Three equal items say no more than one.
        assert!(width(&found) > 1.5 * width(&alone), "{found:?} {alone:?}");
        assert_eq!(Clusters::shared(&names.map(Some)), Some(clusters));
        assert_eq!(Clusters::shared(&[Some("a"), Some("b")]), None);
        assert_eq!(Clusters::shared(&[None, None]), None);
        // One without a source is one of its own.
        let found = Clusters::shared(&[Some("a"), None, Some("a"), None]);
        assert_eq!(found, Some(Clusters::of(["a", "b", "a", "c"])));
    }

    #[test]
    fn a_share_keeps_within_its_bounds() {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let clusters = Clusters::of(names.iter().map(String::as_str));
        let all = clustered_share(&[1.0; 10], &clusters).unwrap();
        assert_eq!((all.ci_low, all.ci_high), (wilson(10, 10).map(|(low, _)| low), Some(1.0)));
        // Each item twice in a cluster is no more than each item once.
        let outcomes = [1.0, 1.0, 1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 1.0, 1.0];
        let once = clustered_share(&outcomes, &clusters).unwrap();
        let names = names.iter().flat_map(|name| [name.as_str(); 2]);
        let twice = clustered_share(&outcomes.map(|outcome| [outcome; 2]).concat(), &Clusters::of(names));
        let twice = twice.unwrap();
        assert_close(once.ci_low.unwrap(), twice.ci_low.unwrap(), 1e-12, "low");
        assert_close(once.ci_high.unwrap(), twice.ci_high.unwrap(), 1e-12, "high");
    }
}
