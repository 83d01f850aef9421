//! Krippendorff's alpha of ratings whose differences have a size.
//!
//! # Source
//! K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011): ordinal and interval data. Nominal ratings are
//! `nexa_core::review`'s.

use std::collections::BTreeMap;

/// How far apart two ratings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// By how many ratings lie between them.
    Ordinal,
    /// By their difference.
    Interval,
}

/// Computes Krippendorff's alpha of units that were each rated several times; a unit with fewer than two ratings does not
/// count. There is none where all ratings are the same.
pub fn krippendorff(units: &[Vec<f64>], distance: Distance) -> Option<f64> {
    let mut counts: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    let rated = || units.iter().filter(|unit| unit.len() > 1);
    for &rating in rated().flatten() {
        counts.entry(ordered(rating)).or_insert((rating, 0.0)).1 += 1.0;
    }
    let n: f64 = counts.values().map(|(_, count)| count).sum();
    // Of each rating: its value, and for ordinal data the middle of its ranks.
    let mut below = 0.0;
    let places: BTreeMap<u64, f64> = counts
        .iter()
        .map(|(&key, &(rating, count))| {
            let middle = below + count / 2.0;
            below += count;
            (key, if distance == Distance::Ordinal { middle } else { rating })
        })
        .collect();
    let square = |a: f64, b: f64| (places[&ordered(a)] - places[&ordered(b)]).powi(2);
    let observed: f64 = rated()
        .map(|unit| {
            let pairs = unit.iter().flat_map(|&a| unit.iter().map(move |&b| (a, b)));
            pairs.map(|(a, b)| square(a, b)).sum::<f64>() / (unit.len() as f64 - 1.0)
        })
        .sum::<f64>()
        / n;
    let expected: f64 = counts
        .values()
        .flat_map(|&(a, count_a)| counts.values().map(move |&(b, count_b)| (a, b, count_a * count_b)))
        .map(|(a, b, count)| count * square(a, b))
        .sum::<f64>()
        / (n * (n - 1.0));
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

/// A key that sorts as the ratings do.
fn ordered(rating: f64) -> u64 {
    let bits = (rating + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Four raters, twelve units, missing ratings: the example C of Krippendorff (2011), whose alpha is 0.743 for nominal,
    /// 0.815 for ordinal and 0.849 for interval data.
    #[test]
    fn alpha_is_that_of_the_worked_example() {
        let raters = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."];
        let units: Vec<Vec<f64>> = (0..12)
            .map(|unit| {
                let ratings = raters.iter().map(|rater| rater.as_bytes()[unit]);
                ratings.filter(|&rating| rating != b'.').map(|rating| f64::from(rating - b'0')).collect()
            })
            .collect();
        assert_close(krippendorff(&units, Distance::Ordinal).unwrap(), 0.815, 5e-4, "ordinal");
        assert_close(krippendorff(&units, Distance::Interval).unwrap(), 0.849, 5e-4, "interval");
    }

    #[test]
    fn ratings_that_never_vary_have_no_alpha() {
        assert_eq!(krippendorff(&[vec![2.0, 2.0], vec![2.0, 2.0]], Distance::Interval), None);
        assert_eq!(krippendorff(&[vec![1.0], vec![2.0]], Distance::Interval), None);
        assert_eq!(krippendorff(&[], Distance::Ordinal), None);
        assert!(ordered(-1.5) < ordered(-1.0) && ordered(-1.0) < ordered(0.0) && ordered(0.0) < ordered(2.0));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }
}
