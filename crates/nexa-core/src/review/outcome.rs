//! What several reviewers come to on a row.

use std::collections::BTreeMap;

use super::history::Decision;
use super::labels::Journal;

/// A decision and who made it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opinion<'a> {
    /// Who.
    pub reviewer: &'a str,
    /// What.
    pub decision: &'a Decision,
}

/// What several reviewers come to on a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<'a> {
    /// Fewer have decided than must.
    Pending,
    /// All who decided say the same; the first of them by name speaks for them.
    Agreed(Opinion<'a>),
    /// They disagree, and nobody has settled it.
    Disagreed(Vec<Opinion<'a>>),
    /// Someone settled it, whatever others say.
    Adjudicated(Opinion<'a>),
}

impl<'a> Outcome<'a> {
    /// What counts, where something does.
    pub fn opinion(&self) -> Option<Opinion<'a>> {
        match self {
            Self::Agreed(opinion) | Self::Adjudicated(opinion) => Some(*opinion),
            Self::Pending | Self::Disagreed(_) => None,
        }
    }
}

/// The outcome of a row on which at least `min_reviewers` must have decided.
pub fn outcome<'a>(
    journals: &'a BTreeMap<String, Journal>,
    row_id: &str,
    min_reviewers: usize,
) -> Outcome<'a> {
    let opinions = journals.iter().filter_map(|(reviewer, journal)| {
        Some(Opinion { reviewer, decision: journal.history.decision(row_id)? })
    });
    let (settled, opinions): (Vec<_>, Vec<_>) = opinions.partition(|opinion| opinion.decision.adjudicates);
    if let Some(last) = settled.into_iter().max_by_key(|opinion| opinion.decision.at) {
        return Outcome::Adjudicated(last);
    }
    match opinions.first() {
        Some(first) if opinions.len() >= min_reviewers => {
            if opinions.iter().all(|other| first.decision.agrees_with(other.decision)) {
                Outcome::Agreed(*first)
            } else {
                Outcome::Disagreed(opinions)
            }
        }
        _ => Outcome::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Action, Line};

    #[test]
    fn agreement_counts_disagreement_waits_and_a_third_settles_it() {
        let line = |action: Action, text: Option<&str>, adjudicates: bool| Line {
            text: text.map(str::to_owned),
            adjudicates,
            ..Line::new("a", action, "x")
        };
        let accept = || line(Action::Accept, None, false);
        let edit = |text| line(Action::Edit, Some(text), false);
        let check = |lines: Vec<(&str, Line)>, min_reviewers: usize, expected: &str| {
            let mut journals = BTreeMap::<String, Journal>::new();
            for (reviewer, line) in &lines {
                journals.entry((*reviewer).to_owned()).or_default().history.apply(line);
            }
            let found = match outcome(&journals, "a", min_reviewers) {
                Outcome::Pending => "pending".to_owned(),
                Outcome::Agreed(one) => format!("{} {}", one.reviewer, one.decision.verdict),
                Outcome::Disagreed(all) => format!("{} disagree", all.len()),
                Outcome::Adjudicated(one) => format!("{} settles {}", one.reviewer, one.decision.verdict),
            };
            assert_eq!(found, expected, "{lines:?}");
        };
        check(vec![], 1, "pending");
        check(vec![("ana", accept())], 1, "ana accept");
        check(vec![("ana", accept())], 2, "pending");
        check(vec![("ben", accept()), ("ana", accept())], 2, "ana accept");
        check(vec![("ana", accept()), ("ben", edit("x"))], 1, "2 disagree");
        check(vec![("ana", edit("x")), ("ben", edit("x"))], 1, "ana edit");
        check(vec![("ana", edit("x")), ("ben", edit("y"))], 1, "2 disagree");
        let settled = line(Action::Reject, None, true);
        check(vec![("ana", accept()), ("ben", edit("y")), ("cy", settled)], 1, "cy settles reject");
        check(vec![("ana", accept()), ("ana", line(Action::Undo, None, false))], 1, "pending");
    }
}
