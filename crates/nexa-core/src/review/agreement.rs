//! How far reviewers agree, beyond what chance alone would give.
//!
//! # Source
//! Raw agreement with the interval of Wilson (1927). J. Cohen, A coefficient of agreement for nominal scales (1960).
//! K. Krippendorff, Computing Krippendorff's alpha-reliability (2011), nominal data. Intervals of kappa and alpha are
//! percentiles over rows drawn again (B. Efron, 1979), with a fixed seed.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::label::Verdict;
use super::labels::Journal;

/// Rows are drawn again so many times for an interval.
const RESAMPLES: usize = 1000;
/// The quantile of the normal distribution for an interval of 95 %.
const Z95: f64 = 1.959_963_984_540_054;
/// More different categories than this have no room in the tables.
const MAX_CATEGORIES: usize = 16;

/// A number and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The interval; absent where the rows are too few, or too much alike, to give one.
    pub ci: Option<(f64, f64)>,
}

/// How far those agree who decided on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Who decided on at least one of the rows, by name.
    pub reviewers: Vec<String>,
    /// Rows on which two or more decided.
    pub rows: usize,
    /// The share of pairs of decisions on a row that are the same.
    pub raw: Option<Estimate>,
    /// Cohen's kappa, where there are exactly two reviewers.
    pub kappa: Option<Estimate>,
    /// Krippendorff's alpha.
    pub alpha: Option<Estimate>,
}

impl Agreement {
    /// Measures it. Decisions that settle a disagreement, made in sight of it, do not count.
    pub fn of(journals: &BTreeMap<String, Journal>) -> Self {
        let mut by_row = BTreeMap::<&str, Vec<(&str, u8)>>::new();
        for (reviewer, journal) in journals {
            for (row_id, decision) in journal.history.decided().filter(|(_, made)| !made.adjudicates) {
                by_row.entry(row_id).or_default().push((reviewer, category(decision.verdict)));
            }
        }
        let shared: Vec<_> = by_row.into_values().filter(|ratings| ratings.len() > 1).collect();
        let reviewers: BTreeSet<&str> = shared.iter().flatten().map(|(reviewer, _)| *reviewer).collect();
        let units: Vec<Vec<u8>> =
            shared.iter().map(|ratings| ratings.iter().map(|(_, category)| *category).collect()).collect();
        let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        let pairs = units.iter().map(|unit| unit.len() * (unit.len() - 1) / 2).sum();
        Self {
            rows: units.len(),
            raw: raw_agreement(&units).map(|value| Estimate { value, ci: Some(wilson(value, pairs)) }),
            kappa: (reviewers.len() == 2).then(|| estimate(&units, cohen_kappa)).flatten(),
            alpha: estimate(&units, krippendorff_alpha),
            reviewers: reviewers.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// The share of pairs of ratings of a unit that are the same; nothing where there is no pair.
pub fn raw_agreement(units: &[&[u8]]) -> Option<f64> {
    let (mut same, mut pairs) = (0_usize, 0_usize);
    for unit in units {
        for (position, one) in unit.iter().enumerate() {
            for other in &unit[position + 1..] {
                pairs += 1;
                same += usize::from(one == other);
            }
        }
    }
    (pairs > 0).then(|| same as f64 / pairs as f64)
}

/// Cohen's kappa of units that two raters rated, always in the same order; nothing where chance alone gives full
/// agreement. A unit without two ratings does not count.
pub fn cohen_kappa(units: &[&[u8]]) -> Option<f64> {
    let (mut first, mut second) = ([0.0; MAX_CATEGORIES], [0.0; MAX_CATEGORIES]);
    let (mut same, mut n) = (0.0, 0.0);
    for unit in units {
        let [one, other] = **unit else { continue };
        first[usize::from(one)] += 1.0;
        second[usize::from(other)] += 1.0;
        same += f64::from(u8::from(one == other));
        n += 1.0;
    }
    let by_chance: f64 = first.iter().zip(second).map(|(a, b)| a * b).sum::<f64>() / (n * n);
    (n > 0.0 && by_chance < 1.0).then(|| (same / n - by_chance) / (1.0 - by_chance))
}

/// Krippendorff's alpha of nominal ratings by any number of raters; nothing where all ratings are the same. A unit with
/// fewer than two ratings does not count.
pub fn krippendorff_alpha(units: &[&[u8]]) -> Option<f64> {
    let mut totals = [0.0; MAX_CATEGORIES];
    let (mut n, mut agreeing) = (0.0, 0.0);
    for unit in units.iter().filter(|unit| unit.len() > 1) {
        let mut counts = [0.0; MAX_CATEGORIES];
        unit.iter().for_each(|&category| counts[usize::from(category)] += 1.0);
        let others = unit.len() as f64 - 1.0;
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count;
            agreeing += count * (count - 1.0) / others;
        }
        n += unit.len() as f64;
    }
    let expected = n * n - totals.iter().map(|total| total * total).sum::<f64>();
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * (n - agreeing) / expected)
}

fn category(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Accept => 0,
        Verdict::Reject => 1,
        Verdict::Edit => 2,
        Verdict::Regenerate => 3,
    }
}

fn estimate(units: &[&[u8]], statistic: fn(&[&[u8]]) -> Option<f64>) -> Option<Estimate> {
    Some(Estimate { value: statistic(units)?, ci: bootstrap(units, statistic) })
}

/// The 2.5 % and 97.5 % percentiles over rows drawn again. Where they are one number, the rows hold no hint of how far
/// off it may be.
fn bootstrap(units: &[&[u8]], statistic: fn(&[&[u8]]) -> Option<f64>) -> Option<(f64, f64)> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut drawn: Vec<&[u8]> = units.to_vec();
    let mut values: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.iter_mut().for_each(|unit| *unit = units[random.random_range(0..units.len())]);
        values.extend(statistic(&drawn));
    }
    values.sort_by(f64::total_cmp);
    let at =
        |share: f64| values.get((share * (values.len().saturating_sub(1)) as f64).round() as usize).copied();
    let (low, high) = (at(0.025)?, at(0.975)?);
    (low < high).then_some((low, high))
}

fn wilson(share: f64, n: usize) -> (f64, f64) {
    let n = n as f64;
    let middle = share + Z95 * Z95 / (2.0 * n);
    let spread = Z95 * (share * (1.0 - share) / n + Z95 * Z95 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z95 * Z95 / n;
    (((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Action, Line};

    /// So many units of each pair of ratings.
    fn table(counts: &[((u8, u8), usize)]) -> Vec<Vec<u8>> {
        counts.iter().flat_map(|&((a, b), count)| std::iter::repeat_n(vec![a, b], count)).collect()
    }

    fn slices(units: &[Vec<u8>]) -> Vec<&[u8]> {
        units.iter().map(Vec::as_slice).collect()
    }

    fn close(found: Option<f64>, expected: f64, tolerance: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < tolerance, "{found} instead of {expected}");
    }

    /// Three tables of two raters and two categories that textbooks use; the numbers follow from the definition.
    #[test]
    fn kappa_is_that_of_worked_tables() {
        let check = |counts: [usize; 4], raw: f64, expected: f64| {
            let [both, only_first, only_second, none] = counts;
            let units = table(&[((1, 1), both), ((1, 0), only_first), ((0, 1), only_second), ((0, 0), none)]);
            close(raw_agreement(&slices(&units)), raw, 1e-12);
            close(cohen_kappa(&slices(&units)), expected, 1e-12);
        };
        check([20, 5, 10, 15], 0.7, 0.4);
        check([45, 15, 25, 15], 0.6, (0.6 - 0.54) / 0.46);
        check([25, 35, 5, 35], 0.6, (0.6 - 0.46) / 0.54);
        assert_eq!(cohen_kappa(&slices(&table(&[((1, 1), 9)]))), None, "chance alone gives as much");
        assert_eq!(cohen_kappa(&[]), None);
    }

    /// Four raters, twelve units, missing ratings: the example C of Krippendorff (2011), whose alpha is 0.743.
    #[test]
    fn alpha_is_that_of_the_worked_example_with_missing_ratings() {
        let raters = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."];
        let units: Vec<Vec<u8>> = (0..12)
            .map(|unit| {
                let rating = |rater: &&str| rater.as_bytes()[unit];
                raters.iter().map(rating).filter(|&r| r != b'.').map(|r| r - b'0').collect()
            })
            .collect();
        close(krippendorff_alpha(&slices(&units)), 0.743, 5e-4);
    }

    /// Two raters without missing ratings: alpha is kappa with shared margins, corrected for the sample.
    #[test]
    fn alpha_of_two_raters_follows_from_the_definition() {
        let units = table(&[((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)]);
        let (ones, zeros) = (55.0, 45.0);
        let expected = 1.0 - 99.0 * 30.0 / (100.0_f64.powi(2) - ones * ones - zeros * zeros);
        close(krippendorff_alpha(&slices(&units)), expected, 1e-12);
        assert_eq!(krippendorff_alpha(&slices(&table(&[((1, 1), 9)]))), None);
    }

    #[test]
    fn an_interval_holds_its_number_and_is_absent_where_nothing_varies() {
        let units = table(&[((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)]);
        let found = estimate(&slices(&units), cohen_kappa).unwrap();
        let (low, high) = found.ci.unwrap();
        // Kappa's asymptotic standard error is 0.127 here.
        assert!((low - (0.4 - 0.25)).abs() < 0.06 && (high - (0.4 + 0.25)).abs() < 0.06, "{found:?}");
        assert_eq!(estimate(&slices(&units), cohen_kappa), Some(found), "it is the same each time");
        let perfect = table(&[((1, 1), 3), ((0, 0), 3)]);
        assert_eq!(
            estimate(&slices(&perfect), krippendorff_alpha).unwrap(),
            Estimate { value: 1.0, ci: None }
        );
        let (low, high) = wilson(1.0, 10);
        assert!((low - 0.722).abs() < 1e-3 && high > 1.0 - 1e-9, "{low} {high}");
    }

    #[test]
    fn only_rows_that_several_decided_on_count() {
        let mut journals = BTreeMap::<String, Journal>::new();
        let mut decide = |reviewer: &str, row: &str, action: Action, adjudicates: bool| {
            let line = Line { adjudicates, ..Line::new(row, action, reviewer) };
            journals.entry(reviewer.to_owned()).or_default().history.apply(&line);
        };
        for (row, first, second) in [
            ("a", Action::Accept, Action::Accept),
            ("b", Action::Accept, Action::Reject),
            ("c", Action::Reject, Action::Reject),
            ("d", Action::Edit, Action::Undo),
        ] {
            decide("ana", row, first, false);
            decide("ben", row, second, false);
        }
        decide("cy", "b", Action::Reject, true);
        let found = Agreement::of(&journals);
        assert_eq!((found.rows, found.reviewers), (3, vec!["ana".to_owned(), "ben".to_owned()]));
        close(found.raw.map(|raw| raw.value), 2.0 / 3.0, 1e-12);
        close(found.kappa.map(|kappa| kappa.value), 0.4, 1e-12);
    }
}
