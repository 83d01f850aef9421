//! Standard errors where items share a source: a passage with several questions, a problem in several wordings.

use std::collections::BTreeMap;

use crate::statistics::mean;

/// The standard error of a mean whose items come in clusters, and the number of clusters. Unknown for one item or one
/// cluster.
///
/// # Source
/// E. Miller, "Adding Error Bars to Evals" (2024), equation 4: the squared error of independent items, and to it the
/// products of the deviations of all pairs of items of one cluster, over n squared.
pub fn clustered_standard_error(values: &[f64], clusters: &[&str]) -> Option<(f64, usize)> {
    let independent = mean(values)?;
    let mut by_cluster: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let deviation = value - independent.value;
        let (sum, squares) = by_cluster.entry(cluster).or_default();
        *sum += deviation;
        *squares += deviation * deviation;
    }
    // The square of a sum less the sum of squares is that of all products of two different terms.
    let pairs: f64 = by_cluster.values().map(|(sum, squares)| sum * sum - squares).sum();
    let n = values.len() as f64;
    let variance = independent.standard_error?.powi(2) + pairs / (n * n);
    (by_cluster.len() > 1).then(|| (variance.max(0.0).sqrt(), by_cluster.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: by hand. Deviations of half, variance 1/3 over 4, and a product of a quarter for each ordered pair.
    #[test]
    fn items_of_one_cluster_count_together() {
        let values = [1.0, 1.0, 0.0, 0.0];
        let (together, clusters) = clustered_standard_error(&values, &["a", "a", "b", "b"]).unwrap();
        assert_close(together, (1.0_f64 / 12.0 + 1.0 / 16.0).sqrt(), 1e-15, "together");
        assert_eq!(clusters, 2);
        let (apart, _) = clustered_standard_error(&values, &["a", "b", "c", "d"]).unwrap();
        assert_close(apart, (1.0_f64 / 12.0).sqrt(), 1e-15, "apart");
        let (against, _) = clustered_standard_error(&values, &["a", "b", "a", "b"]).unwrap();
        assert_close(against, (1.0_f64 / 12.0 - 1.0 / 16.0).sqrt(), 1e-15, "against");
    }

    #[test]
    fn one_cluster_says_nothing() {
        assert_eq!(clustered_standard_error(&[1.0, 0.0], &["a", "a"]), None);
        assert_eq!(clustered_standard_error(&[1.0], &["a"]), None);
        assert_eq!(clustered_standard_error(&[], &[]), None);
    }
}
