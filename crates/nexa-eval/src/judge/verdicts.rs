//! Verdicts as they are computed with: what each judge decided on each item, and on each pair in both orders.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use nexa_core::artifact::Artifact;
use nexa_core::judging::{FIRST_BETTER, Order, RULES, SECOND_BETTER, Verdict};
use nexa_core::table::Tables;
use serde_json::Value;

use crate::Result;
use crate::statistics::Clusters;

/// What stands for the model of an answer that names none, where two answers are compared.
pub(super) const UNNAMED: &str = "unnamed";

/// The sum and the number of what each judge gave.
type ByJudge<'a> = BTreeMap<&'a str, (f64, usize)>;

/// The verdicts of one or several artifacts.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// The artifacts, by name.
    pub artifacts: Vec<String>,
    /// Every verdict, readable or not.
    pub all: Vec<Verdict>,
}

impl Verdicts {
    /// Reads artifacts of verdicts.
    ///
    /// # Errors
    /// Fails where one holds none, with its place.
    pub fn read(artifacts: &[Artifact], tables: &dyn Tables) -> Result<Self> {
        let mut verdicts = Self::default();
        for artifact in artifacts {
            verdicts.artifacts.push(artifact.id().to_string());
            verdicts.all.extend(Verdict::read_all(artifact, tables)?);
        }
        Ok(verdicts)
    }

    /// The judges, in the order in which they were asked.
    pub fn judges(&self) -> Vec<&str> {
        let mut judges: Vec<&str> = Vec::new();
        for verdict in &self.all {
            if !judges.contains(&verdict.judge.as_str()) {
                judges.push(&verdict.judge);
            }
        }
        judges
    }

    /// The judges that go by rules and are no models.
    pub fn rules(&self) -> Vec<&str> {
        let is_rules = |judge: &&str| {
            let mut of_judge = self.all.iter().filter(|verdict| verdict.judge == *judge);
            of_judge.any(|verdict| verdict.judge_model.as_deref() == Some(RULES))
        };
        self.judges().into_iter().filter(is_rules).collect()
    }

    /// What each item comes to by a number that is read of a verdict, in the order of the verdicts.
    pub fn items(&self, number: impl Fn(&Verdict) -> Option<f64>) -> Vec<ItemScore> {
        let given = self.all.iter().filter(|verdict| verdict.order.is_none()).filter_map(|verdict| {
            let key = (&verdict.model, &verdict.task, &verdict.id);
            Some((key, verdict, verdict.judge.as_str(), number(verdict)?))
        });
        over_judges(given)
            .into_iter()
            .map(|(score, verdict)| ItemScore { score, ..ItemScore::of(verdict) })
            .collect()
    }

    /// The pairs that were judged in both orders, and how many were in one only.
    pub fn comparisons(&self) -> (Vec<Comparison>, usize) {
        let mut known = HashMap::new();
        let mut pairs: Vec<(&Verdict, [Option<&Verdict>; 2])> = Vec::new();
        for verdict in &self.all {
            let Some(order) = verdict.order else { continue };
            let key = (
                (&verdict.judge, verdict.sample_index, verdict.turn),
                (&verdict.model, &verdict.other_model, &verdict.task),
                (&verdict.id, &verdict.other_id),
            );
            let at = *known.entry(key).or_insert(pairs.len());
            if at == pairs.len() {
                pairs.push((verdict, [None; 2]));
            }
            if verdict.score.is_some() {
                pairs[at].1[usize::from(order == Order::Backward)] = Some(verdict);
            }
        }
        let total = pairs.len();
        let both: Vec<Comparison> = pairs
            .into_iter()
            .filter_map(|(verdict, [forward, backward])| Comparison::of(verdict, forward?, backward?))
            .collect();
        let incomplete = total - both.len();
        (both, incomplete)
    }
}

/// What an item of a model comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemScore {
    /// The item.
    pub id: String,
    /// Who answered.
    pub model: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The slice.
    pub domain: Option<String>,
    /// Items of one cluster are not independent.
    pub cluster: String,
    /// The mean over judges of the mean over their verdicts.
    pub score: f64,
    /// Characters of the answer.
    pub length: Option<u64>,
}

impl ItemScore {
    fn of(verdict: &Verdict) -> Self {
        Self {
            id: verdict.id.clone(),
            model: verdict.model.clone(),
            task: verdict.task.clone(),
            domain: verdict.domain.clone(),
            cluster: cluster(verdict),
            score: 0.0,
            length: verdict.length,
        }
    }
}

/// A pair that was judged in both orders.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The item.
    pub id: String,
    /// The other of two answers in one table; of two evaluations both have the same id.
    pub other_id: String,
    /// The task.
    pub task: Option<String>,
    /// Items of one cluster are not independent.
    pub cluster: String,
    /// The slice.
    pub domain: Option<String>,
    /// The judge, as it was named.
    pub judge: String,
    /// The judge, as its provider names it.
    pub judge_model: Option<String>,
    /// One of the two.
    pub model: String,
    /// The other.
    pub other_model: String,
    /// How far the one is preferred where it is shown first: 1, or 0.5 for a tie, or 0.
    pub forward: f64,
    /// How far it is where it is shown second.
    pub backward: f64,
    /// How far it is by the probabilities of the verdicts in both orders, where they are told.
    pub expected: Option<f64>,
    /// How many characters the answer of the one is longer.
    pub longer_by: Option<f64>,
}

impl Comparison {
    fn of(verdict: &Verdict, forward: &Verdict, backward: &Verdict) -> Option<Self> {
        let unnamed = || UNNAMED.to_owned();
        let expected =
            || Some((share(forward.expected_score?) + 1.0 - share(backward.expected_score?)) / 2.0);
        let longer_by = || Some(verdict.length? as f64 - verdict.other_length? as f64);
        Some(Self {
            id: verdict.id.clone(),
            other_id: verdict.other_id.clone().unwrap_or_else(|| verdict.id.clone()),
            task: verdict.task.clone(),
            cluster: cluster(verdict),
            domain: verdict.domain.clone(),
            judge: verdict.judge.clone(),
            judge_model: verdict.judge_model.clone().or_else(|| backward.judge_model.clone()),
            model: verdict.model.clone().unwrap_or_else(unnamed),
            other_model: verdict.other_model.clone().unwrap_or_else(unnamed),
            forward: share(forward.score?),
            backward: 1.0 - share(backward.score?),
            expected: expected(),
            longer_by: longer_by(),
        })
    }

    /// How far the one is preferred: a judge whose verdict goes with the order has judged a tie.
    pub fn outcome(&self) -> f64 {
        if self.forward == self.backward { self.forward } else { 0.5 }
    }

    /// The same pair from the other side.
    pub fn turned(&self) -> Self {
        Self {
            id: self.other_id.clone(),
            other_id: self.id.clone(),
            model: self.other_model.clone(),
            other_model: self.model.clone(),
            forward: 1.0 - self.forward,
            backward: 1.0 - self.backward,
            expected: self.expected.map(|expected| 1.0 - expected),
            longer_by: self.longer_by.map(|longer_by| -longer_by),
            ..self.clone()
        }
    }
}

/// What each item comes to, in the order in which items first occur, and what stands there first: the mean over judges of
/// the mean over what each gave. So each judge counts alike, however often it could be read.
pub(super) fn over_judges<'a, K: Eq + Hash, T: 'a>(
    given: impl IntoIterator<Item = (K, &'a T, &'a str, f64)>,
) -> Vec<(f64, &'a T)> {
    let mut known = HashMap::new();
    let mut items: Vec<(&'a T, ByJudge<'a>)> = Vec::new();
    for (key, item, judge, number) in given {
        let at = *known.entry(key).or_insert(items.len());
        if at == items.len() {
            items.push((item, ByJudge::new()));
        }
        let (sum, count) = items[at].1.entry(judge).or_default();
        *sum += number;
        *count += 1;
    }
    let mean = |(item, judges): (&'a T, ByJudge<'a>)| {
        let means = judges.values().map(|(sum, count)| sum / *count as f64);
        (means.sum::<f64>() / judges.len() as f64, item)
    };
    items.into_iter().map(mean).collect()
}

/// The clusters of some comparisons.
pub(super) fn clusters<'a>(comparisons: impl IntoIterator<Item = &'a Comparison>) -> Clusters {
    Clusters::of(comparisons.into_iter().map(|comparison| comparison.cluster.as_str()))
}

/// How far the first shown is preferred, of a score from 1 to 5.
fn share(score: f64) -> f64 {
    (score - SECOND_BETTER) / (FIRST_BETTER - SECOND_BETTER)
}

/// The cluster of an item: its group, else the item itself.
pub(super) fn cluster(verdict: &Verdict) -> String {
    let task = verdict.task.as_deref().unwrap_or_default();
    match &verdict.group {
        Some(group) => format!("{task}\n{group}"),
        None => format!("{task}\n\n{}", verdict.id),
    }
}

/// What was decided for each part of a rubric, from 1 to 5: a point of a checklist is 5 where it holds and 1 where it
/// does not.
pub(super) fn criteria(verdict: &Verdict) -> BTreeMap<String, f64> {
    let decisions = verdict.decisions.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let Some(Value::Object(decisions)) = decisions else { return BTreeMap::new() };
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(holds) => Some(if *holds { 5.0 } else { 1.0 }),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" => Some(5.0),
            "false" | "no" => Some(1.0),
            text => text.strip_suffix("/5").unwrap_or(text).trim().parse().ok(),
        },
        _ => None,
    };
    decisions.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A verdict of judge `j` on a pair of models `x` and `y`.
    pub(in super::super) fn pair(id: &str, order: Order, score: Option<f64>) -> Verdict {
        Verdict {
            id: id.to_owned(),
            other_id: Some(id.to_owned()),
            model: Some("x".to_owned()),
            other_model: Some("y".to_owned()),
            order: Some(order),
            judge: "j".to_owned(),
            score,
            length: Some(10),
            other_length: Some(10),
            ..Verdict::default()
        }
    }

    /// The two verdicts of a pair, as scores of what is shown first.
    pub(in super::super) fn both(id: &str, forward: f64, backward: f64) -> [Verdict; 2] {
        [pair(id, Order::Forward, Some(forward)), pair(id, Order::Backward, Some(backward))]
    }

    pub(in super::super) fn verdicts(all: impl IntoIterator<Item = Verdict>) -> Verdicts {
        Verdicts { artifacts: Vec::new(), all: all.into_iter().collect() }
    }

    #[test]
    fn both_orders_make_a_comparison_and_one_alone_makes_none() {
        let half = [pair("c", Order::Forward, Some(5.0)), pair("c", Order::Backward, None)];
        let all = [both("a", 5.0, 1.0), both("b", 5.0, 5.0), both("d", 3.0, 3.0), half].concat();
        let (found, incomplete) = verdicts(all).comparisons();
        let found: Vec<_> =
            found.iter().map(|c| (c.id.as_str(), c.outcome(), c.turned().outcome())).collect();
        assert_eq!(found, [("a", 1.0, 0.0), ("b", 0.5, 0.5), ("d", 0.5, 0.5)]);
        assert_eq!(incomplete, 1);
    }

    #[test]
    fn probabilities_of_both_orders_are_averaged() {
        let [mut forward, mut backward] = both("a", 5.0, 1.0);
        (forward.expected_score, backward.expected_score) = (Some(4.2), Some(2.6));
        let (found, _) = verdicts([forward, backward]).comparisons();
        let expected = found[0].expected.unwrap();
        assert!((expected - (0.8 + 0.6) / 2.0).abs() < 1e-12, "{expected}");
    }

    #[test]
    fn an_item_is_the_mean_over_judges_of_their_means() {
        let single = |judge: &str, score: Option<f64>| Verdict {
            id: "a".to_owned(),
            judge: judge.to_owned(),
            score,
            decisions: Some(r#"{"right": 4, "unit": true, "clear": "2/5", "odd": null}"#.to_owned()),
            ..Verdict::default()
        };
        let all = [single("a", Some(5.0)), single("a", Some(4.0)), single("b", Some(2.0)), single("b", None)];
        let items = verdicts(all.clone()).items(|verdict| verdict.score);
        assert_eq!((items.len(), items[0].score), (1, 3.25));
        let found = criteria(&all[0]);
        let expected = [("clear", 2.0), ("right", 4.0), ("unit", 5.0)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
