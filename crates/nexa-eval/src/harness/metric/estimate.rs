//! What is known of the error of a metric, also where the reference is silent.

use std::f64::consts::LN_2;

use crate::harness::metric::{Aggregation, Grade, standard_error};
use crate::statistics::{
    Clusters, DRAWS, Estimate, Ratio, clustered_mean, clustered_share, proportion, ratio,
};

/// Estimates a metric over some documents. A share of right answers has the interval of Wilson, a corpus ratio that of the
/// percentile bootstrap, everything else that of a normal distribution. Missing answers are left out. Where documents share
/// `sources`, the interval is over these: Wilson's at the effective number of documents, or whole sources are resampled. A
/// document without a source is one of its own.
pub(crate) fn estimate(
    aggregation: Aggregation,
    grades: &[&Grade],
    sources: Option<&[Option<&str>]>,
    draws: usize,
    seed: u64,
) -> Option<Estimate> {
    let alone = independent(aggregation, &Grade::present(grades), draws, seed)?;
    let clustered = sources.and_then(|sources| {
        let present = grades.iter().zip(sources).filter(|(grade, _)| ***grade != Grade::Missing);
        let (grades, sources): (Vec<&Grade>, Vec<Option<&str>>) =
            present.map(|(grade, source)| (*grade, *source)).unzip();
        clustered(aggregation, &grades, &Clusters::shared(&sources)?, draws, seed)
    });
    Some(alone.within(clustered))
}

/// Estimates a metric whose documents share sources.
fn clustered(
    aggregation: Aggregation,
    grades: &[&Grade],
    clusters: &Clusters,
    draws: usize,
    seed: u64,
) -> Option<Estimate> {
    let transform: fn(f64) -> f64 = match aggregation {
        Aggregation::Mean => {
            let values: Vec<f64> = grades.iter().map(|grade| number(grade)).collect::<Option<_>>()?;
            let is_share = values.iter().all(|value| (0.0..=1.0).contains(value));
            return if is_share {
                clustered_share(&values, clusters)
            } else {
                clustered_mean(&values, clusters)
            };
        }
        Aggregation::WeightedPerplexity => f64::exp,
        Aggregation::BitsPerByte => |nats| nats / LN_2,
        Aggregation::MeanOfAll => |share| share,
        other => {
            let rounds = other.draws(draws.min(DRAWS));
            let spread = clusters.resample(rounds, seed, |chosen| {
                other.apply(&chosen.iter().map(|&at| grades[at]).collect::<Vec<_>>())
            })?;
            let (value, n) = (other.apply(grades)?, grades.len());
            if other.is_slow() {
                // So few draws tell a spread, and no percentiles.
                return Some(Estimate::normal(value, Some(spread.standard_error), n));
            }
            return Some(Estimate {
                value,
                standard_error: Some(spread.standard_error),
                ci_low: Some(spread.low),
                ci_high: Some(spread.high),
                n,
            });
        }
    };
    ratio(&clusters.sums(&ratios(grades)?), seed, transform)
}

/// Estimates a metric whose documents are independent.
fn independent(aggregation: Aggregation, grades: &[&Grade], draws: usize, seed: u64) -> Option<Estimate> {
    let n = grades.len();
    let numbers: Option<Vec<f64>> = grades.iter().map(|grade| number(grade)).collect();
    match aggregation {
        Aggregation::Bypass => None,
        Aggregation::Mean => {
            let numbers = numbers?;
            if numbers.iter().all(|value| *value == 0.0 || *value == 1.0) {
                return proportion(&numbers.iter().map(|value| *value == 1.0).collect::<Vec<_>>());
            }
            let value = aggregation.apply(grades)?;
            Some(Estimate::normal(value, standard_error(aggregation, grades, 1), n))
        }
        Aggregation::WeightedPerplexity => ratio(&ratios(grades)?, seed, f64::exp),
        Aggregation::BitsPerByte => ratio(&ratios(grades)?, seed, |nats| nats / LN_2),
        Aggregation::MeanOfAll => ratio(&ratios(grades)?, seed, |share| share),
        Aggregation::BrierScore => {
            let single = |grade: &&Grade| aggregation.apply(&[grade]).map(Grade::Number);
            let values: Vec<Grade> = grades.iter().map(single).collect::<Option<_>>()?;
            let error = standard_error(Aggregation::Mean, &values.iter().collect::<Vec<_>>(), 1);
            Some(Estimate::normal(aggregation.apply(grades)?, error, n))
        }
        _ => {
            let value = aggregation.apply(grades)?;
            Some(Estimate::normal(value, standard_error(aggregation, grades, draws), n))
        }
    }
    .filter(|estimate| estimate.value.is_finite())
}

fn number(grade: &Grade) -> Option<f64> {
    match grade {
        Grade::Number(value) => Some(*value),
        _ => None,
    }
}

/// What each document adds to the two sums of a ratio.
fn ratios(grades: &[&Grade]) -> Option<Vec<Ratio>> {
    let one = |grade: &&Grade| match grade {
        Grade::Weighted { logprob_nats, weight } => {
            Some(Ratio { numerator: -logprob_nats, denominator: *weight })
        }
        Grade::Flags(flags) => Some(Ratio {
            numerator: flags.iter().filter(|&&met| met).count() as f64,
            denominator: flags.len() as f64,
        }),
        _ => None,
    };
    grades.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{assert_close, wilson};

    #[test]
    fn every_metric_has_an_interval() {
        let found = |aggregation, grades: &[Grade]| {
            estimate(aggregation, &grades.iter().collect::<Vec<_>>(), None, 1000, 0)
        };
        let right = [1.0, 0.0, 1.0, 1.0].map(Grade::Number);
        let share = found(Aggregation::Mean, &right).unwrap();
        assert_eq!(share.ci_low.zip(share.ci_high), wilson(3, 4));
        let shares = [0.5, 0.25, 0.75].map(Grade::Number);
        let mean = found(Aggregation::Mean, &shares).unwrap();
        // The standard deviation of these is a quarter.
        assert_close(mean.standard_error.unwrap(), 0.25 / 3.0_f64.sqrt(), 1e-12, "standard error");
        let weighted = [(-10.0, 4.0), (-20.0, 6.0), (-9.0, 5.0)];
        let weighted = weighted.map(|(logprob_nats, weight)| Grade::Weighted { logprob_nats, weight });
        let bits = found(Aggregation::BitsPerByte, &weighted).unwrap();
        assert_close(bits.value, 39.0 / 15.0 / LN_2, 1e-12, "bits");
        assert!(bits.ci_low.unwrap() < bits.value && bits.value < bits.ci_high.unwrap(), "{bits:?}");
        let flags = [vec![true, false], vec![true, true]].map(Grade::Flags);
        assert_close(found(Aggregation::MeanOfAll, &flags).unwrap().value, 0.75, 1e-12, "flags");
        assert_eq!(found(Aggregation::Bypass, &[Grade::Nothing]), None);
        let answered = [Grade::Missing, Grade::Number(1.0), Grade::Number(0.0)];
        let share = found(Aggregation::Mean, &answered).unwrap();
        assert_eq!((share.value, share.n, share.ci_low.zip(share.ci_high)), (0.5, 2, wilson(1, 2)));
        assert_eq!(found(Aggregation::Mean, &[Grade::Missing]), None);
    }

    /// Every document stands there twice, as one source: the interval is that of the documents alone.
    #[test]
    fn sources_are_what_is_independent() {
        let sources = ["a", "b", "c", "d"].map(|name| [Some(name); 2]).concat();
        let check = |aggregation: Aggregation, grades: [Grade; 4]| {
            let twice: Vec<&Grade> = grades.iter().flat_map(|grade| [grade; 2]).collect();
            let alone = estimate(aggregation, &twice, None, 1000, 0).unwrap();
            let found = estimate(aggregation, &twice, Some(&sources), 1000, 0).unwrap();
            assert_eq!((found.value, found.n, found.standard_error), (alone.value, 8, alone.standard_error));
            let width = |one: &Estimate| one.ci_high.unwrap() - one.ci_low.unwrap();
            assert!(width(&found) > 1.2 * width(&alone), "{aggregation:?}: {found:?} {alone:?}");
        };
        check(Aggregation::Mean, [1.0, 0.0, 1.0, 1.0].map(Grade::Number));
        check(Aggregation::Mean, [1.5, 0.0, 4.0, 2.0].map(Grade::Number));
        let weighted = [(-10.0, 4.0), (-20.0, 6.0), (-9.0, 5.0), (-8.0, 5.0)];
        let weighted = weighted.map(|(logprob_nats, weight)| Grade::Weighted { logprob_nats, weight });
        check(Aggregation::BitsPerByte, weighted);
        let edits = |reference: &str, prediction: &str| Grade::edits(reference.into(), prediction.into());
        let texts = [
            edits("a b c d", "a b c d"),
            edits("x y", "v w"),
            edits("one two three", "one two"),
            edits("e f g", "e h i j"),
        ];
        // A measure of texts is drawn a hundred times, which tells a spread: the interval lies evenly around the value.
        let twice: Vec<&Grade> = texts.iter().flat_map(|grade| [grade; 2]).collect();
        let found = estimate(Aggregation::Ter, &twice, Some(&sources), 1000, 0).unwrap();
        let middle = (found.ci_low.unwrap() + found.ci_high.unwrap()) / 2.0;
        assert_close(middle, found.value, 1e-9, "middle");
    }
}
