//! A judge's report card: how far its verdicts are those of people.
//!
//! # Source
//! Raw agreement with Wilson's interval; J. Cohen's kappa (1960); K. Krippendorff's alpha (2011), nominal, ordinal and
//! interval; Pearson, Spearman and Kendall. The bias and the judge's own mean have normal intervals over clusters of items;
//! all others but the first are percentiles over resampled clusters. The corrected mean is prediction-powered inference
//! (A. N. Angelopoulos and others, Science 382, 2023).

use std::collections::{HashMap, HashSet};

use nexa_core::review::{cohen_kappa, krippendorff_alpha};
use serde::{Deserialize, Serialize};

use super::item_labels::{ItemLabels, Subject};
use super::labels::LabelKind;
use super::resample::resampled;
use super::verdicts::{Comparison, ItemScore, Verdicts, cluster, over_judges};
use crate::statistics::{
    Clusters, Distance, Estimate, Judged, clustered_mean, clustered_share, kendall, krippendorff, pearson,
    prediction_powered_mean, spearman,
};

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
    pub mean_absolute_error: Estimate,
    /// The mean of the judge over all items.
    pub judged_mean: Estimate,
    /// What people would have given over all items, by the judge and its error where there are labels.
    pub corrected_mean: Option<Estimate>,
}

/// An item that has a verdict.
struct Rated {
    subject: Subject,
    cluster: String,
    /// The judge's number, as it is.
    score: f64,
}

/// The cards of all judges together, and of each where there are several. None where no item has both.
pub fn cards(verdicts: &Verdicts, comparisons: &[Comparison], labels: &ItemLabels, seed: u64) -> Vec<Card> {
    let judges = verdicts.judges();
    let each = judges.iter().filter(|_| judges.len() > 1).map(|judge| Some(*judge));
    let comparisons = from_one_side(comparisons);
    std::iter::once(None)
        .chain(each)
        .filter_map(|judge| {
            let is_own = |name: &str| judge.is_none_or(|judge| judge == name);
            let rated: Vec<Rated> = if labels.kind == LabelKind::Preference {
                let given = comparisons.iter().filter(|c| is_own(&c.judge)).map(|c| {
                    let key = ((&c.model, &c.other_model), (&c.task, &c.id, &c.other_id));
                    (key, c, c.judge.as_str(), c.outcome())
                });
                let rated = |(score, c): (f64, &Comparison)| Rated {
                    subject: Subject::of_comparison(c),
                    cluster: c.cluster.clone(),
                    score,
                };
                over_judges(given).into_iter().map(rated).collect()
            } else {
                let items = verdicts.items(|verdict| verdict.score.filter(|_| is_own(&verdict.judge)));
                let rated = |item: ItemScore| Rated {
                    subject: Subject::of_item(&item),
                    cluster: item.cluster,
                    score: item.score,
                };
                items.into_iter().map(rated).collect()
            };
            card(judge, &rated, labels, seed)
        })
        .collect()
}

/// The comparisons of every two models from the side of the one that comes first.
fn from_one_side(comparisons: &[Comparison]) -> Vec<Comparison> {
    let mut sides: HashSet<(&str, &str)> = HashSet::new();
    let mut found = Vec::with_capacity(comparisons.len());
    for comparison in comparisons {
        let (one, other) = (comparison.model.as_str(), comparison.other_model.as_str());
        if one != other && sides.contains(&(other, one)) {
            found.push(comparison.turned());
        } else {
            sides.insert((one, other));
            found.push(comparison.clone());
        }
    }
    found
}

fn card(judge: Option<&str>, rated: &[Rated], labels: &ItemLabels, seed: u64) -> Option<Card> {
    let kind = labels.kind;
    // What is compared with a label: of an acceptance, whether the judge would accept.
    let number = |score: f64| match kind {
        LabelKind::Acceptance => f64::from(u8::from(score >= ACCEPTED)),
        LabelKind::Score | LabelKind::Preference => score,
    };
    let known: Vec<(&Rated, f64)> =
        rated.iter().filter_map(|item| Some((item, labels.get(&item.subject)?))).collect();
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
    let with_labels: Vec<Judged> = rated
        .iter()
        .map(|item| Judged { judge: number(item.score), label: labels.get(&item.subject) })
        .collect();
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
        mean_absolute_error: estimate(&pairs, &mean_absolute_error)?,
        judged_mean: clustered_mean(&judged, &all)?,
        corrected_mean: corrected_mean(&with_labels, &all, &clusters, seed),
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

/// The mean distance of the judge's numbers from the labels.
fn mean_absolute_error(pairs: &[(f64, f64)]) -> Option<f64> {
    let sum: f64 = pairs.iter().map(|(judge, label)| (judge - label).abs()).sum();
    (!pairs.is_empty()).then(|| sum / pairs.len() as f64)
}

fn bootstrap(
    pairs: &[(f64, f64)],
    clusters: &Clusters,
    seed: u64,
    statistic: Statistic<'_>,
) -> Option<Estimate> {
    let mut drawn = Vec::with_capacity(pairs.len());
    let [found] = resampled(pairs.len(), clusters, seed, |chosen| {
        drawn.clear();
        drawn.extend(chosen.iter().map(|&at| pairs[at]));
        Some([statistic(&drawn)?])
    })?;
    Some(found)
}

/// The mean that people would have given over all items, which fall into clusters; those with a label fall into clusters of
/// their own, of which one alone says nothing about the others.
fn corrected_mean(items: &[Judged], clusters: &Clusters, labelled: &Clusters, seed: u64) -> Option<Estimate> {
    if labelled.len() < 2 {
        let found = prediction_powered_mean(items)?;
        return Some(Estimate { standard_error: None, ci_low: None, ci_high: None, ..found });
    }
    let mut drawn = Vec::with_capacity(items.len());
    let [found] = resampled(items.len(), clusters, seed, |chosen| {
        drawn.clear();
        drawn.extend(chosen.iter().map(|&at| items[at]));
        Some([prediction_powered_mean(&drawn)?.value])
    })?;
    let n = items.iter().filter(|item| item.label.is_some()).count();
    Some(Estimate { n, ..found })
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
    pub standard_deviation: Estimate,
}

/// The repeats of each judge that was asked several times.
pub fn repeats(verdicts: &Verdicts, seed: u64) -> Vec<Repeats> {
    let of_judge = |judge: &str| {
        let mut known = HashMap::new();
        // Of each question: its cluster, and what was said each time.
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
                questions.push((cluster(verdict), Vec::new()));
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
        let variances: Vec<f64> = questions.iter().map(|(_, scores)| variance(scores)).collect();
        let clusters = Clusters::of(questions.iter().map(|(cluster, _)| cluster.as_str()));
        let same = clustered_share(&same, &clusters)?;
        let [standard_deviation] = resampled(questions.len(), &clusters, seed, |chosen| {
            let sum: f64 = chosen.iter().map(|&at| variances[at]).sum();
            Some([(sum / chosen.len() as f64).sqrt()])
        })?;
        Some(Repeats { judge: judge.to_owned(), questions: questions.len(), same, standard_deviation })
    };
    verdicts.judges().into_iter().filter_map(of_judge).collect()
}

#[cfg(test)]
mod tests {
    use nexa_core::judging::Verdict;

    use super::super::labels::{Label, Labels, Names};
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

    fn labels(verdicts: &Verdicts, kind: LabelKind, by_id: &[(&str, f64)]) -> ItemLabels {
        let label = |(id, value): &(&str, f64)| Label {
            id: (*id).to_owned(),
            names: Names::default(),
            value: *value,
            row: None,
        };
        let all = by_id.iter().map(label).collect();
        Labels { kind, source: "test".to_owned(), all }.on(verdicts).unwrap()
    }

    #[test]
    fn scores_are_held_against_those_of_people() {
        let judged = [("a", 5.0), ("b", 4.0), ("c", 2.0), ("d", 1.0), ("e", 3.0), ("f", 3.0)];
        let verdicts = verdicts(judged.map(|(id, score)| single(id, 0, score)));
        let by_id = [("a", 5.0), ("b", 3.0), ("c", 2.0), ("d", 1.0), ("z", 1.0)];
        let labels = labels(&verdicts, LabelKind::Score, &by_id);
        let found = cards(&verdicts, &[], &labels, 0).remove(0);
        assert_eq!((found.items, found.unlabelled, found.judge.as_deref()), (4, 2, None));
        let error = found.mean_absolute_error;
        assert_eq!((found.agreement.value, found.bias.value, error.value), (0.75, 0.25, 0.25));
        // One of four is off by one: of four draws it may be none, or three.
        assert!(error.ci_low == Some(0.0) && error.ci_high.unwrap() >= 0.5, "{error:?}");
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
        let labels = labels(&verdicts, LabelKind::Acceptance, &[("a", 1.0), ("b", 0.0), ("c", 0.0)]);
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
        let labels = labels(&verdicts, LabelKind::Preference, &[("a", 1.0), ("b", 0.0), ("c", 0.0)]);
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
        let found = repeats(&verdicts(all), 0).remove(0);
        assert_eq!((found.questions, found.same.value), (2, 0.5));
        // The variances are 0 and 2, and so their mean is from 0 to 2.
        let deviation = found.standard_deviation;
        assert_close(deviation.value, 1.0, 1e-12, "deviation");
        assert_eq!((deviation.ci_low, deviation.ci_high), (Some(0.0), Some(2.0_f64.sqrt())));
    }

    /// Two questions of one source say nothing about how others would differ.
    #[test]
    fn repeats_of_one_source_have_no_interval() {
        let mut all =
            vec![single("a", 0, 4.0), single("a", 1, 2.0), single("b", 0, 3.0), single("b", 1, 3.0)];
        all.iter_mut().for_each(|verdict| verdict.group = Some("g".to_owned()));
        let found = repeats(&verdicts(all), 0).remove(0);
        assert_eq!((found.questions, found.same.standard_error), (2, None));
        assert_eq!((found.standard_deviation.value, found.standard_deviation.ci_low), (1.0, None));
    }

    /// One model wins whichever side it is given on, and people say so of both.
    #[test]
    fn preferences_are_held_against_people_from_one_side() {
        let mut turned = both("b", 1.0, 5.0);
        for verdict in &mut turned {
            std::mem::swap(&mut verdict.model, &mut verdict.other_model);
        }
        let verdicts = verdicts([both("a", 5.0, 1.0), turned].concat());
        let labels = labels(&verdicts, LabelKind::Preference, &[("a", 1.0), ("b", 1.0)]);
        let found = cards(&verdicts, &verdicts.comparisons().0, &labels, 0).remove(0);
        assert_eq!((found.items, found.agreement.value, found.judged_mean.value), (2, 1.0, 1.0));
    }

    /// The same item is judged from either side, and by people once.
    #[test]
    fn an_item_that_is_judged_from_both_sides_is_one() {
        let mut turned = both("a", 1.0, 5.0);
        for verdict in &mut turned {
            std::mem::swap(&mut verdict.model, &mut verdict.other_model);
        }
        let verdicts = verdicts([both("a", 5.0, 1.0), turned].concat());
        let labels = labels(&verdicts, LabelKind::Preference, &[("a", 1.0)]);
        let found = cards(&verdicts, &verdicts.comparisons().0, &labels, 0).remove(0);
        assert_eq!((found.items, found.unlabelled, found.agreement.value), (1, 0, 1.0));
    }

    /// Ten items of each of four sources are four draws, not forty.
    #[test]
    fn the_corrected_mean_is_as_uncertain_as_its_sources() {
        let error = |is_grouped: bool| {
            let item = |item: u32| Verdict {
                group: is_grouped.then(|| (item / 10).to_string()),
                ..single(&item.to_string(), 0, 1.0 + f64::from(item / 10))
            };
            let verdicts = verdicts((0..40).map(item));
            let ids: Vec<String> = (0..40).map(|item| item.to_string()).collect();
            // People are half a point lower, wherever they looked.
            let by_id: Vec<(&str, f64)> = ids
                .iter()
                .enumerate()
                .filter(|(item, _)| item % 2 == 0)
                .map(|(item, id)| (id.as_str(), 0.5 + (item / 10) as f64))
                .collect();
            let labels = labels(&verdicts, LabelKind::Score, &by_id);
            let found = cards(&verdicts, &[], &labels, 0).remove(0).corrected_mean.unwrap();
            assert_close(found.value, 2.0, 1e-12, "corrected");
            assert_eq!(found.n, 20);
            found.standard_error.unwrap()
        };
        // By hand: the deviation of 1, 2, 3 and 4 is 1.118, over the roots of 4 and of 40.
        assert_close(error(true), 0.559, 0.06, "of sources");
        assert_close(error(false), 0.177, 0.02, "of items");
    }

    #[test]
    fn labels_of_one_source_give_the_corrected_mean_no_interval() {
        let verdicts = verdicts(["a", "b", "c"].map(|id| single(id, 0, f64::from(id.as_bytes()[0] - b'`'))));
        let labels = labels(&verdicts, LabelKind::Score, &[("a", 2.0)]);
        let found = cards(&verdicts, &[], &labels, 0).remove(0).corrected_mean.unwrap();
        assert_eq!((found.value, found.standard_error, found.ci_low, found.n), (3.0, None, None, 1));
    }
}
