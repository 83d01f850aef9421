//! Ratings of models from all pairs that were judged, by the model of Bradley and Terry.
//!
//! # Source
//! R. A. Bradley and M. E. Terry, Biometrika 39 (1952), in the form of Chatbot Arena: logistic with base 10 and scale 400,
//! a tie is half a win and half a loss, intervals are the percentiles 2.5 and 97.5 of bootstrap rounds, and the rank is
//! one more than the number of models whose interval lies above.
//!
//! # Departures
//! The ratings have the mean 1000 instead of an anchor. Rounds draw clusters of items, not single battles: judges and
//! turns of one item say much the same. A penalty keeps the ratings of a model that always wins finite; where every model
//! has won and lost, it moves none by a tenth of a point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verdicts::{Comparison, clusters};
use crate::statistics::logistic::{Observation, fit};
use crate::statistics::random::Draws;
use crate::statistics::{Clusters, spread};

/// The rating in the middle.
const START: f64 = 1000.0;
/// A difference of so many points is odds of 10 to 1.
const SCALE: f64 = 400.0;
/// Rounds of the bootstrap; the source has 100.
const ROUNDS: usize = 200;
const PENALTY: f64 = 1e-3;

/// The ratings of some models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BradleyTerry {
    /// The models, the best first.
    pub ratings: Vec<Rating>,
    /// Rounds of the bootstrap.
    pub rounds: usize,
    /// Models that no chain of comparisons joins; ratings tell nothing between them. One where all are joined.
    pub groups: usize,
}

/// The rating of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// The model.
    pub model: String,
    /// Its points.
    pub rating: f64,
    /// Lower end of the interval; absent where all is of one item.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// One more than the number of models whose interval lies above.
    pub rank: usize,
    /// Comparisons that it won, or not.
    pub wins: usize,
    /// Those that nobody won.
    pub ties: usize,
    /// Those that it lost.
    pub losses: usize,
    /// Which models it is joined with, by a number.
    pub group: usize,
}

/// Rates every model; there is nothing to rate without two that differ.
pub fn bradley_terry(comparisons: &[Comparison], seed: u64) -> Option<BradleyTerry> {
    let between = |comparison: &&Comparison| comparison.model != comparison.other_model;
    let comparisons: Vec<&Comparison> = comparisons.iter().filter(between).collect();
    let mut models: BTreeMap<&str, usize> = BTreeMap::new();
    for comparison in &comparisons {
        models.insert(&comparison.model, 0);
        models.insert(&comparison.other_model, 0);
    }
    models.values_mut().enumerate().for_each(|(position, at)| *at = position);
    let battles: Vec<Battle> = comparisons
        .iter()
        .map(|c| Battle {
            one: models[c.model.as_str()],
            other: models[c.other_model.as_str()],
            outcome: c.outcome(),
        })
        .collect();
    let count = models.len();
    let everything: Vec<usize> = (0..battles.len()).collect();
    let values = rate(&battles, &everything, count)?;
    let clusters = clusters(comparisons.iter().copied());
    let rounds = rounds(&battles, &clusters, count, seed);
    let groups = groups(&battles, count);
    let mut ratings: Vec<Rating> = models
        .iter()
        .map(|(model, &at)| {
            let interval = spread(rounds.iter().map(|round| round[at]).collect());
            let interval = interval.filter(|_| clusters.len() > 1);
            // Of each battle that it was in: how it went, from its side.
            let own = battles.iter().filter_map(|battle| {
                (battle.one == at)
                    .then_some(battle.outcome)
                    .or((battle.other == at).then_some(1.0 - battle.outcome))
            });
            let own: Vec<f64> = own.collect();
            let count = |outcome: f64| own.iter().filter(|own| **own == outcome).count();
            Rating {
                model: (*model).to_owned(),
                rating: values[at],
                ci_low: interval.map(|interval| interval.low),
                ci_high: interval.map(|interval| interval.high),
                rank: 1,
                wins: count(1.0),
                ties: count(0.5),
                losses: count(0.0),
                group: groups[at],
            }
        })
        .collect();
    let ends: Vec<(Option<f64>, Option<f64>)> =
        ratings.iter().map(|rating| (rating.ci_low, rating.ci_high)).collect();
    for rating in &mut ratings {
        let is_above = |(low, _): &&(Option<f64>, Option<f64>)| {
            low.zip(rating.ci_high).is_some_and(|(low, high)| low > high)
        };
        rating.rank = 1 + ends.iter().filter(is_above).count();
    }
    ratings.sort_by(|a, b| b.rating.total_cmp(&a.rating));
    Some(BradleyTerry {
        ratings,
        rounds: rounds.len(),
        groups: groups.iter().max().map_or(0, |last| last + 1),
    })
}

/// One comparison of two models, by number.
#[derive(Debug, Clone, Copy)]
struct Battle {
    one: usize,
    other: usize,
    outcome: f64,
}

/// The ratings by some of the battles.
fn rate(battles: &[Battle], chosen: &[usize], models: usize) -> Option<Vec<f64>> {
    // Battles of the same two models are one observation with their mean.
    let mut sums: BTreeMap<(usize, usize), (f64, f64)> = BTreeMap::new();
    for &at in chosen {
        let Battle { one, other, outcome } = battles[at];
        let (key, outcome) =
            if one < other { ((one, other), outcome) } else { ((other, one), 1.0 - outcome) };
        let (sum, count) = sums.entry(key).or_default();
        *sum += outcome;
        *count += 1.0;
    }
    let observe = |((one, other), (sum, count)): ((usize, usize), (f64, f64))| {
        let mut features = vec![0.0; models];
        (features[one], features[other]) = (1.0, -1.0);
        Observation { features, outcome: sum / count, weight: count }
    };
    let observations: Vec<Observation> = sums.into_iter().map(observe).collect();
    let strengths = fit(&observations, models, PENALTY).filter(|_| !observations.is_empty())?;
    let mean = strengths.iter().sum::<f64>() / models as f64;
    Some(
        strengths
            .iter()
            .map(|strength| START + (strength - mean) * SCALE / std::f64::consts::LN_10)
            .collect(),
    )
}

fn rounds(battles: &[Battle], clusters: &Clusters, models: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut draws = Draws::new(seed);
    let mut chosen = Vec::new();
    (0..ROUNDS)
        .filter_map(|_| {
            clusters.draw(&mut draws, &mut chosen);
            rate(battles, &chosen, models)
        })
        .collect()
}

/// For each model the number of the group that chains of battles join it with.
fn groups(battles: &[Battle], models: usize) -> Vec<usize> {
    let mut lowest: Vec<usize> = (0..models).collect();
    loop {
        let mut is_settled = true;
        for Battle { one, other, .. } in battles {
            let low = lowest[*one].min(lowest[*other]);
            is_settled &= lowest[*one] == low && lowest[*other] == low;
            (lowest[*one], lowest[*other]) = (low, low);
        }
        if is_settled {
            break;
        }
    }
    let mut numbers = BTreeMap::new();
    lowest
        .into_iter()
        .map(|low| {
            let next = numbers.len();
            *numbers.entry(low).or_insert(next)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::{both, verdicts};
    use super::*;
    use crate::statistics::assert_close;

    /// So many items of two models, each with the scores of both orders.
    fn battles(one: &str, other: &str, results: &[(f64, f64, usize)]) -> Vec<nexa_core::judging::Verdict> {
        let mut all = Vec::new();
        for (position, (forward, backward, count)) in results.iter().enumerate() {
            for item in 0..*count {
                for mut verdict in both(&format!("{one}-{other}-{position}-{item}"), *forward, *backward) {
                    (verdict.model, verdict.other_model) = (Some(one.to_owned()), Some(other.to_owned()));
                    all.push(verdict);
                }
            }
        }
        all
    }

    const WIN: (f64, f64) = (5.0, 1.0);
    const LOSS: (f64, f64) = (1.0, 5.0);
    const TIE: (f64, f64) = (5.0, 5.0);

    fn results(wins: usize, ties: usize, losses: usize) -> [(f64, f64, usize); 3] {
        [(WIN.0, WIN.1, wins), (TIE.0, TIE.1, ties), (LOSS.0, LOSS.1, losses)]
    }

    fn rated(all: Vec<nexa_core::judging::Verdict>) -> BradleyTerry {
        bradley_terry(&verdicts(all).comparisons().0, 0).unwrap()
    }

    /// Of two models the difference is `400 log10(odds)`: 30 wins to 10 is 190.85 points.
    #[test]
    fn two_models_differ_by_the_odds() {
        let found = rated(battles("a", "b", &results(28, 4, 8)));
        assert_eq!(found.ratings[0].model, "a");
        let difference = found.ratings[0].rating - found.ratings[1].rating;
        assert_close(difference, 400.0 * 3.0_f64.log10(), 0.1, "difference");
        assert_close(found.ratings[0].rating + found.ratings[1].rating, 2000.0, 1e-9, "mean");
        let ranks: Vec<_> =
            found.ratings.iter().map(|rating| (rating.rank, rating.wins, rating.ties)).collect();
        assert_eq!(ranks, [(1, 28, 4), (2, 8, 4)]);
        assert_eq!((found.rounds, found.groups), (ROUNDS, 1));
    }

    /// Expected: the likelihood, written anew and minimised without a penalty by `scipy.optimize.minimize` 1.17.1.
    #[test]
    fn three_models_are_rated_as_by_maximum_likelihood() {
        let all = [
            battles("a", "b", &results(20, 5, 10)),
            battles("b", "c", &results(18, 2, 12)),
            battles("c", "a", &results(7, 6, 15)),
        ];
        let found = rated(all.concat());
        for (rating, (model, expected)) in
            found.ratings.iter().zip([("a", 1_070.031_9), ("b", 987.632_6), ("c", 942.335_5)])
        {
            assert_eq!(rating.model, model);
            assert_close(rating.rating, expected, 0.05, model);
            assert!(rating.ci_low.unwrap() < rating.rating && rating.rating < rating.ci_high.unwrap());
        }
    }

    #[test]
    fn models_that_nothing_joins_are_told() {
        let found =
            rated([battles("a", "b", &results(9, 0, 1)), battles("c", "d", &results(5, 0, 5))].concat());
        assert_eq!(found.groups, 2);
        let group = |model: &str| found.ratings.iter().find(|rating| rating.model == model).unwrap().group;
        assert!(group("a") == group("b") && group("c") == group("d") && group("a") != group("c"));
        let always = rated(battles("a", "b", &results(30, 0, 0)));
        assert!(always.ratings[0].rating.is_finite() && always.ratings[0].rating > 1400.0);
        assert_eq!(bradley_terry(&[], 0), None);
    }
}
