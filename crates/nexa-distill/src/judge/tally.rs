//! All verdicts of all judges, and what they come to for each row.

use std::collections::{BTreeMap, HashMap};

use nexa_core::columns;
use nexa_core::table::Row;
use serde_json::{Value, json};

use super::prompt::{Order, Question};
use super::verdict::Read;

/// What one judge said once.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) question: Question,
    pub(super) judge: String,
    pub(super) sample_index: u32,
    /// What was read, or what is wrong and the text as it came.
    pub(super) read: Result<Read, (String, String)>,
}

/// The verdicts on some rows.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    rows: &'a [Row],
    verdicts: Vec<Verdict>,
}

/// How often, and with which sum of scores, each judge has judged a row.
type ByJudge<'a> = BTreeMap<&'a str, (f64, usize)>;

impl<'a> Tally<'a> {
    pub(super) fn new(rows: &'a [Row]) -> Self {
        Self { rows, verdicts: Vec::new() }
    }

    pub(super) fn add(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    pub(super) fn len(&self) -> usize {
        self.verdicts.len()
    }

    pub(super) fn unreadable(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.read.is_err()).count()
    }

    /// What is wrong with the first verdict that could not be read.
    pub(super) fn first_problem(&self) -> Option<&str> {
        self.verdicts
            .iter()
            .find_map(|verdict| verdict.read.as_ref().err())
            .map(|(message, _)| message.as_str())
    }

    /// Each row with its score, null where no verdict on it could be read.
    pub(super) fn scores(&self) -> Vec<Row> {
        let mut by_row: Vec<(ByJudge<'_>, usize)> = self.rows.iter().map(|_| Default::default()).collect();
        for (judge, row, score) in self.singles().chain(self.pairs()) {
            let (sum, count) = by_row[row].0.entry(judge).or_default();
            *sum += score;
            *count += 1;
        }
        for verdict in self.verdicts.iter().filter(|verdict| verdict.read.is_err()) {
            for row in std::iter::once(verdict.question.row).chain(verdict.question.other) {
                by_row[row].1 += 1;
            }
        }
        self.rows
            .iter()
            .zip(by_row)
            .map(|(row, (judges, unreadable))| {
                let means: Vec<f64> = judges.values().map(|(sum, count)| sum / *count as f64).collect();
                let score =
                    (!means.is_empty()).then(|| rounded(means.iter().sum::<f64>() / means.len() as f64));
                let verdicts: usize = judges.values().map(|(_, count)| count).sum();
                Row::from_iter([
                    (columns::ID.to_owned(), row.get(columns::ID).cloned().unwrap_or(Value::Null)),
                    (columns::SCORE.to_owned(), json!(score)),
                    ("verdicts".to_owned(), json!(verdicts)),
                    ("unreadable".to_owned(), json!(unreadable)),
                ])
            })
            .collect()
    }

    /// Judge, row and score of every verdict on one answer.
    fn singles(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        self.verdicts.iter().filter(|verdict| verdict.question.order.is_none()).filter_map(|verdict| {
            Some((verdict.judge.as_str(), verdict.question.row, verdict.read.as_ref().ok()?.score))
        })
    }

    /// Judge, row and score of every pair, from both sides. Where both orders do not give one winner, it is a tie.
    fn pairs(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        const WORST_AND_BEST: f64 = 6.0;
        const TIE: f64 = 3.0;
        let mut sides = HashMap::<(&str, u32, usize, usize), [Option<f64>; 2]>::new();
        let mut keys = Vec::new();
        for verdict in &self.verdicts {
            let Question { row, other: Some(other), order: Some(order) } = verdict.question else { continue };
            let key = (verdict.judge.as_str(), verdict.sample_index, row, other);
            let scores = sides.entry(key).or_insert_with(|| {
                keys.push(key);
                [None; 2]
            });
            let read = verdict.read.as_ref().ok().map(|read| read.score);
            match order {
                Order::Forward => scores[0] = read,
                Order::Backward => scores[1] = read.map(|score| WORST_AND_BEST - score),
            }
        }
        keys.into_iter().flat_map(move |key| {
            let (judge, _, row, other) = key;
            let outcome = match sides[&key] {
                [Some(forward), Some(backward)] if forward == backward => Some(forward),
                [Some(_), Some(_)] => Some(TIE),
                // An order alone tells as much about the order as about the answers.
                _ => None,
            };
            outcome
                .map(|score| [(judge, row, score), (judge, other, WORST_AND_BEST - score)])
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        })
    }

    /// Every verdict as a row, in the order in which they were asked for.
    pub(super) fn rows(&self) -> Vec<Row> {
        let id = |row: usize| self.rows[row].get(columns::ID).cloned().unwrap_or(Value::Null);
        self.verdicts
            .iter()
            .map(|Verdict { question, judge, sample_index, read }| {
                let order = question.order.map(|order| match order {
                    Order::Forward => "forward",
                    Order::Backward => "backward",
                });
                let (score, decisions, explanation, problem, text) = match read {
                    Ok(read) => (
                        json!(rounded(read.score)),
                        json!(read.decisions.to_string()),
                        json!(read.explanation),
                        Value::Null,
                        Value::Null,
                    ),
                    Err((message, text)) => {
                        (Value::Null, Value::Null, Value::Null, json!(message), json!(text))
                    }
                };
                Row::from_iter([
                    (columns::ID.to_owned(), id(question.row)),
                    ("other_id".to_owned(), question.other.map_or(Value::Null, id)),
                    ("order".to_owned(), json!(order)),
                    ("judge".to_owned(), json!(judge)),
                    (columns::SAMPLE_INDEX.to_owned(), json!(sample_index)),
                    (columns::SCORE.to_owned(), score),
                    ("decisions".to_owned(), decisions),
                    ("explanation".to_owned(), explanation),
                    ("problem".to_owned(), problem),
                    ("text".to_owned(), text),
                ])
            })
            .collect()
    }
}

/// A score as it is kept: four digits tell all that a bound can tell.
pub(super) fn rounded(score: f64) -> f64 {
    (score * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Row> {
        (0..count).map(|n| json!({"id": format!("r{n}")}).as_object().unwrap().clone()).collect()
    }

    fn read(score: Option<f64>) -> Result<Read, (String, String)> {
        score
            .map(|score| Read { score, decisions: json!({}), explanation: String::new() })
            .ok_or_else(|| ("no JSON object".to_owned(), "?".to_owned()))
    }

    fn found(tally: &Tally<'_>) -> Vec<Option<f64>> {
        tally.scores().iter().map(|row| row[columns::SCORE].as_f64()).collect()
    }

    #[test]
    fn each_judge_counts_alike_however_often_it_could_be_read() {
        let rows = rows(2);
        let mut tally = Tally::new(&rows);
        let mut add = |judge: &str, sample_index, score| {
            let question = Question { row: 0, other: None, order: None };
            tally.add(Verdict { question, judge: judge.to_owned(), sample_index, read: read(score) });
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
    fn a_judge_that_follows_the_order_has_judged_a_tie() {
        let rows = rows(2);
        let check = |forward: Option<f64>, backward: Option<f64>, expected: [Option<f64>; 2]| {
            let mut tally = Tally::new(&rows);
            for (order, score) in [(Order::Forward, forward), (Order::Backward, backward)] {
                let question = Question { row: 0, other: Some(1), order: Some(order) };
                tally.add(Verdict { question, judge: "a".to_owned(), sample_index: 0, read: read(score) });
            }
            assert_eq!(found(&tally), expected);
        };
        // Backward, the second row is shown first: 1 means that the first row wins.
        check(Some(5.0), Some(1.0), [Some(5.0), Some(1.0)]);
        check(Some(5.0), Some(5.0), [Some(3.0), Some(3.0)]);
        check(Some(1.0), Some(5.0), [Some(1.0), Some(5.0)]);
        check(Some(3.0), Some(3.0), [Some(3.0), Some(3.0)]);
        check(Some(5.0), None, [None, None]);
    }
}
