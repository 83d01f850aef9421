//! A judge's report card: how far its verdicts are those of people.
//!
//! # Source
//! Raw agreement with Wilson's interval; J. Cohen's kappa (1960); K. Krippendorff's alpha (2011), nominal, ordinal and
//! interval; Pearson, Spearman and Kendall. Intervals of all but the first are percentiles over resampled clusters of
//! items. The corrected mean is prediction-powered inference (A. N. Angelopoulos and others, Science 382, 2023).

use std::collections::HashMap;

use nexa_core::review::{cohen_kappa, krippendorff_alpha};
use serde::{Deserialize, Serialize};

use super::labels::{LabelKind, Labels};
use super::verdicts::{Comparison, Verdicts};
use super::win_rate::by_item;
use crate::statistics::{
    Clusters, Distance, Estimate, Judged, clustered_mean, clustered_share, kendall, krippendorff, pearson,
    prediction_powered_mean, spearman,
};

/// Rounds of the bootstrap.
const ROUNDS: usize = 1_000;
/// The score from which on a judge counts as accepting an answer, as the gate on scores has it.
const ACCEPTED: f64 = 3.5;
/// More different categories than this have no room in the tables of nominal agreement.
const MAX_CATEGORIES: usize = 16;

/// What is computed of pairs of a judge's number and a label.
type Statistic<'a> = &'a dyn Fn(&[(f64, f64)]) -> Option<f64>;

/// How a judge, or all of them together, compares with people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The judge; absent for all together.
    pub judge: Option<String>,
    /// What the labels are.
    pub labels: LabelKind,
    /// Where they come from.
    pub source: String,
    /// Items with a verdict and a label.
    pub items: usize,
    /// Items with a verdict alone.
    pub unlabelled: usize,
    /// The share of items on which both say the same: scores by their nearest whole number.
    pub agreement: Estimate,
    /// Cohen's kappa of that.
    pub kappa: Option<Estimate>,
    /// Krippendorff's alpha of that.
    pub alpha_nominal: Option<Estimate>,
    /// The same where categories have an order.
    pub alpha_ordinal: Option<Estimate>,
    /// The same of the numbers themselves.
    pub alpha_interval: Option<Estimate>,
    /// Pearson's correlation.
    pub pearson: Option<Estimate>,
    /// Spearman's rank correlation.
    pub spearman: Option<Estimate>,
    /// Kendall's tau-b.
    pub kendall: Option<Estimate>,
    /// By how much the judge is above people, in the mean.
    pub bias: Estimate,
    /// How far it is off, in the mean.
    pub mean_absolute_error: f64,
    /// The mean of the judge over all items.
    pub judged_mean: Estimate,
    /// What people would have given over all items, by the judge and its error where there are labels.
    pub corrected_mean: Option<Estimate>,
}

/// An item that has a verdict.
struct Rated {
    id: String,
    cluster: String,
    /// The judge's number, as it is.
    score: f64,
}

/// The cards of all judges together, and of each where there are several. None where no item has both.
pub fn cards(verdicts: &Verdicts, comparisons: &[Comparison], labels: &Labels, seed: u64) -> Vec<Card> {
    let judges = verdicts.judges();
    let each = judges.iter().filter(|_| judges.len() > 1).map(|judge| Some(*judge));
    std::iter::once(None)
        .chain(each)
        .filter_map(|judge| {
            let is_own = |name: &str| judge.is_none_or(|judge| judge == name);
            let rated: Vec<Rated> = if labels.kind == LabelKind::Preference {
                let own: Vec<Comparison> = comparisons.iter().filter(|c| is_own(&c.judge)).cloned().collect();
                let items = by_item(&own, |comparison| Some(comparison.outcome()));
                let rated = |(score, c): (f64, &Comparison)| Rated {
                    id: c.id.clone(),
                    cluster: c.cluster.clone(),
                    score,
                };
                items.into_iter().map(rated).collect()
            } else {
                let items = verdicts.items(|verdict| verdict.score.filter(|_| is_own(&verdict.judge)));
                items
                    .into_iter()
                    .map(|item| Rated { id: item.id, cluster: item.cluster, score: item.score })
                    .collect()
            };
            card(judge, &rated, labels, seed)
        })
        .collect()
}

fn card(judge: Option<&str>, rated: &[Rated], labels: &Labels, seed: u64) -> Option<Card> {
    let kind = labels.kind;
    // What is compared with a label: of an acceptance, whether the judge would accept.
    let number = |score: f64| match kind {
        LabelKind::Acceptance => f64::from(u8::from(score >= ACCEPTED)),
        LabelKind::Score | LabelKind::Preference => score,
    };
    let known: Vec<(&Rated, f64)> =
        rated.iter().filter_map(|item| Some((item, labels.get(&item.id)?))).collect();
    let clusters = Clusters::of(known.iter().map(|(item, _)| item.cluster.as_str()));
    let pairs: Vec<(f64, f64)> = known.iter().map(|(item, label)| (number(item.score), *label)).collect();
    let scores: Vec<(f64, f64)> = known.iter().map(|(item, label)| (item.score, *label)).collect();
    let categories: Vec<(f64, f64)> =
        pairs.iter().map(|(judge, label)| (category(*judge, kind), category(*label, kind))).collect();
    let same: Vec<f64> =
        categories.iter().map(|(judge, label)| f64::from(u8::from(judge == label))).collect();
    let errors: Vec<f64> = pairs.iter().map(|(judge, label)| judge - label).collect();
    let all = Clusters::of(rated.iter().map(|item| item.cluster.as_str()));
    let judged: Vec<f64> = rated.iter().map(|item| number(item.score)).collect();
    let with_labels: Vec<Judged> =
        rated.iter().map(|item| Judged { judge: number(item.score), label: labels.get(&item.id) }).collect();
    let estimate =
        |pairs: &[(f64, f64)], statistic: Statistic<'_>| bootstrap(pairs, &clusters, seed, statistic);
    Some(Card {
        judge: judge.map(str::to_owned),
        labels: kind,
        source: labels.source.clone(),
        items: known.len(),
        unlabelled: rated.len() - known.len(),
        agreement: clustered_share(&same, &clusters)?,
        kappa: estimate(&categories, &|pairs| nominal(pairs, cohen_kappa)),
        alpha_nominal: estimate(&categories, &|pairs| nominal(pairs, krippendorff_alpha)),
        alpha_ordinal: estimate(&categories, &|pairs| krippendorff(&units(pairs), Distance::Ordinal)),
        alpha_interval: estimate(&pairs, &|pairs| krippendorff(&units(pairs), Distance::Interval)),
        pearson: estimate(&scores, &pearson),
        spearman: estimate(&scores, &spearman),
        kendall: estimate(&scores, &kendall),
        bias: clustered_mean(&errors, &clusters)?,
        mean_absolute_error: errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len() as f64,
        judged_mean: clustered_mean(&judged, &all)?,
        corrected_mean: prediction_powered_mean(&with_labels),
    })
}

/// The category that a number falls into.
fn category(number: f64, kind: LabelKind) -> f64 {
    match kind {
        LabelKind::Score | LabelKind::Acceptance => number.round(),
        // Won, lost, or a tie.
        LabelKind::Preference => (2.0 * number).round() / 2.0,
    }
}

fn units(pairs: &[(f64, f64)]) -> Vec<Vec<f64>> {
    pairs.iter().map(|(judge, label)| vec![*judge, *label]).collect()
}

/// Agreement of categories without an order, as reviewers' is measured.
fn nominal(pairs: &[(f64, f64)], statistic: fn(&[&[u8]]) -> Option<f64>) -> Option<f64> {
    let mut names: Vec<f64> = pairs.iter().flat_map(|(judge, label)| [*judge, *label]).collect();
    names.sort_by(f64::total_cmp);
    names.dedup();
    let number =
        |value: f64| names.iter().position(|name| *name == value).and_then(|at| u8::try_from(at).ok());
    let units: Vec<[u8; 2]> =
        pairs.iter().map(|(judge, label)| Some([number(*judge)?, number(*label)?])).collect::<Option<_>>()?;
    let units: Vec<&[u8]> = units.iter().map(<[u8; 2]>::as_slice).collect();
    (names.len() <= MAX_CATEGORIES).then(|| statistic(&units)).flatten()
}

fn bootstrap(
    pairs: &[(f64, f64)],
    clusters: &Clusters,
    seed: u64,
    statistic: Statistic<'_>,
) -> Option<Estimate> {
    let value = statistic(pairs)?;
    let mut drawn = Vec::with_capacity(pairs.len());
    let spread = clusters.resample(ROUNDS, seed, |chosen| {
        drawn.clear();
        drawn.extend(chosen.iter().map(|&at| pairs[at]));
        statistic(&drawn)
    });
    // Where every resample says the same, they hold no hint of how far off it may be.
    let spread = spread.filter(|spread| spread.low < spread.high);
    Some(Estimate {
        value,
        standard_error: spread.map(|spread| spread.standard_error),
        ci_low: spread.map(|spread| spread.low),
        ci_high: spread.map(|spread| spread.high),
        n: pairs.len(),
    })
}

/// How far a judge agrees with itself, over several samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// The judge.
    pub judge: String,
    /// Questions that it answered more than once.
    pub questions: usize,
    /// The share of them on which all samples say the same.
    pub same: Estimate,
    /// The root of the mean variance of scores within a question.
    pub standard_deviation: f64,
}

/// The repeats of each judge that was asked several times.
pub fn repeats(verdicts: &Verdicts) -> Vec<Repeats> {
    let of_judge = |judge: &str| {
        let mut known = HashMap::new();
        let mut questions: Vec<(String, Vec<f64>)> = Vec::new();
        for verdict in verdicts.all.iter().filter(|verdict| verdict.judge == judge) {
            let Some(score) = verdict.score else { continue };
            let key = (
                (&verdict.id, &verdict.other_id, &verdict.task),
                (&verdict.model, &verdict.other_model),
                (verdict.order, verdict.turn),
            );
            let at = *known.entry(key).or_insert(questions.len());
            if at == questions.len() {
                questions.push((verdict.id.clone(), Vec::new()));
            }
            questions[at].1.push(score);
        }
        questions.retain(|(_, scores)| scores.len() > 1);
        let variance = |scores: &[f64]| {
            let n = scores.len() as f64;
            let mean = scores.iter().sum::<f64>() / n;
            scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0)
        };
        let is_same = |scores: &[f64]| f64::from(u8::from(scores.iter().all(|score| *score == scores[0])));
        let same: Vec<f64> = questions.iter().map(|(_, scores)| is_same(scores)).collect();
        let clusters = Clusters::of(questions.iter().map(|(id, _)| id.as_str()));
        let sum: f64 = questions.iter().map(|(_, scores)| variance(scores)).sum();
        Some(Repeats {
            judge: judge.to_owned(),
            questions: questions.len(),
            same: clustered_share(&same, &clusters)?,
            standard_deviation: (sum / questions.len() as f64).sqrt(),
        })
    };
    verdicts.judges().into_iter().filter_map(of_judge).collect()
}

#[cfg(test)]
mod tests {
    use nexa_core::judging::Verdict;

    use super::super::verdicts::tests::{both, verdicts};
    use super::*;
    use crate::statistics::assert_close;

    fn single(id: &str, sample_index: u32, score: f64) -> Verdict {
        Verdict {
            id: id.to_owned(),
            judge: "j".to_owned(),
            sample_index,
            score: Some(score),
            ..Verdict::default()
        }
    }

    fn labels(kind: LabelKind, by_id: &[(&str, f64)]) -> Labels {
        let by_id = by_id.iter().map(|(id, label)| ((*id).to_owned(), *label)).collect();
        Labels { kind, source: "test".to_owned(), by_id }
    }

    #[test]
    fn scores_are_held_against_those_of_people() {
        let judged = [("a", 5.0), ("b", 4.0), ("c", 2.0), ("d", 1.0), ("e", 3.0), ("f", 3.0)];
        let verdicts = verdicts(judged.map(|(id, score)| single(id, 0, score)));
        let labels = labels(LabelKind::Score, &[("a", 5.0), ("b", 3.0), ("c", 2.0), ("d", 1.0), ("z", 1.0)]);
        let found = cards(&verdicts, &[], &labels, 0).remove(0);
        assert_eq!((found.items, found.unlabelled, found.judge.as_deref()), (4, 2, None));
        assert_eq!((found.agreement.value, found.bias.value, found.mean_absolute_error), (0.75, 0.25, 0.25));
        // By hand: the mean of all is 3, and people are a quarter lower.
        assert_close(found.judged_mean.value, 3.0, 1e-12, "judged");
        assert_close(found.corrected_mean.unwrap().value, 2.75, 1e-12, "corrected");
        // The four pairs have the same order on both sides.
        assert_close(found.spearman.unwrap().value, 1.0, 1e-12, "rho");
        assert_close(found.kendall.unwrap().value, 1.0, 1e-12, "tau");
        // By hand: three of four are the same; by chance 1/16 for each of 5, 2 and 1.
        assert_close(found.kappa.unwrap().value, (0.75 - 3.0 / 16.0) / (1.0 - 3.0 / 16.0), 1e-12, "kappa");
        assert!(found.alpha_interval.unwrap().value > found.alpha_nominal.unwrap().value);
    }

    #[test]
    fn what_reviewers_accept_is_what_a_judge_should_like() {
        let judged = [("a", 5.0), ("b", 4.0), ("c", 2.0), ("d", 3.4)];
        let verdicts = verdicts(judged.map(|(id, score)| single(id, 0, score)));
        let labels = labels(LabelKind::Acceptance, &[("a", 1.0), ("b", 0.0), ("c", 0.0)]);
        let found = cards(&verdicts, &[], &labels, 0).remove(0);
        assert_close(found.agreement.value, 2.0 / 3.0, 1e-12, "agreement");
        // Half would be accepted, less the third of labels that should not have been.
        assert_close(found.corrected_mean.unwrap().value, 0.5 - 1.0 / 3.0, 1e-12, "corrected");
        assert!(found.spearman.unwrap().value > 0.5, "the scores themselves are ranked");
    }

    #[test]
    fn preferences_are_held_against_those_of_people() {
        let all = [both("a", 5.0, 1.0), both("b", 5.0, 5.0), both("c", 1.0, 5.0)].concat();
        let verdicts = verdicts(all);
        let labels = labels(LabelKind::Preference, &[("a", 1.0), ("b", 0.0), ("c", 0.0)]);
        let found = cards(&verdicts, &verdicts.comparisons().0, &labels, 0).remove(0);
        assert_eq!((found.items, found.agreement.value), (3, 2.0 / 3.0));
        assert_close(found.corrected_mean.unwrap().value, 1.0 / 3.0, 1e-12, "corrected");
        assert!(cards(&verdicts, &[], &labels, 0).is_empty(), "nothing to compare with");
    }

    #[test]
    fn a_judge_is_held_against_itself() {
        let all = [
            single("a", 0, 4.0),
            single("a", 1, 4.0),
            single("b", 0, 3.0),
            single("b", 1, 5.0),
            single("c", 0, 1.0),
        ];
        let found = repeats(&verdicts(all)).remove(0);
        assert_eq!((found.questions, found.same.value), (2, 0.5));
        // The variances are 0 and 2.
        assert_close(found.standard_deviation, 1.0, 1e-12, "deviation");
    }
}
