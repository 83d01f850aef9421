//! What the failures of a cluster are called: by the terms that they hold more often than what was answered right.
//!
//! # Source
//! Monroe, Colaresi and Quinn, "Fightin' words", 2008: terms are ranked by the difference of their log-odds over its
//! standard error, so that a term is not named for being frequent, nor for being rare. The prior is half a text each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::terms::Vector;
use crate::statistics::Z;

/// Terms that are told of a cluster.
const MAX_TERMS: usize = 8;
/// Terms of a name.
const NAMED: usize = 4;
/// The share of the failures that must hold a term.
const MIN_SHARE: f64 = 0.2;

/// A term of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// One word or two; `#` is any number.
    pub term: String,
    /// Failed items of the cluster that hold it.
    pub failed: usize,
    /// Items answered right that hold it, of all.
    pub right: usize,
}

/// The terms by which failures differ most from what was answered right; where they do not differ, those that they have
/// most in common. `centre` is what the failures have in common, `names` are the terms.
pub(super) fn terms(failed: &[&Vector], right: &[&Vector], centre: &[f64], names: &[String]) -> Vec<Term> {
    let (in_failed, in_right) = (counts(failed), counts(right));
    let least = (MIN_SHARE * failed.len() as f64).max(2.0);
    let score = |(term, &held): (&usize, &usize)| {
        let right_held = in_right.get(term).copied().unwrap_or(0);
        let z = log_odds(held, failed.len(), right_held, right.len());
        (held as f64 >= least && z > Z).then_some((*term, z))
    };
    let mut ranked: Vec<(usize, f64)> = in_failed.iter().filter_map(score).collect();
    if ranked.is_empty() {
        ranked = in_failed.keys().map(|&term| (term, centre[term])).collect();
    }
    // Of equal ones, a pair says more than a word.
    let words = |term: usize| names[term].split(' ').count();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| words(b.0).cmp(&words(a.0))).then(a.0.cmp(&b.0)));
    let mut chosen: Vec<usize> = Vec::new();
    for (term, _) in ranked {
        if chosen.len() < MAX_TERMS && !chosen.iter().any(|&other| overlap(&names[other], &names[term])) {
            chosen.push(term);
        }
    }
    let told = |term: usize| Term {
        term: names[term].clone(),
        failed: in_failed[&term],
        right: in_right.get(&term).copied().unwrap_or(0),
    };
    chosen.into_iter().map(told).collect()
}

/// The name of a cluster with these terms.
pub(super) fn label(terms: &[Term]) -> String {
    let named: Vec<&str> = terms.iter().take(NAMED).map(|term| term.term.as_str()).collect();
    if named.is_empty() { "nothing in common".to_owned() } else { named.join(", ") }
}

/// In how many vectors each term stands.
fn counts(vectors: &[&Vector]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for term in vectors.iter().flat_map(|vector| vector.terms()) {
        *counts.entry(term).or_default() += 1;
    }
    counts
}

/// The difference of the log-odds of a term over its standard error: `held` of `all` here, `other_held` of `other_all`
/// there.
fn log_odds(held: usize, all: usize, other_held: usize, other_all: usize) -> f64 {
    let cell = |count: usize| count as f64 + 0.5;
    let cells = [cell(held), cell(all - held), cell(other_held), cell(other_all - other_held)];
    let difference = (cells[0] / cells[1]).ln() - (cells[2] / cells[3]).ln();
    difference / cells.iter().map(|cell| 1.0 / cell).sum::<f64>().sqrt()
}

/// Whether a term says nothing that another one has not said.
fn overlap(one: &str, other: &str) -> bool {
    one.split(' ').any(|word| other.split(' ').any(|of_other| of_other == word))
}

#[cfg(test)]
mod tests {
    use super::super::partition;
    use super::super::terms::Vocabulary;
    use super::*;

    #[test]
    fn a_cluster_is_named_for_what_sets_it_apart() {
        let failed: Vec<String> = (1..=9).map(|n| format!("how old is the man of {n} pens")).collect();
        let right: Vec<String> = (1..=30).map(|n| format!("how many pens has the man of {n} hats")).collect();
        let check = |failed: &[String], right: &[String], expected: &str| {
            let vocabulary = Vocabulary::of(failed.iter().chain(right).map(String::as_str));
            let vectors = |texts: &[String]| -> Vec<Vector> {
                texts.iter().map(|text| vocabulary.vector(text)).collect()
            };
            let (failed, right) = (vectors(failed), vectors(right));
            let failed: Vec<&Vector> = failed.iter().collect();
            let centre = partition::centre(&failed, vocabulary.len());
            let found = terms(&failed, &right.iter().collect::<Vec<_>>(), &centre, &vocabulary.terms());
            assert_eq!(label(&found), expected, "{found:?}");
        };
        check(&failed, &right, "# pens, how old, is the");
        check(&failed, &[], "# pens, how old, is the, man of");
        check(&["alone".to_owned()], &[], "nothing in common");
    }

    /// Expected: `log((9.5 / 0.5) / (0.5 / 9.5)) / sqrt(2 / 9.5 + 2 / 0.5)`, by hand.
    #[test]
    fn log_odds_are_in_standard_errors() {
        crate::statistics::assert_close(log_odds(9, 9, 0, 9), 2.869_884, 1e-6, "z");
        assert_eq!(log_odds(3, 6, 5, 10), 0.0);
    }
}
