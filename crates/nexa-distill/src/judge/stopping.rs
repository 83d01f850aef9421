//! Stops asking once it is decided which of two models is better.
//!
//! Items are asked in an order that is drawn, some at once, so that what is decided is about all of them; after each round
//! a test that may be looked at at every time says whether to go on. Whether it stops depends on verdicts alone, so a run
//! that was killed stops where one that was not would.

use std::collections::BTreeMap;

use nexa_core::columns;
use nexa_core::draw;
use nexa_core::sequential::{SequentialTest, Standing};

use super::question::Question;
use super::subject::Subjects;
use super::tally::Tally;

/// Items that are asked at once: enough to keep many calls under way, and few beside what a decision takes.
const ROUND: usize = 32;
/// The middle of the scores of pairs, and how far their ends are from it.
const MIDDLE: f64 = 3.0;
const REACH: f64 = 2.0;

/// A test under way.
#[derive(Debug)]
pub(super) struct Stopping {
    test: SequentialTest,
}

impl Stopping {
    /// Begins, with the chance of being wrong about two equally good models.
    pub(super) fn new(alpha: f64) -> Self {
        Self { test: SequentialTest::new(alpha) }
    }

    /// Takes the items of a round, in the order in which they were asked; says whether it is decided.
    pub(super) fn is_decided(&mut self, round: &[Question], tally: &Tally<'_>) -> bool {
        let scores = tally.scores();
        let mut last = None;
        for question in round {
            if last.replace(question.subject) == Some(question.subject) {
                continue;
            }
            // What could not be read says nothing.
            if let Some(score) = scores[question.subject][columns::SCORE].as_f64() {
                self.test.push(((score - MIDDLE) / REACH).clamp(-1.0, 1.0));
            }
        }
        self.test.decided().is_some()
    }

    /// How the test stands.
    pub(super) fn standing(&self) -> Standing {
        self.test.standing()
    }
}

/// Questions in rounds of some items each, in an order that the seed draws.
pub(super) fn rounds(questions: Vec<Question>, subjects: &Subjects, seed: u64) -> Vec<Vec<Question>> {
    let mut by_item: BTreeMap<(u64, usize), Vec<Question>> = BTreeMap::new();
    for question in questions {
        let subject = &subjects.all[question.subject];
        let task = subject.task.as_deref().unwrap_or_default();
        let place = draw::bits(seed, &["distill.judge", task, &subject.name()]);
        by_item.entry((place, question.subject)).or_default().push(question);
    }
    let items: Vec<Vec<Question>> = by_item.into_values().collect();
    items.chunks(ROUND).map(<[Vec<Question>]>::concat).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config::Protocol;
    use super::super::question;
    use super::super::tests::{answered, subjects};
    use super::*;

    #[test]
    fn every_question_is_in_one_round_and_those_of_an_item_are_together() {
        let items = (0..200).map(|item| {
            let mut subject = answered(&[("q", "a")]);
            subject.id = json!(format!("i{}", item % 100));
            subject
        });
        let mut subjects = subjects(items.collect());
        (subjects.judged, subjects.is_versus) = (100, true);
        let questions = question::pairs(&subjects, Protocol::Rubric);
        let found = rounds(questions.clone(), &subjects, 1);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 64, 8]);
        let order: Vec<usize> = found.concat().iter().map(|question| question.subject).collect();
        assert!(order.chunks(2).all(|pair| pair[0] == pair[1]));
        assert_ne!(order, questions.iter().map(|question| question.subject).collect::<Vec<_>>());
        let mut sorted = found.concat();
        sorted.sort_by_key(|question| question.subject);
        assert_eq!(sorted, questions);
        assert_ne!(rounds(questions, &subjects, 2), found, "the seed draws the order");
    }
}
