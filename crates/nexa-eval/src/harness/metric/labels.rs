//! Measures over pairs of right and predicted labels.

/// The F1 score of label 1: the harmonic mean of precision and recall; 0 where neither occurs.
///
/// # Source
/// `sklearn.metrics.f1_score` with its default `average="binary"`.
pub(super) fn f1(pairs: &[(usize, usize)]) -> f64 {
    let count = |wanted: fn(&(usize, usize)) -> bool| pairs.iter().filter(|pair| wanted(pair)).count() as f64;
    let (hits, gold, predicted) =
        (count(|pair| *pair == (1, 1)), count(|pair| pair.0 == 1), count(|pair| pair.1 == 1));
    if gold + predicted == 0.0 { 0.0 } else { 2.0 * hits / (gold + predicted) }
}

/// The correlation coefficient of Matthews over any number of classes; 0 where one side holds a single class.
///
/// # Source
/// J. Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient" (2004), as
/// `sklearn.metrics.matthews_corrcoef` has it.
pub(super) fn matthews(pairs: &[(usize, usize)]) -> f64 {
    let classes = pairs.iter().map(|&(gold, predicted)| gold.max(predicted) + 1).max().unwrap_or(0);
    let (mut gold, mut predicted, mut right) = (vec![0.0; classes], vec![0.0; classes], 0.0);
    for &(of_gold, of_predicted) in pairs {
        gold[of_gold] += 1.0;
        predicted[of_predicted] += 1.0;
        right += f64::from(u8::from(of_gold == of_predicted));
    }
    let n = pairs.len() as f64;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let both = right * n - dot(&gold, &predicted);
    let (of_gold, of_predicted) = (n * n - dot(&gold, &gold), n * n - dot(&predicted, &predicted));
    let below = of_gold * of_predicted;
    if below == 0.0 { 0.0 } else { both / below.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: by hand. Two of three hits for label 1, with three right and three predicted.
    #[test]
    fn labels_are_measured_as_by_sklearn() {
        let pairs = [(1, 1), (1, 1), (1, 0), (0, 1), (0, 0)];
        assert_close(f1(&pairs), 2.0 / 3.0, 1e-15, "f1");
        // (tp tn - fp fn) / sqrt((tp+fp)(tp+fn)(tn+fp)(tn+fn)) = (2 - 1) / sqrt(3 * 3 * 2 * 2).
        assert_close(matthews(&pairs), 1.0 / 6.0, 1e-15, "mcc");
        assert_eq!((f1(&[(0, 0)]), matthews(&[(0, 0), (0, 1)])), (0.0, 0.0));
        assert_eq!(matthews(&[(0, 0), (1, 1), (2, 2)]), 1.0);
    }
}
