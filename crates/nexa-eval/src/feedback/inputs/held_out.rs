//! What a model is judged by, and which prompts are that or nearly that.
//!
//! # Source
//! Common runs of words, each counted by how rare it is among the items, are the idea of AI2's decon; `data.decontaminate`
//! looks for the same in whole rows. Here only questions are compared, so the runs can be short.
//!
//! # Departures
//! Prompts of the group of a held-out row are refused whatever their words: they ask the same in other words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nexa_core::words::Words;

/// Held-out questions.
#[derive(Debug, Default)]
pub(super) struct HeldOut {
    items: Vec<Item>,
    /// The items by their whole text.
    texts: HashMap<Vec<u8>, usize>,
    groups: HashMap<String, usize>,
    /// The items that hold a run.
    runs: HashMap<Vec<u8>, Vec<usize>>,
    run_words: usize,
}

/// A held-out question.
#[derive(Debug)]
struct Item {
    set: String,
    id: String,
    runs: BTreeSet<Vec<u8>>,
}

/// A question to be held out.
pub(super) struct Question<'a> {
    /// Where it is from, for people.
    pub(super) set: &'a str,
    pub(super) id: &'a str,
    pub(super) text: &'a str,
    pub(super) group: Option<&'a str>,
}

/// Why a prompt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It is the question, but for case, punctuation and white space.
    SameText,
    /// It is of the group of the question.
    SameGroup,
    /// It has most of the question in common.
    NearCopy,
}

/// A prompt that is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal<'a> {
    pub(super) reason: Reason,
    pub(super) set: &'a str,
    pub(super) id: &'a str,
    /// The share of the question that the prompt holds.
    pub(super) overlap: f64,
}

impl Reason {
    /// Every reason.
    pub(super) const ALL: [Self; 3] = [Self::SameText, Self::SameGroup, Self::NearCopy];

    /// The word for it in tables.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SameText => "same_text",
            Self::SameGroup => "same_group",
            Self::NearCopy => "near_copy",
        }
    }
}

impl HeldOut {
    /// Holds nothing yet; runs are of so many words.
    pub(super) fn new(run_words: usize) -> Self {
        Self { run_words, ..Self::default() }
    }

    /// Counts the questions.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Holds out a question. One that is held out already only adds its group.
    pub(super) fn add(&mut self, question: &Question<'_>) {
        let mut words = Words::default();
        words.read(question.text, false);
        if words.is_empty() {
            return;
        }
        let number = *self.texts.entry(words.all().to_vec()).or_insert(self.items.len());
        if let Some(group) = question.group {
            self.groups.entry(group.to_owned()).or_insert(number);
        }
        if number < self.items.len() {
            return;
        }
        let runs = runs(&words, self.run_words);
        for run in &runs {
            self.runs.entry(run.clone()).or_default().push(number);
        }
        self.items.push(Item { set: question.set.to_owned(), id: question.id.to_owned(), runs });
    }

    /// Judges a prompt. `min_overlap` is the share of a question, its runs counted by how rare they are, from which on
    /// a prompt is a near copy of it.
    pub(super) fn refuses(&self, prompt: &str, group: Option<&str>, min_overlap: f64) -> Option<Refusal<'_>> {
        let refusal = |reason, number: usize, overlap| {
            let Item { set, id, .. } = &self.items[number];
            Refusal { reason, set, id, overlap }
        };
        let mut words = Words::default();
        words.read(prompt, false);
        if let Some(&number) = self.texts.get(words.all()) {
            return Some(refusal(Reason::SameText, number, 1.0));
        }
        let (overlap, nearest) = self.nearest(&words).unwrap_or_default();
        if let Some(&number) = group.and_then(|group| self.groups.get(group)) {
            return Some(refusal(Reason::SameGroup, number, if number == nearest { overlap } else { 0.0 }));
        }
        (overlap > 0.0 && overlap >= min_overlap).then(|| refusal(Reason::NearCopy, nearest, overlap))
    }

    /// The question of which a text holds the largest share, the first of several.
    fn nearest(&self, words: &Words) -> Option<(f64, usize)> {
        let mut held: BTreeMap<usize, f64> = BTreeMap::new();
        for run in runs(words, self.run_words) {
            for &number in self.runs.get(&run).into_iter().flatten() {
                *held.entry(number).or_default() += self.weight(&run);
            }
        }
        let share = |(number, held): (usize, f64)| {
            let all: f64 = self.items[number].runs.iter().map(|run| self.weight(run)).sum();
            (held / all, number)
        };
        let shares = held.into_iter().map(share);
        shares.fold(None, |best: Option<(f64, usize)>, one| match best {
            Some(best) if best.0 >= one.0 => Some(best),
            _ => Some(one),
        })
    }

    /// What a run of an item counts.
    fn weight(&self, run: &[u8]) -> f64 {
        (self.items.len() as f64 / self.runs.get(run).map_or(1, Vec::len) as f64).ln_1p()
    }
}

/// The different runs of some words. Of a text that is shorter than a run there is none: it is looked for as a whole.
fn runs(words: &Words, size: usize) -> BTreeSet<Vec<u8>> {
    (0..(words.len() + 1).saturating_sub(size)).map(|first| words.span(first, size).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "A baker fills fourteen trays with nine rolls each and sells two thirds of them before noon. \
                            How many rolls are left?";

    fn check(prompt: &str, group: Option<&str>, expected: Option<(Reason, &str)>) {
        let mut held_out = HeldOut::new(5);
        let mut add = |id: &str, text: &str, group: Option<&str>| {
            held_out.add(&Question { set: "test", id, text, group });
        };
        add("baker", QUESTION, Some("g1"));
        add("short", "What is 7 and 8?", None);
        // What every item says is no sign of any.
        for n in 0..20 {
            add(
                &format!("n{n}"),
                &format!("Count {n} carefully. Give the answer after four hash signs."),
                None,
            );
        }
        let found = held_out.refuses(prompt, group, 0.5);
        assert_eq!(
            found.as_ref().map(|refusal| (refusal.reason, refusal.id)),
            expected,
            "{prompt}: {found:?}"
        );
    }

    #[test]
    fn evaluation_items_and_near_copies_are_refused() {
        check(&QUESTION.to_uppercase().replace('.', " !"), None, Some((Reason::SameText, "baker")));
        check("what is 7, and 8", None, Some((Reason::SameText, "short")));
        check("In other words.", Some("g1"), Some((Reason::SameGroup, "baker")));
        let near = QUESTION.replace("fourteen", "fifteen");
        check(&format!("Solve this. {near} Think well."), None, Some((Reason::NearCopy, "baker")));
    }

    #[test]
    fn new_problems_are_not() {
        check("What is 7 and 9?", None, None);
        check("A baker fills six trays with two rolls each. How many rolls are there?", Some("g2"), None);
        check("Name a river. Give the answer after four hash signs.", None, None);
        check("", None, None);
    }
}
