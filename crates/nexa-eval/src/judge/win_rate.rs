//! Who wins of two models, over pairs that were judged in both orders.
//!
//! # Source
//! Adjusted win rates as those of MT-bench (L. Zheng and others, arXiv:2306.05685): wins and half of the ties, of all.
//! The length-controlled one is Y. Dubois and others, "Length-controlled AlpacaEval", arXiv:2404.04475, in the smallest form
//! that needs no other data: a term for the model and one for the length.
//!
//! # Departures
//! A small penalty on squares stands for the cross-validated one of the source, and its terms for the difficulty of
//! instructions are left out. A model against itself has 50 % by construction: there the length is all that there is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resample::resampled;
use super::verdicts::{Comparison, clusters, over_judges};
use crate::statistics::logistic::{Observation, fit, logistic};
use crate::statistics::{Clusters, Estimate, SequentialTest, Standing, anytime_interval, clustered_share};

/// So weak that it moves no win rate of some dozens of pairs by a percent, and strong enough for an answer where one side
/// always wins.
const PENALTY: f64 = 0.01;
/// Where control for length moves a win rate by more than this, the fit deserves a look.
const SUSPICIOUS: f64 = 0.15;
/// The error rate of the sequential test.
const ALPHA: f64 = 0.05;

/// How one model fares against another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// The one.
    pub model: String,
    /// The other.
    pub other_model: String,
    /// Items that were compared; of two answers in one table, pairs of them.
    pub items: usize,
    /// Pairs of verdicts, one in each order.
    pub comparisons: usize,
    /// Comparisons that the one wins in both orders.
    pub wins: usize,
    /// Those that nobody does.
    pub ties: usize,
    /// Those that the other does.
    pub losses: usize,
    /// Wins and half of the ties, of all: the mean over items of the mean over judges, with an interval over clusters of
    /// items.
    pub win_rate: Estimate,
    /// The same by the probabilities of verdicts, where all of them tell them.
    pub expected_win_rate: Option<Estimate>,
    /// What it would be if both answered at the same length.
    pub length_controlled: Option<LengthControlled>,
    /// By slice.
    pub by_domain: BTreeMap<String, Estimate>,
    /// A test that may be looked at after each item, in the order in which they were judged.
    pub sequential: Standing,
    /// The win rate's interval that holds at every look, and so also where judging stopped when it was decided.
    pub anytime_interval: (f64, f64),
}

/// A win rate at equal lengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthControlled {
    /// The rate, with an interval from resampled clusters of items.
    pub win_rate: Estimate,
    /// By how much the score rises for an answer that is longer by as much as lengths differ commonly.
    pub length_coefficient: Estimate,
    /// Whether it is so far from the plain rate that the fit may have failed.
    pub is_suspicious: bool,
}

/// The win rates of every two models that were compared, each from the side that comes first.
pub fn win_rates(comparisons: &[Comparison], seed: u64) -> Vec<WinRate> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for comparison in comparisons {
        let (one, other) = (comparison.model.as_str(), comparison.other_model.as_str());
        if one != other && !pairs.contains(&(one, other)) && !pairs.contains(&(other, one)) {
            pairs.push((one, other));
        }
    }
    pairs.into_iter().filter_map(|(one, other)| win_rate(&between(comparisons, one, other), seed)).collect()
}

/// The comparisons of two models, from the side of the one.
fn between(comparisons: &[Comparison], one: &str, other: &str) -> Vec<Comparison> {
    let side = |comparison: &Comparison| {
        if comparison.model == one && comparison.other_model == other {
            return Some(comparison.clone());
        }
        (comparison.model == other && comparison.other_model == one).then(|| comparison.turned())
    };
    comparisons.iter().filter_map(side).collect()
}

fn win_rate(comparisons: &[Comparison], seed: u64) -> Option<WinRate> {
    let first = comparisons.first()?;
    let count =
        |outcome: f64| comparisons.iter().filter(|comparison| comparison.outcome() == outcome).count();
    let items = by_item(comparisons, |comparison| Some(comparison.outcome()));
    let values: Vec<f64> = items.iter().map(|(value, _)| *value).collect();
    let clusters = clusters(items.iter().map(|(_, comparison)| *comparison));
    let win_rate = clustered_share(&values, &clusters)?;
    let expected_win_rate = (comparisons.iter().all(|comparison| comparison.expected.is_some()))
        .then(|| by_item(comparisons, |comparison| comparison.expected))
        .and_then(|items| {
            clustered_share(&items.iter().map(|(value, _)| *value).collect::<Vec<_>>(), &clusters)
        });
    let mut sequential = SequentialTest::new(ALPHA);
    let differences: Vec<f64> = values.iter().map(|value| (2.0 * value - 1.0).clamp(-1.0, 1.0)).collect();
    differences.iter().for_each(|difference| sequential.push(*difference));
    let (low, high) = anytime_interval(&differences, ALPHA);
    Some(WinRate {
        model: first.model.clone(),
        other_model: first.other_model.clone(),
        items: items.len(),
        comparisons: comparisons.len(),
        wins: count(1.0),
        ties: count(0.5),
        losses: count(0.0),
        win_rate,
        expected_win_rate,
        length_controlled: length_controlled(&items, &clusters, win_rate.value, seed),
        by_domain: by_domain(&items),
        sequential: sequential.standing(),
        anytime_interval: ((1.0 + low) / 2.0, (1.0 + high) / 2.0),
    })
}

/// What each item comes to over its judges, with one of its comparisons.
pub(super) fn by_item(
    comparisons: &[Comparison],
    number: impl Fn(&Comparison) -> Option<f64>,
) -> Vec<(f64, &Comparison)> {
    over_judges(comparisons.iter().filter_map(|comparison| {
        let key = (&comparison.cluster, &comparison.id, &comparison.other_id);
        Some((key, comparison, comparison.judge.as_str(), number(comparison)?))
    }))
}

fn by_domain(items: &[(f64, &Comparison)]) -> BTreeMap<String, Estimate> {
    let mut domains: BTreeMap<&str, Vec<(f64, &Comparison)>> = BTreeMap::new();
    for item in items {
        if let Some(domain) = &item.1.domain {
            domains.entry(domain).or_default().push(*item);
        }
    }
    let share = |(domain, items): (&str, Vec<(f64, &Comparison)>)| {
        let values: Vec<f64> = items.iter().map(|(value, _)| *value).collect();
        let clusters = clusters(items.iter().map(|(_, comparison)| *comparison));
        Some((domain.to_owned(), clustered_share(&values, &clusters)?))
    };
    domains.into_iter().filter_map(share).collect()
}

fn length_controlled(
    items: &[(f64, &Comparison)],
    clusters: &Clusters,
    plain: f64,
    seed: u64,
) -> Option<LengthControlled> {
    let differences: Vec<f64> = items.iter().map(|(_, item)| item.longer_by).collect::<Option<_>>()?;
    let observations = observations(items, &differences)?;
    let [win_rate, length_coefficient] = resampled(items.len(), clusters, seed, |chosen| {
        let drawn: Vec<Observation> = chosen.iter().map(|&at| observations[at].clone()).collect();
        let found = fit(&drawn, 2, PENALTY)?;
        Some([logistic(found[0]), found[1]])
    })?;
    Some(LengthControlled {
        win_rate,
        length_coefficient,
        is_suspicious: (win_rate.value - plain).abs() > SUSPICIOUS,
    })
}

/// A term for the model and one for the length: `tanh(difference / standard deviation)`.
fn observations(items: &[(f64, &Comparison)], differences: &[f64]) -> Option<Vec<Observation>> {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
    let scaled = |difference: f64| if deviation > 0.0 { (difference / deviation).tanh() } else { 0.0 };
    let observe = |((value, _), difference): (&(f64, &Comparison), &f64)| Observation {
        features: vec![1.0, scaled(*difference)],
        outcome: *value,
        weight: 1.0,
    };
    (!items.is_empty()).then(|| items.iter().zip(differences).map(observe).collect())
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::{both, verdicts};
    use super::*;
    use crate::statistics::assert_close;

    fn rates(all: Vec<nexa_core::judging::Verdict>) -> Vec<WinRate> {
        win_rates(&verdicts(all).comparisons().0, 0)
    }

    #[test]
    fn ties_count_half_and_the_order_decides_nothing() {
        let all =
            [both("a", 5.0, 1.0), both("b", 5.0, 5.0), both("c", 5.0, 1.0), both("d", 1.0, 5.0)].concat();
        let found = &rates(all)[0];
        assert_eq!((found.wins, found.ties, found.losses, found.items), (2, 1, 1, 4));
        assert_eq!(found.win_rate.value, 0.625);
        assert!(found.win_rate.ci_low.unwrap() < 0.5 && found.win_rate.ci_high.unwrap() > 0.75);
        assert_eq!(found.sequential.decided, None);
    }

    #[test]
    fn the_sides_of_a_pair_may_be_given_either_way() {
        let mut turned = both("b", 1.0, 5.0);
        for verdict in &mut turned {
            std::mem::swap(&mut verdict.model, &mut verdict.other_model);
        }
        let found = rates([both("a", 5.0, 1.0), turned].concat());
        assert_eq!((found.len(), found[0].wins), (1, 2));
    }

    /// Two of three verdicts of one judge could not be read: it still is half of the jury.
    #[test]
    fn each_judge_of_a_jury_counts_alike_however_often_it_could_be_read() {
        let mut all = Vec::new();
        for (judge, samples, (forward, backward)) in [("a", 3, (5.0, 1.0)), ("b", 1, (1.0, 5.0))] {
            for sample_index in 0..samples {
                for mut verdict in both("i", forward, backward) {
                    (verdict.judge, verdict.sample_index) = (judge.to_owned(), sample_index);
                    all.push(verdict);
                }
            }
        }
        let found = &rates(all)[0];
        assert_eq!((found.comparisons, found.wins, found.losses, found.items), (4, 3, 1, 1));
        assert_eq!(found.win_rate.value, 0.5);
    }

    #[test]
    fn a_judge_that_likes_length_alone_leaves_no_winner_at_equal_lengths() {
        let mut all = Vec::new();
        for item in 0..60 {
            // `x` is longer in two of three items, and of five items the longer answer wins four, whosever it is.
            let (is_longer, wins) = (item % 3 != 0, (item % 3 != 0) == (item % 5 != 0));
            let (forward, backward) = if wins { (5.0, 1.0) } else { (1.0, 5.0) };
            let mut pair = both(&item.to_string(), forward, backward);
            for verdict in &mut pair {
                let lengths = if is_longer { (200, 100) } else { (100, 200) };
                (verdict.length, verdict.other_length) = (Some(lengths.0), Some(lengths.1));
            }
            all.extend(pair);
        }
        let found = &rates(all)[0];
        assert_close(found.win_rate.value, 0.6, 1e-12, "plain");
        let controlled = found.length_controlled.as_ref().unwrap();
        assert_close(controlled.win_rate.value, 0.5, 2e-3, "controlled");
        assert!(controlled.win_rate.ci_low.unwrap() < 0.5 && 0.5 < controlled.win_rate.ci_high.unwrap());
        let coefficient = controlled.length_coefficient;
        assert!(coefficient.value > 1.0 && coefficient.ci_low.unwrap() > 0.0, "{controlled:?}");
    }

    /// Expected: the penalised loss, written anew and minimised by `scipy.optimize.minimize` 1.17.1.
    #[test]
    fn the_length_controlled_rate_is_the_term_of_the_model() {
        let outcomes = [(5.0, 1.0), (5.0, 5.0), (5.0, 1.0), (1.0, 5.0), (5.0, 1.0), (1.0, 5.0)];
        let lengths = [(120, 80), (90, 90), (60, 100), (50, 150), (200, 100), (130, 70)];
        let mut all = Vec::new();
        for (item, ((forward, backward), (length, other))) in outcomes.into_iter().zip(lengths).enumerate() {
            let mut pair = both(&item.to_string(), forward, backward);
            pair.iter_mut()
                .for_each(|verdict| (verdict.length, verdict.other_length) = (Some(length), Some(other)));
            all.extend(pair);
        }
        let found = rates(all)[0].length_controlled.clone().unwrap();
        assert_close(found.win_rate.value, 0.564_817_217_6, 1e-6, "rate");
        assert_close(found.length_coefficient.value, 0.820_333_678_7, 1e-5, "coefficient");
    }

    #[test]
    fn equal_answers_of_equal_length_are_at_one_half() {
        let all: Vec<_> = (0..20).flat_map(|item| both(&item.to_string(), 3.0, 3.0)).collect();
        let found = &rates(all)[0];
        assert_eq!(found.win_rate.value, 0.5);
        assert_eq!(found.length_controlled.as_ref().unwrap().win_rate.value, 0.5);
    }
}
