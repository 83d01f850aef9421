//! The mean that people would have given, from many judgements of a machine and few of people.
//!
//! # Source
//! A. N. Angelopoulos, S. Bates, C. Fannjiang, M. I. Jordan and T. Zrnic, "Prediction-powered inference", Science 382
//! (2023), the mean: that of all judgements plus the mean error of those that people made as well.
//!
//! # Departures
//! The items that people judged are among those that the machine did, as they are drawn from them; the variance counts
//! each item once, with all that it adds. Where people judged every item it is the mean of their judgements with its own
//! standard error.

use crate::statistics::{Estimate, Z};

/// An item with the judgement of a machine, and perhaps of people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The machine's.
    pub judge: f64,
    /// The people's.
    pub label: Option<f64>,
}

/// Estimates the mean that people would have given over all items; there is none without a label.
pub fn prediction_powered_mean(items: &[Judged]) -> Option<Estimate> {
    let labelled: Vec<(f64, f64)> = items.iter().filter_map(|item| Some((item.judge, item.label?))).collect();
    if labelled.is_empty() {
        return None;
    }
    let (all, few) = (items.len() as f64, labelled.len() as f64);
    let judged = items.iter().map(|item| item.judge).sum::<f64>() / all;
    let correction = labelled.iter().map(|(judge, label)| label - judge).sum::<f64>() / few;
    let value = judged + correction;
    // What each item adds to the value: its judgement, and where there is a label its error.
    let with: Vec<f64> = labelled.iter().map(|(judge, label)| judge / all + (label - judge) / few).collect();
    let without: Vec<f64> =
        items.iter().filter(|item| item.label.is_none()).map(|item| item.judge / all).collect();
    let variance =
        sum_variance(&with).zip(if without.is_empty() { Some(0.0) } else { sum_variance(&without) });
    let error = variance.map(|(with, without)| (with + without).sqrt());
    Some(Estimate {
        value,
        standard_error: error,
        ci_low: error.map(|error| value - Z * error),
        ci_high: error.map(|error| value + Z * error),
        n: labelled.len(),
    })
}

/// The variance of the sum of independent values; unknown for a single one.
fn sum_variance(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares * n / (n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Draws;
    use crate::statistics::{assert_close, mean};

    #[test]
    fn labels_for_all_items_leave_nothing_of_the_judge() {
        let labels = [1.0, 0.0, 1.0, 1.0, 0.0];
        let items: Vec<Judged> = labels
            .iter()
            .zip([0.9, 0.8, 0.7, 0.2, 0.4])
            .map(|(&label, judge)| Judged { judge, label: Some(label) })
            .collect();
        let (found, expected) = (prediction_powered_mean(&items).unwrap(), mean(&labels).unwrap());
        assert_close(found.value, expected.value, 1e-12, "mean");
        assert_close(found.standard_error.unwrap(), expected.standard_error.unwrap(), 1e-12, "error");
        assert_eq!(prediction_powered_mean(&[Judged { judge: 1.0, label: None }]), None);
    }

    /// By hand: a judge that is always 1 too high, on items whose judgements are 2, 3, 4, 5 and of which the first two
    /// have labels.
    #[test]
    fn a_constant_error_is_taken_out() {
        let item =
            |judge: f64, is_labelled: bool| Judged { judge, label: is_labelled.then_some(judge - 1.0) };
        let items = [item(2.0, true), item(3.0, true), item(4.0, false), item(5.0, false)];
        let found = prediction_powered_mean(&items).unwrap();
        assert_close(found.value, 2.5, 1e-12, "mean");
        // Each half is two values that lie 1/4 apart, so that its sum has the variance 2 * 2 * (1/8)^2.
        assert_close(found.standard_error.unwrap(), (2.0 * 4.0 / 64.0_f64).sqrt(), 1e-12, "error");
    }

    /// Of 1,000 samples the interval holds the true mean in 95 %, though the judge is off and biased; four standard
    /// errors of that share are 2.8 %.
    #[test]
    fn the_interval_holds_the_true_mean_as_often_as_it_says() {
        let mut draws = Draws::new(5);
        let mut unit = move || draws.index(1_000_000) as f64 / 1e6;
        let held = (0..1_000)
            .filter(|_| {
                let items: Vec<Judged> = (0..300)
                    .map(|position| {
                        let label = f64::from(u8::from(unit() < 0.6));
                        // Right in four of five, and otherwise too kind.
                        let judge = if unit() < 0.8 { label } else { 1.0 };
                        Judged { judge, label: (position < 80).then_some(label) }
                    })
                    .collect();
                let found = prediction_powered_mean(&items).unwrap();
                found.ci_low.unwrap() <= 0.6 && 0.6 <= found.ci_high.unwrap()
            })
            .count();
        assert!((922..=978).contains(&held), "{held} of 1000");
    }
}
