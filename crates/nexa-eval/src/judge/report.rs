//! What verdicts come to, all in one.

use serde::{Deserialize, Serialize};

use super::bias::{LengthBias, PositionBias, SelfPreference, length_bias, position_bias, self_preference};
use super::bradley_terry::{BradleyTerry, bradley_terry};
use super::card::{Card, Repeats, cards, repeats};
use super::item_labels::ItemLabels;
use super::means::{MeanScore, means};
use super::verdicts::Verdicts;
use super::win_rate::{WinRate, win_rates};
use crate::statistics::{Estimate, proportion};

/// What verdicts come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The artifacts of verdicts.
    pub verdicts: Vec<String>,
    /// The judges, as they were named.
    pub judges: Vec<String>,
    /// Those of them that go by rules and are no models.
    pub rules: Vec<String>,
    /// How many verdicts there are.
    pub total: usize,
    /// How many of them could not be read.
    pub unreadable: usize,
    /// Their share.
    pub unreadable_share: Option<Estimate>,
    /// Mean scores of single answers.
    pub means: Vec<MeanScore>,
    /// Of pairs, how models fare against each other.
    pub win_rates: Vec<WinRate>,
    /// Pairs that were read in one order alone, and count nowhere.
    pub incomplete_pairs: usize,
    /// Ratings over all pairs, where there are more than two models.
    pub ratings: Option<BradleyTerry>,
    /// How far judges go with the order.
    pub position_bias: Vec<PositionBias>,
    /// How far they go with the length.
    pub length_bias: Vec<LengthBias>,
    /// How far they prefer their own kin.
    pub self_preference: Vec<SelfPreference>,
    /// How far they agree with themselves.
    pub repeats: Vec<Repeats>,
    /// How far they agree with people.
    pub cards: Vec<Card>,
}

impl Report {
    /// Computes everything that there is to say of some verdicts, with people's labels where there are some.
    pub fn of(verdicts: &Verdicts, labels: Option<&ItemLabels>, seed: u64) -> Self {
        let (comparisons, incomplete_pairs) = verdicts.comparisons();
        let unreadable: Vec<bool> = verdicts.all.iter().map(|verdict| verdict.score.is_none()).collect();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Self {
            verdicts: verdicts.artifacts.clone(),
            judges: owned(verdicts.judges()),
            rules: owned(verdicts.rules()),
            total: unreadable.len(),
            unreadable: unreadable.iter().filter(|is_unreadable| **is_unreadable).count(),
            unreadable_share: proportion(&unreadable),
            means: means(verdicts),
            win_rates: win_rates(&comparisons, seed),
            incomplete_pairs,
            ratings: bradley_terry(&comparisons, seed).filter(|found| found.ratings.len() > 2),
            position_bias: position_bias(&comparisons),
            length_bias: length_bias(verdicts, &comparisons, seed),
            self_preference: self_preference(verdicts, &comparisons),
            repeats: repeats(verdicts, seed),
            cards: labels.map(|labels| cards(verdicts, &comparisons, labels, seed)).unwrap_or_default(),
        }
    }

    /// The mean scores over all items that lie below a bound: those of models and of the parts of their rubric.
    pub fn below(&self, bound: f64) -> Vec<&MeanScore> {
        self.means.iter().filter(|mean| mean.is_overall() && mean.mean.value < bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::judging::{RULES, Verdict};

    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn a_criterion_that_is_too_low_is_told_though_the_score_is_not() {
        let verdict = |id: &str, right: f64, clear: f64| Verdict {
            id: id.to_owned(),
            judge: "embedded".to_owned(),
            judge_model: Some(RULES.to_owned()),
            score: Some((right + clear) / 2.0),
            decisions: Some(format!("{{\"right\": {right}, \"clear\": {clear}}}")),
            ..Verdict::default()
        };
        let unreadable =
            Verdict { judge: "embedded".to_owned(), problem: Some("?".to_owned()), ..Verdict::default() };
        let report =
            Report::of(&verdicts([verdict("a", 5.0, 2.0), verdict("b", 5.0, 3.0), unreadable]), None, 0);
        let below: Vec<_> = report.below(3.0).into_iter().map(|mean| mean.criterion.as_deref()).collect();
        assert_eq!(below, [Some("clear")]);
        assert!(report.below(2.0).is_empty());
        assert_eq!((report.total, report.unreadable, report.rules), (3, 1, vec!["embedded".to_owned()]));
        assert_eq!(report.unreadable_share.unwrap().n, 3);
    }
}
