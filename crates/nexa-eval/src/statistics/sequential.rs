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

/// Bets that the stake is spread over: enough that the result is that of a continuous mixture to some digits.
const BETS: usize = 128;

/// A test under way.
#[derive(Debug, Clone)]
pub struct SequentialTest {
    alpha: f64,
    /// What has become of each bet, as logarithms.
    log_wealth: Vec<f64>,
    sum: f64,
    items: usize,
    largest_e_value: f64,
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
    /// By how much the stake has grown.
    pub e_value: f64,
    /// A p-value that holds at every time.
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
        Self { alpha, log_wealth, sum: 0.0, items: 0, largest_e_value: 1.0, decided: None }
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
        let e_value = self.e_value();
        self.largest_e_value = self.largest_e_value.max(e_value);
        if self.decided.is_none() && e_value >= 1.0 / self.alpha {
            self.decided = Some(Decided { items: self.items, first_is_better: self.sum > 0.0 });
        }
    }

    /// By how much the stake has grown.
    pub fn e_value(&self) -> f64 {
        self.log_wealth.iter().map(|log_wealth| log_wealth.exp()).sum::<f64>() / BETS as f64
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
            p_value: 1.0 / self.largest_e_value,
            decided: self.decided,
        }
    }
}

/// The bets are spread evenly between -1 and 1, the ends left out: a bet of everything may lose everything.
fn bet(position: usize) -> f64 {
    (2.0 * position as f64 + 1.0) / BETS as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;
    use crate::statistics::random::Draws;

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
    fn decided(rounds: usize, items: usize, difference: impl Fn(&mut Draws) -> f64) -> (usize, f64) {
        let mut draws = Draws::new(11);
        let (mut count, mut used) = (0, 0);
        for _ in 0..rounds {
            let mut test = SequentialTest::new(0.05);
            for _ in 0..items {
                test.push(difference(&mut draws));
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
        let coin = |draws: &mut Draws| [1.0, -1.0, 0.0, 0.0][draws.index(4)];
        let (wrong, _) = decided(1_000, 400, coin);
        assert!(wrong <= 50, "{wrong} of 1000 are wrong");
        let graded = |draws: &mut Draws| [0.5, -0.5, 0.25, -0.25, 0.0][draws.index(5)];
        let (wrong, _) = decided(1_000, 400, graded);
        assert!(wrong <= 50, "{wrong} of 1000 are wrong");
    }

    #[test]
    fn a_clear_difference_is_found_with_a_part_of_the_items() {
        let better = |draws: &mut Draws| [1.0, 1.0, 1.0, -1.0, 0.0, 0.0][draws.index(6)];
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
}
