//! The runs of words of what is asked, and which of them were found.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, Ordering};

use nexa_core::overlap::{AsItIs, MIN_WORDS, Windows, hashes, run_length};
use nexa_core::words::Words;

use super::{Rule, Shares};

/// A run that stands in more documents of a task than this, and than a hundredth of them, is the task's wording.
const WORDING_DOCUMENTS: usize = 3;

/// The runs of all documents. Its size is that of the evaluation, whatever there is of training data.
pub(super) struct Index {
    runs: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    is_found: Vec<AtomicBool>,
    /// The lengths of runs that occur, ascending.
    lengths: BTreeSet<usize>,
    /// By task, the runs of each document.
    tasks: Vec<Vec<Runs>>,
}

/// The different runs of a document by each rule, by their numbers. Where it has none, it cannot be looked for.
type Runs = [Vec<usize>; Rule::ALL.len()];

impl Index {
    /// Indexes the documents of some tasks.
    pub(super) fn of(tasks: &[Vec<String>]) -> Self {
        let mut index = Self {
            runs: HashMap::default(),
            is_found: Vec::new(),
            lengths: BTreeSet::new(),
            tasks: Vec::new(),
        };
        for documents in tasks {
            let mut found: Vec<Runs> = documents.iter().map(|text| index.add(text)).collect();
            forget_wording(&mut found);
            index.tasks.push(found);
        }
        index.is_found = index.runs.iter().map(|_| AtomicBool::new(false)).collect();
        index
    }

    fn add(&mut self, text: &str) -> Runs {
        let mut words = Words::default();
        words.read(text, false);
        let windows = Windows::of(&hashes(&words).collect::<Vec<_>>());
        Rule::ALL.map(|rule| {
            let Some(length) = run_length(words.len(), rule.words, MIN_WORDS) else { return Vec::new() };
            self.lengths.insert(length);
            let number = |hash| {
                let next = self.runs.len();
                *self.runs.entry(hash).or_insert(next)
            };
            let mut numbers: Vec<usize> = windows.hashes(length).map(number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        })
    }

    /// Marks the runs that stand in a text of the training data.
    pub(super) fn look(&self, text: &str, words: &mut Words) {
        words.read(text, false);
        let windows = Windows::of(&hashes(words).collect::<Vec<_>>());
        for &length in &self.lengths {
            for hash in windows.hashes(length) {
                if let Some(&number) = self.runs.get(&hash) {
                    self.is_found[number].store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// The share of each document's runs that was found, task by task; none of those that cannot be looked for.
    pub(super) fn shares(&self) -> Vec<Vec<Option<Shares>>> {
        let is_found = |number: &&usize| self.is_found[**number].load(Ordering::Relaxed);
        let share = |runs: &Vec<usize>| {
            let found = runs.iter().filter(is_found).count();
            (!runs.is_empty()).then(|| found as f64 / runs.len() as f64)
        };
        let of_document = |[eight, thirteen]: &Runs| Some([share(eight)?, share(thirteen)?]);
        self.tasks.iter().map(|documents| documents.iter().map(of_document).collect()).collect()
    }
}

/// Takes out the runs that stand in many documents of a task: its questions begin or end alike, and so may those of
/// training data without holding any of these.
fn forget_wording(documents: &mut [Runs]) {
    let many = WORDING_DOCUMENTS.max(documents.len() / 100);
    let mut standing: HashMap<usize, usize> = HashMap::new();
    for runs in documents.iter() {
        let different: BTreeSet<usize> = runs.iter().flatten().copied().collect();
        different.into_iter().for_each(|number| *standing.entry(number).or_default() += 1);
    }
    for runs in documents.iter_mut().flatten() {
        runs.retain(|number| standing[number] <= many);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a baker fills fourteen trays with nine rolls each and sells two thirds of them before noon";

    fn shares(documents: &[&str], training: &[&str]) -> Vec<Option<Shares>> {
        let index = Index::of(&[documents.iter().map(|&text| text.to_owned()).collect()]);
        let mut words = Words::default();
        training.iter().for_each(|text| index.look(text, &mut words));
        index.shares().remove(0)
    }

    /// By hand: 17 words have ten runs of 8 and five of 13.
    #[test]
    fn the_share_is_that_of_the_runs_that_were_found() {
        let check = |training: &str, expected: Shares| {
            let found = shares(&[TEXT], &[training])[0].unwrap();
            assert_eq!(found, expected, "{training}");
        };
        check("something else that has nothing to do with any of it at all", [0.0, 0.0]);
        check(&format!("Now: {}!", TEXT.to_uppercase()), [1.0, 1.0]);
        check("baker fills fourteen trays with nine rolls each", [0.1, 0.0]);
        check("trays with nine rolls each and sells two thirds of them before noon", [0.6, 0.2]);
        check("trays with NINE rolls, each and sells ten thirds of them before noon", [0.0, 0.0]);
    }

    #[test]
    fn a_short_document_is_looked_for_as_a_whole_and_a_shorter_one_not_at_all() {
        let found =
            shares(&["How many is four plus four?", "Four plus four?"], &["x how many is four plus four y"]);
        assert_eq!(found, [Some([1.0, 1.0]), None]);
    }

    #[test]
    fn what_every_document_says_tells_of_none() {
        let wording = "read the question carefully and give the final answer after four hash signs";
        let texts: Vec<String> =
            ["red", "blue", "green", "brown"].map(|color| format!("{wording} which fruit is {color}")).into();
        let documents: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(shares(&documents, &[wording]), [Some([0.0, 0.0]); 4]);
        let found = shares(&documents, &[documents[1]]);
        assert_eq!((found[1], found[0].unwrap()[1]), (Some([1.0, 1.0]), 0.0), "{found:?}");
    }
}
