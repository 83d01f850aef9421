//! A paired test that may be looked at after every item, and stops when it is decided.
//!
//! Who bets against "both models are equally good" with a fair wager on each item cannot expect to win: the chance that
//! the stake ever grows `1 / alpha`-fold is at most `alpha`, however often it is looked at. The stake is spread evenly
//! over bets of every size on either model, so that none has to be chosen beforehand.
//!
//! # Source
//! I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024): the
//! method of mixtures. The bound is J. Ville's inequality (1939). Where one model is right and the other wrong, or both
//! the same, this is McNemar's test with a uniform mixture over the share of discordant items that fall to one side
//! (H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970).

use serde::{Deserialize, Serialize};

/// The means among which the ends of an interval are looked for.
const MEANS: usize = 401;

/// Bets that the stake is spread over: enough that the result is that of a continuous mixture to some digits.
const BETS: usize = 128;

/// The most that a stake is said to have grown, which a file can hold as well: a thousand clear items bring it beyond all
/// numbers. What is decided goes by its logarithm, which has no such end.
pub const LARGEST_E_VALUE: f64 = 1e300;

/// A test under way.
#[derive(Debug, Clone)]
pub struct SequentialTest {
    alpha: f64,
    /// What has become of each bet, as logarithms.
    log_wealth: Vec<f64>,
    sum: f64,
    items: usize,
    largest_log_e_value: f64,
    decided: Option<Decided>,
}

/// How a test was decided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// After how many items.
    pub items: usize,
    /// Whether the first of the two models is the better one.
    pub first_is_better: bool,
}

/// How a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The stated error rate.
    pub alpha: f64,
    /// Items that were seen.
    pub items: usize,
    /// By how much the stake has grown, up to [`LARGEST_E_VALUE`].
    pub e_value: f64,
    /// A p-value that holds at every time, down to `1 / LARGEST_E_VALUE`.
    pub p_value: f64,
    /// How it was decided, if it was: once and for good.
    pub decided: Option<Decided>,
}

impl SequentialTest {
    /// Begins a test that is wrong about two equally good models with a chance of at most `alpha`.
    ///
    /// # Panics
    /// If `alpha` does not lie between 0 and 1.
    pub fn new(alpha: f64) -> Self {
        assert!(alpha > 0.0 && alpha < 1.0, "an error rate lies between 0 and 1, not at {alpha}");
        let log_wealth = vec![0.0; BETS];
        Self { alpha, log_wealth, sum: 0.0, items: 0, largest_log_e_value: 0.0, decided: None }
    }

    /// Takes the next item: the score of the first model less that of the second, from -1 to 1.
    ///
    /// # Panics
    /// If the difference lies outside of that: the bound on errors would not hold.
    pub fn push(&mut self, difference: f64) {
        assert!(
            (-1.0..=1.0).contains(&difference),
            "a difference lies between -1 and 1, not at {difference}"
        );
        self.items += 1;
        self.sum += difference;
        if difference != 0.0 {
            for (position, log_wealth) in self.log_wealth.iter_mut().enumerate() {
                *log_wealth += (bet(position) * difference).ln_1p();
            }
        }
        let log_e_value = log_mean_exp(&self.log_wealth);
        self.largest_log_e_value = self.largest_log_e_value.max(log_e_value);
        if self.decided.is_none() && log_e_value >= -self.alpha.ln() {
            self.decided = Some(Decided { items: self.items, first_is_better: self.sum > 0.0 });
        }
    }

    /// By how much the stake has grown, up to [`LARGEST_E_VALUE`].
    pub fn e_value(&self) -> f64 {
        bounded_exp(log_mean_exp(&self.log_wealth))
    }

    /// How it was decided, if it was.
    pub fn decided(&self) -> Option<Decided> {
        self.decided
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        Standing {
            alpha: self.alpha,
            items: self.items,
            e_value: self.e_value(),
            p_value: 1.0 / bounded_exp(self.largest_log_e_value),
            decided: self.decided,
        }
    }
}

/// The interval that holds the mean of differences from -1 to 1 with a chance of `1 - alpha` at every time, however often
/// it is looked at: all means against which a stake has not grown `1 / alpha`-fold. It is wider than an interval for a
/// number of items that was chosen beforehand.
///
/// # Panics
/// If `alpha` does not lie between 0 and 1, or a difference not between -1 and 1.
///
/// # Source
/// I. Waudby-Smith and A. Ramdas (2024), section 4: a confidence sequence by betting, with bets spread evenly.
pub fn anytime_interval(differences: &[f64], alpha: f64) -> (f64, f64) {
    assert!(alpha > 0.0 && alpha < 1.0, "an error rate lies between 0 and 1, not at {alpha}");
    assert!(differences.iter().all(|d| (-1.0..=1.0).contains(d)), "differences lie between -1 and 1");
    // Equal differences are one, as often as it was seen.
    let mut counts: Vec<(f64, f64)> = Vec::new();
    let mut sorted = differences.to_vec();
    sorted.sort_by(f64::total_cmp);
    for difference in sorted {
        match counts.last_mut() {
            Some((value, count)) if *value == difference => *count += 1.0,
            _ => counts.push((difference, 1.0)),
        }
    }
    let step = 2.0 / (MEANS - 1) as f64;
    let mean = |position: usize| (position as f64 * step - 1.0).clamp(-1.0, 1.0);
    let is_held = |position: &usize| log_e_value_against(mean(*position), &counts) < -alpha.ln();
    // What lies between two means that were tried may be held as well.
    let low = (0..MEANS).find(is_held).map_or(0, |first| first.saturating_sub(1));
    let high = (0..MEANS).rev().find(is_held).map_or(MEANS - 1, |last| (last + 1).min(MEANS - 1));
    (mean(low), mean(high))
}

/// By how much a stake has grown against a mean, as a logarithm.
fn log_e_value_against(mean: f64, counts: &[(f64, f64)]) -> f64 {
    if mean.abs() >= 1.0 {
        // Only values that are all at an end have their mean there.
        return if counts.iter().all(|(value, _)| *value == mean) { 0.0 } else { f64::INFINITY };
    }
    let log_wealth = |position: usize| -> f64 {
        // A bet may lose no more than all of its stake, whatever comes.
        let share = bet(position);
        let bet = if share > 0.0 { share / (1.0 + mean) } else { share / (1.0 - mean) };
        counts.iter().map(|(value, count)| count * (bet * (value - mean)).ln_1p()).sum()
    };
    log_mean_exp(&(0..BETS).map(log_wealth).collect::<Vec<_>>())
}

/// The logarithm of the mean of what some logarithms stand for, however large that is.
fn log_mean_exp(logarithms: &[f64]) -> f64 {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|logarithm| (logarithm - largest).exp()).sum();
    largest + (sum / logarithms.len() as f64).ln()
}

/// What a logarithm stands for, up to [`LARGEST_E_VALUE`].
fn bounded_exp(logarithm: f64) -> f64 {
    logarithm.exp().min(LARGEST_E_VALUE)
}

/// The bets are spread evenly between -1 and 1, the ends left out: a bet of everything may lose everything.
fn bet(position: usize) -> f64 {
    (2.0 * position as f64 + 1.0) / BETS as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::draw;

    fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
    }

    /// Draws that depend on their number alone.
    struct Draws(Cell<u64>);

    impl Draws {
        fn index(&self, n: usize) -> usize {
            self.0.set(self.0.get() + 1);
            draw::below(n, self.0.get(), &["sequential"])
        }
    }

    /// Expected: the continuous mixture `2^n B(a + 1, b + 1)`, by hand: 2^6 / 7 for 6 against none, and
    /// 2^7 (6! 1!) / 8! for 6 against 1.
    #[test]
    fn discordant_items_are_those_of_mcnemar() {
        let check = |wins: usize, losses: usize, expected: f64| {
            let mut test = SequentialTest::new(0.05);
            (0..wins).for_each(|_| test.push(1.0));
            (0..losses).for_each(|_| test.push(-1.0));
            test.push(0.0);
            assert_close(test.e_value(), expected, expected * 2e-3, "e-value");
        };
        check(6, 0, 64.0 / 7.0);
        check(6, 1, 128.0 * 720.0 / 40_320.0);
        check(1, 6, 128.0 * 720.0 / 40_320.0);
        check(0, 0, 1.0);
    }

    /// How many of so many tests are decided, and after how many items those are in the mean.
    fn decided(rounds: usize, items: usize, difference: impl Fn(&Draws) -> f64) -> (usize, f64) {
        let draws = Draws(Cell::new(11));
        let (mut count, mut used) = (0, 0);
        for _ in 0..rounds {
            let mut test = SequentialTest::new(0.05);
            for _ in 0..items {
                test.push(difference(&draws));
                if test.decided().is_some() {
                    break;
                }
            }
            count += usize::from(test.decided().is_some());
            used += test.items;
        }
        (count, used as f64 / rounds as f64)
    }

    /// Looked at after each of 400 items, a test at 5 % errs in fewer than 5 % of 1,000 runs: four standard errors of that
    /// share are 2.8 %.
    #[test]
    fn the_error_rate_holds_at_every_look() {
        let coin = |draws: &Draws| [1.0, -1.0, 0.0, 0.0][draws.index(4)];
        let (wrong, _) = decided(1_000, 400, coin);
        assert!(wrong <= 50, "{wrong} of 1000 are wrong");
        let graded = |draws: &Draws| [0.5, -0.5, 0.25, -0.25, 0.0][draws.index(5)];
        let (wrong, _) = decided(1_000, 400, graded);
        assert!(wrong <= 50, "{wrong} of 1000 are wrong");
    }

    #[test]
    fn a_clear_difference_is_found_with_a_part_of_the_items() {
        let better = |draws: &Draws| [1.0, 1.0, 1.0, -1.0, 0.0, 0.0][draws.index(6)];
        let (found, items) = decided(200, 1_000, better);
        assert_eq!(found, 200);
        assert!(items < 200.0, "{items}");
        let mut test = SequentialTest::new(0.05);
        (0..20).for_each(|_| test.push(-1.0));
        let first = test.decided().unwrap();
        assert!(!first.first_is_better && first.items < 20);
        (0..40).for_each(|_| test.push(1.0));
        assert_eq!(test.decided(), Some(first), "what is decided stays so");
        assert!(test.standing().p_value <= 0.05);
    }

    /// A stake that is beyond all numbers can be written and read, and decides as exactly as a small one.
    #[test]
    fn a_stake_beyond_all_numbers_stays_one() {
        let mut test = SequentialTest::new(1e-305);
        while test.decided().is_none() {
            test.push(1.0);
            assert!(test.items < 2_000);
        }
        // By hand, with the largest bet of 127/128 alone: the least n with (255/128)^n / 128 >= 10^305.
        assert_eq!(test.decided(), Some(Decided { items: 1_026, first_is_better: true }));
        (0..5_000).for_each(|_| test.push(1.0));
        let standing = test.standing();
        assert_eq!((standing.e_value, test.e_value()), (LARGEST_E_VALUE, LARGEST_E_VALUE));
        let read: Standing = serde_json::from_str(&serde_json::to_string(&standing).unwrap()).unwrap();
        assert_eq!((read.e_value, read.decided), (standing.e_value, standing.decided));
        assert_close(read.p_value, 1e-300, 1e-310, "p-value");
        let (low, high) = anytime_interval(&[1.0; 5_000], 1e-305);
        assert!(0.5 < low && high == 1.0, "{low} to {high}");
    }

    #[test]
    fn the_interval_agrees_with_the_test_and_narrows() {
        let few = anytime_interval(&[1.0; 4], 0.05);
        assert!(few.0 < 0.0 && few.1 == 1.0, "four wins decide nothing: {few:?}");
        assert_eq!(anytime_interval(&[], 0.05), (-1.0, 1.0));
        let mut test = SequentialTest::new(0.05);
        let wins: Vec<f64> = (0..60).map(|item| if item % 4 == 0 { -1.0 } else { 1.0 }).collect();
        wins.iter().for_each(|win| test.push(*win));
        let many = anytime_interval(&wins, 0.05);
        assert!(test.e_value() >= 20.0 && many.0 > -0.01, "{many:?}");
        assert!(many.0 < 0.5 && 0.5 < many.1 && many.1 - many.0 < few.1 - few.0);
    }

    /// Looked at after every 20 of 200 items, the interval misses the mean in at most 5 % of 60 runs.
    #[test]
    fn the_interval_holds_at_every_look() {
        let draws = Draws(Cell::new(3));
        let missed = (0..60)
            .filter(|_| {
                let items: Vec<f64> = (0..200).map(|_| [1.0, 1.0, 0.0, -1.0][draws.index(4)]).collect();
                (1..=10).any(|look| {
                    let (low, high) = anytime_interval(&items[..look * 20], 0.05);
                    !(low..=high).contains(&0.25)
                })
            })
            .count();
        assert!(missed <= 3, "{missed} of 60");
    }
}
