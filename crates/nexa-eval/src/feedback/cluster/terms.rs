//! Texts as vectors of terms: words and pairs of neighbouring words, numbers all alike.
//!
//! # Source
//! Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988: a term counts by the logarithm of
//! how often it stands in the text, and the more the fewer texts hold it.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::words::Words;

/// What any number stands as in a text whose numbers are masked.
const MASKED: &str = "0";
/// What a person reads in its place.
const NUMBER: &str = "#";

/// The terms that several of some texts hold, in their alphabetical order.
#[derive(Debug)]
pub(in crate::feedback) struct Vocabulary {
    numbers: BTreeMap<String, usize>,
    /// What each term counts.
    weights: Vec<f64>,
}

/// A text: the terms in it, ascending, with what they count. Its length is 1, or 0 where it has none of the terms.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::feedback) struct Vector(pub(super) Vec<(usize, f64)>);

impl Vocabulary {
    /// Collects the terms that at least two of some texts hold.
    pub(in crate::feedback) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut held_by: BTreeMap<String, usize> = BTreeMap::new();
        let mut count = 0;
        for text in texts {
            count += 1;
            for term in counted(text).into_keys() {
                *held_by.entry(term).or_default() += 1;
            }
        }
        held_by.retain(|_, texts| *texts > 1);
        let weight = |&texts: &usize| (f64::from(1 + count) / (1 + texts) as f64).ln() + 1.0;
        let weights = held_by.values().map(weight).collect();
        let numbers = held_by.into_keys().enumerate().map(|(number, term)| (term, number)).collect();
        Self { numbers, weights }
    }

    /// Counts the terms.
    pub(in crate::feedback) fn len(&self) -> usize {
        self.weights.len()
    }

    /// The terms, in their order, as a person reads them.
    pub(super) fn terms(&self) -> Vec<String> {
        let readable = |term: &String| {
            let words = term.split(' ').map(|word| if word == MASKED { NUMBER } else { word });
            words.collect::<Vec<_>>().join(" ")
        };
        self.numbers.keys().map(readable).collect()
    }

    /// The vector of a text.
    pub(in crate::feedback) fn vector(&self, text: &str) -> Vector {
        let mut parts: Vec<(usize, f64)> = counted(text)
            .into_iter()
            .filter_map(|(term, times)| {
                let number = *self.numbers.get(&term)?;
                Some((number, (1.0 + f64::from(times).ln()) * self.weights[number]))
            })
            .collect();
        let length = parts.iter().map(|(_, part)| part * part).sum::<f64>().sqrt();
        parts.iter_mut().for_each(|(_, part)| *part /= length);
        Vector(parts)
    }
}

impl Vector {
    /// The terms in it.
    pub(super) fn terms(&self) -> BTreeSet<usize> {
        self.0.iter().map(|(term, _)| *term).collect()
    }

    /// The cosine of the angle to a direction of length 1.
    pub(in crate::feedback) fn similarity(&self, direction: &[f64]) -> f64 {
        self.0.iter().map(|(term, part)| part * direction[*term]).sum()
    }
}

/// How often each term stands in a text.
fn counted(text: &str) -> BTreeMap<String, u32> {
    let mut words = Words::default();
    words.read(text, true);
    let mut counts = BTreeMap::new();
    for size in [1, 2] {
        for first in 0..(words.len() + 1).saturating_sub(size) {
            let term = String::from_utf8_lossy(words.span(first, size)).into_owned();
            *counts.entry(term).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_words_and_pairs_that_several_texts_hold() {
        let vocabulary = Vocabulary::of(["5 red pens", "7 red hats", "a hat"].into_iter());
        assert_eq!(vocabulary.terms(), ["#", "# red", "red"]);
    }

    #[test]
    fn a_rare_term_counts_more_and_a_vector_has_length_one() {
        let vocabulary = Vocabulary::of(["red pen", "red pen", "red hat", "red hat hat"].into_iter());
        let vector = vocabulary.vector("Red pens, HAT!");
        let terms = vocabulary.terms();
        let part = |term: &str| {
            vector.0.iter().find(|(number, _)| terms[*number] == term).map_or(0.0, |(_, part)| *part)
        };
        assert!(part("hat") > part("red") && part("red") > 0.0 && part("pen") == 0.0, "{vector:?}");
        assert!((vector.0.iter().map(|(_, part)| part * part).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(vocabulary.vector("nothing of it"), Vector::default());
    }
}
