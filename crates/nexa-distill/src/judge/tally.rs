//! All verdicts of all judges, and what they come to for each row.

use std::collections::{BTreeMap, HashMap};

use nexa_core::columns;
use nexa_core::judging::{self, FIRST_BETTER, Order, SECOND_BETTER, TIE, Verdict};
use nexa_core::table::Row;
use serde_json::json;

use super::question::Question;
use super::subject::Subjects;

/// The scale of the scores of rows.
const LOWEST: f64 = 1.0;
const HIGHEST: f64 = 5.0;

/// The verdicts on some subjects.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    subjects: &'a Subjects,
    /// The highest score that a judge can give.
    highest: f64,
    verdicts: Vec<(Question, Verdict)>,
}

/// How often, and with which sum of scores, each judge has judged a row.
type ByJudge<'a> = BTreeMap<&'a str, (f64, usize)>;

/// Two verdicts on one pair, by order.
type Sides<'a> = HashMap<(&'a str, u32, Option<u32>, usize, usize), [Option<f64>; 2]>;

impl<'a> Tally<'a> {
    pub(super) fn new(subjects: &'a Subjects, highest: f64) -> Self {
        Self { subjects, highest, verdicts: Vec::new() }
    }

    pub(super) fn add(&mut self, question: Question, verdict: Verdict) {
        self.verdicts.push((question, verdict));
    }

    pub(super) fn len(&self) -> usize {
        self.verdicts.len()
    }

    pub(super) fn unreadable(&self) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| verdict.problem.is_some()).count()
    }

    /// How many were asked for again because they could not be read at first.
    pub(super) fn repeated(&self) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| verdict.repeats > 0).count()
    }

    /// What is wrong with the first verdict that could not be read.
    pub(super) fn first_problem(&self) -> Option<&str> {
        self.verdicts.iter().find_map(|(_, verdict)| verdict.problem.as_deref())
    }

    /// Each row that was judged with its score from 1 to 5, null where no verdict on it could be read.
    pub(super) fn scores(&self) -> Vec<Row> {
        let judged = self.subjects.judged();
        let mut by_row: Vec<(ByJudge<'_>, usize)> = judged.iter().map(|_| Default::default()).collect();
        for (judge, row, score) in self.singles().chain(self.pairs()) {
            let Some((judges, _)) = by_row.get_mut(row) else { continue };
            let (sum, count) = judges.entry(judge).or_default();
            *sum += score;
            *count += 1;
        }
        for (question, _) in self.verdicts.iter().filter(|(_, verdict)| verdict.problem.is_some()) {
            for row in std::iter::once(question.subject).chain(question.other.map(|(other, _)| other)) {
                if let Some((_, unreadable)) = by_row.get_mut(row) {
                    *unreadable += 1;
                }
            }
        }
        judged
            .iter()
            .zip(by_row)
            .map(|(subject, (judges, unreadable))| {
                let means: Vec<f64> = judges.values().map(|(sum, count)| sum / *count as f64).collect();
                let score =
                    (!means.is_empty()).then(|| rounded(means.iter().sum::<f64>() / means.len() as f64));
                let verdicts: usize = judges.values().map(|(_, count)| count).sum();
                Row::from_iter([
                    (columns::ID.to_owned(), subject.id.clone()),
                    (columns::SCORE.to_owned(), json!(score)),
                    (judging::VERDICTS.to_owned(), json!(verdicts)),
                    (judging::UNREADABLE.to_owned(), json!(unreadable)),
                ])
            })
            .collect()
    }

    /// Judge, row and score of every verdict on one answer.
    fn singles(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        let onto = move |score: f64| LOWEST + (score - LOWEST) * (HIGHEST - LOWEST) / (self.highest - LOWEST);
        self.verdicts.iter().filter(|(question, _)| question.other.is_none()).filter_map(
            move |(question, verdict)| Some((verdict.judge.as_str(), question.subject, onto(verdict.score?))),
        )
    }

    /// Judge, row and score of every pair, from both sides. Where both orders do not give one winner, it is a tie.
    fn pairs(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        let mut sides = Sides::new();
        let mut keys = Vec::new();
        for (question, verdict) in &self.verdicts {
            let Some((other, order)) = question.other else { continue };
            let key = (verdict.judge.as_str(), verdict.sample_index, question.turn, question.subject, other);
            let scores = sides.entry(key).or_insert_with(|| {
                keys.push(key);
                [None; 2]
            });
            match order {
                Order::Forward => scores[0] = verdict.score,
                Order::Backward => scores[1] = verdict.score.map(turned),
            }
        }
        keys.into_iter().flat_map(move |key| {
            let (judge, _, _, subject, other) = key;
            let outcome = match sides[&key] {
                [Some(forward), Some(backward)] if forward == backward => Some(forward),
                [Some(_), Some(_)] => Some(TIE),
                // An order alone tells as much about the order as about the answers.
                _ => None,
            };
            outcome
                .map(|score| [(judge, subject, score), (judge, other, turned(score))])
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        })
    }

    /// Every verdict as a row, in the order in which they were asked for.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.verdicts.iter().map(|(_, verdict)| verdict.to_row()).collect()
    }
}

/// A preference as the other side sees it.
fn turned(score: f64) -> f64 {
    FIRST_BETTER + SECOND_BETTER - score
}

/// A score as it is kept: four digits tell all that a bound can tell.
pub(super) fn rounded(score: f64) -> f64 {
    (score * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answered, subjects};
    use super::*;

    fn rows(count: usize) -> Subjects {
        subjects((0..count).map(|_| answered(&[("q", "a")])).collect())
    }

    fn verdict(judge: &str, sample_index: u32, score: Option<f64>) -> Verdict {
        let problem = score.is_none().then(|| "no JSON object".to_owned());
        Verdict { judge: judge.to_owned(), sample_index, score, problem, ..Verdict::default() }
    }

    fn found(tally: &Tally<'_>) -> Vec<Option<f64>> {
        tally.scores().iter().map(|row| row[columns::SCORE].as_f64()).collect()
    }

    #[test]
    fn each_judge_counts_alike_however_often_it_could_be_read() {
        let subjects = rows(2);
        let mut tally = Tally::new(&subjects, 5.0);
        let mut add = |judge: &str, sample_index, score| {
            let question = Question { subject: 0, other: None, turn: None };
            tally.add(question, verdict(judge, sample_index, score));
        };
        add("a", 0, Some(5.0));
        add("a", 1, Some(4.0));
        add("b", 0, Some(2.0));
        add("b", 1, None);
        assert_eq!(found(&tally), [Some(3.25), None]);
        assert_eq!(tally.scores()[0]["unreadable"], 1);
        assert_eq!(tally.first_problem(), Some("no JSON object"));
    }

    #[test]
    fn ratings_from_1_to_10_become_scores_from_1_to_5() {
        let subjects = rows(1);
        let mut tally = Tally::new(&subjects, 10.0);
        for (turn, score) in [(1, 10.0), (2, 1.0)] {
            tally.add(Question { subject: 0, other: None, turn: Some(turn) }, verdict("a", 0, Some(score)));
        }
        assert_eq!(found(&tally), [Some(3.0)]);
    }

    #[test]
    fn a_judge_that_follows_the_order_has_judged_a_tie() {
        let check = |forward: Option<f64>, backward: Option<f64>, expected: [Option<f64>; 2]| {
            let subjects = rows(2);
            let mut tally = Tally::new(&subjects, 5.0);
            for (order, score) in [(Order::Forward, forward), (Order::Backward, backward)] {
                tally.add(
                    Question { subject: 0, other: Some((1, order)), turn: None },
                    verdict("a", 0, score),
                );
            }
            assert_eq!(found(&tally), expected);
            let mut versus = rows(2);
            (versus.judged, versus.is_versus) = (1, true);
            let verdicts = std::mem::take(&mut tally.verdicts);
            let tally = Tally { subjects: &versus, highest: 5.0, verdicts };
            assert_eq!(found(&tally), expected[..1], "the other evaluation has no rows of its own");
        };
        // Backward, the second row is shown first: 1 means that the first row wins.
        check(Some(5.0), Some(1.0), [Some(5.0), Some(1.0)]);
        check(Some(5.0), Some(5.0), [Some(3.0), Some(3.0)]);
        check(Some(1.0), Some(5.0), [Some(1.0), Some(5.0)]);
        check(Some(3.0), Some(3.0), [Some(3.0), Some(3.0)]);
        check(Some(5.0), None, [None, None]);
    }
}
