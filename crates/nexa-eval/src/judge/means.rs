//! Mean scores, by model, criterion, domain, task and turn.

use std::collections::BTreeSet;

use nexa_core::judging::Verdict;
use serde::{Deserialize, Serialize};

use super::verdicts::{ItemScore, Verdicts, criteria};
use crate::statistics::{Clusters, Estimate, clustered_mean};

/// The mean over some items of a model; what is absent is not told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeanScore {
    /// Who answered.
    pub model: Option<String>,
    /// The part of the rubric; absent for the score.
    pub criterion: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The slice.
    pub domain: Option<String>,
    /// The turn.
    pub turn: Option<u32>,
    /// The mean, with an interval over clusters.
    pub mean: Estimate,
    /// Clusters of items.
    pub clusters: usize,
}

impl MeanScore {
    /// Whether it is over all items of a model: the score, or a criterion.
    pub fn is_overall(&self) -> bool {
        self.task.is_none() && self.domain.is_none() && self.turn.is_none()
    }

    fn of(items: &[&ItemScore]) -> Option<Self> {
        let values: Vec<f64> = items.iter().map(|item| item.score).collect();
        let clusters = Clusters::of(items.iter().map(|item| item.cluster.as_str()));
        Some(Self {
            model: None,
            criterion: None,
            task: None,
            domain: None,
            turn: None,
            mean: clustered_mean(&values, &clusters)?,
            clusters: clusters.len(),
        })
    }
}

/// The means of all single verdicts: each model's score first, then its criteria, tasks, domains and turns.
pub fn means(verdicts: &Verdicts) -> Vec<MeanScore> {
    let scores = verdicts.items(|verdict| verdict.score);
    let names =
        |of: fn(&Verdict) -> Vec<String>| -> BTreeSet<String> { verdicts.all.iter().flat_map(of).collect() };
    let all_criteria = names(|verdict| criteria(verdict).into_keys().collect());
    let turns: BTreeSet<u32> = verdicts.all.iter().filter_map(|verdict| verdict.turn).collect();
    let of_criteria: Vec<(String, Vec<ItemScore>)> = all_criteria
        .into_iter()
        .map(|name| {
            let items = verdicts.items(|verdict| criteria(verdict).get(&name).copied());
            (name, items)
        })
        .collect();
    let of_turns: Vec<(u32, Vec<ItemScore>)> = turns
        .into_iter()
        .map(|turn| (turn, verdicts.items(|verdict| verdict.score.filter(|_| verdict.turn == Some(turn)))))
        .collect();
    let models: BTreeSet<&Option<String>> = scores.iter().map(|item| &item.model).collect();
    let mut means = Vec::new();
    for model in models {
        let own = |items: &'_ [ItemScore], keep: &dyn Fn(&ItemScore) -> bool| {
            let items: Vec<&ItemScore> =
                items.iter().filter(|item| item.model == *model && keep(item)).collect();
            MeanScore::of(&items).map(|mean| MeanScore { model: model.clone(), ..mean })
        };
        means.extend(own(&scores, &|_| true));
        // A rubric of one criterion says the same twice.
        for (name, items) in of_criteria.iter().filter(|_| of_criteria.len() > 1) {
            means.extend(
                own(items, &|_| true).map(|mean| MeanScore { criterion: Some(name.clone()), ..mean }),
            );
        }
        for task in distinct(&scores, |item| item.task.as_ref()) {
            let mean = own(&scores, &|item| item.task.as_ref() == Some(task));
            means.extend(mean.map(|mean| MeanScore { task: Some(task.clone()), ..mean }));
        }
        for domain in distinct(&scores, |item| item.domain.as_ref()) {
            let mean = own(&scores, &|item| item.domain.as_ref() == Some(domain));
            means.extend(mean.map(|mean| MeanScore { domain: Some(domain.clone()), ..mean }));
        }
        for (turn, items) in of_turns.iter().filter(|_| of_turns.len() > 1) {
            means.extend(own(items, &|_| true).map(|mean| MeanScore { turn: Some(*turn), ..mean }));
        }
    }
    means
}

fn distinct<'a>(
    items: &'a [ItemScore],
    of: impl Fn(&'a ItemScore) -> Option<&'a String>,
) -> BTreeSet<&'a String> {
    items.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn means_are_told_apart_by_criterion_domain_and_turn() {
        let verdict = |id: &str, domain: &str, turn: u32, right: f64, clear: f64| Verdict {
            id: id.to_owned(),
            model: Some("x".to_owned()),
            domain: Some(domain.to_owned()),
            turn: Some(turn),
            judge: "j".to_owned(),
            score: Some((right + clear) / 2.0),
            decisions: Some(format!("{{\"right\": {right}, \"clear\": {clear}}}")),
            ..Verdict::default()
        };
        let all = [
            verdict("a", "sums", 1, 5.0, 3.0),
            verdict("a", "sums", 2, 1.0, 3.0),
            verdict("b", "rates", 1, 5.0, 5.0),
            verdict("b", "rates", 2, 5.0, 3.0),
        ];
        let found: Vec<_> = means(&verdicts(all))
            .into_iter()
            .map(|mean| {
                let what = mean.criterion.or(mean.domain).or(mean.turn.map(|turn| turn.to_string()));
                (what.unwrap_or_default(), mean.mean.value, mean.clusters)
            })
            .collect();
        let expected = [
            ("", 3.75, 2),
            ("clear", 3.5, 2),
            ("right", 4.0, 2),
            ("rates", 4.5, 1),
            ("sums", 3.0, 1),
            ("1", 4.5, 2),
            ("2", 3.0, 2),
        ];
        assert_eq!(found, expected.map(|(what, value, clusters)| (what.to_owned(), value, clusters)));
    }
}
