//! How two measurements of the same items rise and fall together.
//!
//! # Source
//! Pearson's r; Spearman's rho as r of mid-ranks; M. G. Kendall's tau-b, "The treatment of ties in ranking problems",
//! Biometrika 33 (1945).

/// Computes Pearson's correlation; there is none where either side never varies.
pub fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let (sum_x, sum_y) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0, y + pair.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        xx += (x - mean_x).powi(2);
        yy += (y - mean_y).powi(2);
        xy += (x - mean_x) * (y - mean_y);
    }
    let scale = (xx * yy).sqrt();
    (scale > 0.0).then(|| (xy / scale).clamp(-1.0, 1.0))
}

/// Computes Spearman's rank correlation; equal values share the mean of their ranks.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let ranks = |side: fn(&(f64, f64)) -> f64| ranks(&pairs.iter().map(side).collect::<Vec<_>>());
    let ranked: Vec<(f64, f64)> = ranks(|pair| pair.0).into_iter().zip(ranks(|pair| pair.1)).collect();
    pearson(&ranked)
}

/// Computes Kendall's tau-b.
pub fn kendall(pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut balance, mut untied_x, mut untied_y) = (0_i64, 0_i64, 0_i64);
    for (position, one) in pairs.iter().enumerate() {
        for other in &pairs[position + 1..] {
            let (x, y) = (sign(one.0 - other.0), sign(one.1 - other.1));
            balance += x * y;
            untied_x += x.abs();
            untied_y += y.abs();
        }
    }
    let scale = (untied_x as f64 * untied_y as f64).sqrt();
    (scale > 0.0).then(|| balance as f64 / scale)
}

fn sign(difference: f64) -> i64 {
    if difference == 0.0 { 0 } else { difference.signum() as i64 }
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    while begin < order.len() {
        let equal = order[begin..].iter().take_while(|&&at| values[at] == values[order[begin]]).count();
        for &at in &order[begin..begin + equal] {
            ranks[at] = begin as f64 + (equal as f64 + 1.0) / 2.0;
        }
        begin += equal;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `scipy.stats.pearsonr`, `spearmanr` and `kendalltau` (variant b) 1.17.1.
    #[test]
    fn correlations_are_those_of_scipy() {
        let judge = [1.0, 2.0, 2.0, 4.0, 5.0, 5.0, 3.0, 1.0, 4.5, 2.5];
        let human = [2.0, 1.0, 3.0, 4.0, 4.0, 5.0, 3.0, 1.0, 5.0, 2.0];
        let pairs: Vec<(f64, f64)> = judge.into_iter().zip(human).collect();
        assert_close(pearson(&pairs).unwrap(), 0.892_149_221_015_262_4, 1e-14, "r");
        assert_close(spearman(&pairs).unwrap(), 0.869_581_991_249_918_2, 1e-14, "rho");
        assert_close(kendall(&pairs).unwrap(), 0.756_322_556_535_113_2, 1e-14, "tau");
    }

    #[test]
    fn what_never_varies_correlates_with_nothing() {
        let flat = [(1.0, 2.0), (1.0, 3.0)];
        assert_eq!((pearson(&flat), spearman(&flat), kendall(&flat)), (None, None, None));
        assert_eq!((pearson(&[]), spearman(&[]), kendall(&[])), (None, None, None));
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }
}
