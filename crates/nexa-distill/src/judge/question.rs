//! What judges are asked about: one answer or two, in which order, the whole or a turn of it.

use std::collections::HashMap;

use nexa_core::judging::Order;

use super::config::Protocol;
use super::subject::{Subject, Subjects};

/// One thing that judges are asked about, by the positions of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// What is judged, or the first of two.
    pub(super) subject: usize,
    /// The second of two, and how they are shown.
    pub(super) other: Option<(usize, Order)>,
    /// The turn that counts, from 1; of the whole it is absent.
    pub(super) turn: Option<u32>,
}

impl Question {
    /// Of two, the one that is shown first and the one that is shown after it.
    pub(super) fn shown(&self) -> (usize, Option<usize>) {
        match self.other {
            None => (self.subject, None),
            Some((other, Order::Forward)) => (self.subject, Some(other)),
            Some((other, Order::Backward)) => (other, Some(self.subject)),
        }
    }
}

/// Each answer by itself.
pub(super) fn singles(subjects: &Subjects, protocol: Protocol) -> Vec<Question> {
    let each = |(subject, of): (usize, &Subject)| {
        turns(of, protocol).into_iter().map(move |turn| Question { subject, other: None, turn })
    };
    subjects.judged().iter().enumerate().flat_map(each).collect()
}

/// Two answers to each prompt, in both orders: those of two evaluations, else every two that there are.
pub(super) fn pairs(subjects: &Subjects, protocol: Protocol) -> Vec<Question> {
    let pairs = if subjects.is_versus {
        (0..subjects.judged).map(|at| (at, subjects.other(at))).collect()
    } else {
        within(subjects.judged())
    };
    let mut questions = Vec::new();
    for (subject, other) in pairs {
        if subjects.all[other].turns.is_empty() {
            continue;
        }
        for turn in turns(&subjects.all[subject], protocol) {
            for order in [Order::Forward, Order::Backward] {
                questions.push(Question { subject, other: Some((other, order)), turn });
            }
        }
    }
    questions
}

/// Every two answers to one prompt.
fn within(subjects: &[Subject]) -> Vec<(usize, usize)> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known = HashMap::new();
    for (position, subject) in subjects.iter().enumerate() {
        let asked = subject.turns.iter().map(|turn| turn.question.as_str()).collect::<Vec<_>>();
        let group = *known.entry(asked).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(position);
    }
    let mut pairs = Vec::new();
    for members in groups {
        for (at, &subject) in members.iter().enumerate() {
            pairs.extend(members[at + 1..].iter().map(|&other| (subject, other)));
        }
    }
    pairs
}

/// The turns that are judged one by one; a rubric judges the whole.
fn turns(subject: &Subject, protocol: Protocol) -> Vec<Option<u32>> {
    match protocol {
        _ if subject.turns.is_empty() => Vec::new(),
        Protocol::Rubric => vec![None],
        Protocol::MtBench => (1..).take(subject.turns.len()).map(Some).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answered, subjects};
    use super::*;

    const F: Order = Order::Forward;
    const B: Order = Order::Backward;

    fn check(found: &[Question], expected: &[(usize, usize, Order, Option<u32>)]) {
        let found: Vec<_> =
            found.iter().map(|q| (q.subject, q.other.unwrap().0, q.other.unwrap().1, q.turn)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_to_one_prompt_are_compared_in_both_orders() {
        let subjects = subjects(vec![
            answered(&[("a", "1")]),
            answered(&[("b", "2")]),
            answered(&[("a", "3")]),
            answered(&[("a", "4")]),
        ]);
        let found = pairs(&subjects, Protocol::Rubric);
        let expected = [(0, 2), (0, 3), (2, 3)].map(|(a, b)| [(a, b, F, None), (a, b, B, None)]).concat();
        check(&found, &expected);
        assert_eq!((found[0].shown(), found[1].shown()), ((0, Some(2)), (2, Some(0))));
    }

    #[test]
    fn two_models_are_compared_item_by_item_and_turn_by_turn() {
        let two = [("q", "1"), ("r", "2")];
        let mut both = subjects(vec![answered(&two), answered(&two[..1]), answered(&two), answered(&[])]);
        (both.judged, both.is_versus) = (2, true);
        let found = pairs(&both, Protocol::MtBench);
        // The second item has no answer of the other model.
        check(&found, &[(0, 2, F, Some(1)), (0, 2, B, Some(1)), (0, 2, F, Some(2)), (0, 2, B, Some(2))]);
        assert_eq!(both.unanswered(), 1);
        assert_eq!(singles(&both, Protocol::MtBench).len(), 3);
        assert_eq!(singles(&both, Protocol::Rubric).len(), 2);
    }
}
