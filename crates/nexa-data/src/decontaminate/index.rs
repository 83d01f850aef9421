//! The runs of words by which items are found in rows.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use nexa_core::overlap::{AsItIs, Windows, run_length};

use super::Config;
use super::items::{Item, Items};

/// Words of the answer that a run across the border needs, or all where there are fewer: the first word of an answer
/// follows many questions.
const BORDER_ANSWER_WORDS: usize = 3;

/// The part of an item that a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Question,
    Answer,
    /// The end of the question with the beginning of the answer.
    Border,
}

/// Where a run stands in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the item.
    pub(super) item: u32,
    pub(super) part: Part,
    /// The first word, counted in the part; across the border, in the question.
    pub(super) at: u32,
}

/// The runs of all items, by their hashes.
pub(super) struct Index {
    /// The lengths of runs that occur, ascending.
    pub(super) lengths: Vec<usize>,
    places: HashMap<u64, Vec<Place>, BuildHasherDefault<AsItIs>>,
    /// For each set, the items that are too short to be looked for.
    pub(super) too_short: Vec<u64>,
    /// For each item, what each of its words counts.
    pub(super) weights: Vec<Weights>,
}

/// What the words of an item count: the rarer in the evaluation sets, the more.
pub(super) struct Weights {
    pub(super) question: Vec<f64>,
    pub(super) answer: Vec<f64>,
}

impl Index {
    /// Indexes items.
    pub(super) fn of(config: &Config, items: &Items) -> Self {
        let mut index = Self {
            lengths: Vec::new(),
            places: HashMap::default(),
            too_short: vec![0; items.sets.len()],
            weights: weights(&items.all),
        };
        let mut lengths = BTreeSet::new();
        for (number, item) in (0..).zip(&items.all) {
            let runs = runs(config, item);
            index.too_short[item.set] += u64::from(runs.is_empty());
            for Run { part, at, words } in runs {
                lengths.insert(words.len());
                let place = Place { item: number, part, at };
                for hash in Windows::of(&words).hashes(words.len()) {
                    index.places.entry(hash).or_default().push(place);
                }
            }
        }
        index.lengths = lengths.into_iter().collect();
        index
    }

    /// The places of the run of a hash.
    pub(super) fn places(&self, hash: u64) -> &[Place] {
        self.places.get(&hash).map_or(&[], Vec::as_slice)
    }
}

/// A run of words that is looked for.
struct Run {
    part: Part,
    at: u32,
    words: Vec<u64>,
}

/// The runs of an item. A question that is shorter than a run is looked for as a whole; one that is too short for that,
/// together with its answer. An answer alone is looked for only where it is as long as a run.
fn runs(config: &Config, item: &Item) -> Vec<Run> {
    let (question, answer) = (&item.question, &item.answer);
    let all: Vec<u64> = question.iter().chain(answer).copied().collect();
    let run = |part, at: usize, words: &[u64]| Run {
        part,
        at: u32::try_from(at).expect("a text has fewer words"),
        words: words.to_vec(),
    };
    let windows = |part, words: &[u64], size: usize| -> Vec<Run> {
        words.windows(size).enumerate().map(|(at, window)| run(part, at, window)).collect()
    };
    let mut runs = Vec::new();
    if let Some(length) = run_length(question.len(), config.ngram_words, config.min_words) {
        runs.extend(windows(Part::Question, question, length));
    }
    runs.extend(windows(Part::Answer, answer, config.ngram_words));
    let needed = BORDER_ANSWER_WORDS.min(answer.len());
    let border = config.border_words;
    if question.is_empty() || answer.is_empty() {
        return runs;
    }
    if all.len() >= border {
        // From the run with the fewest words of the answer to the one with the fewest of the question.
        let first = (question.len() + needed).saturating_sub(border);
        let last = (all.len() - border).min(question.len() - 1);
        for at in first..=last {
            runs.push(run(Part::Border, at, &all[at..at + border]));
        }
    } else if question.len() < config.min_words && all.len() >= config.min_words {
        runs.push(run(Part::Border, 0, &all));
    }
    runs
}

/// What each word counts: `ln(1 + items / items with it)`, questions and answers each for themselves.
fn weights(items: &[Item]) -> Vec<Weights> {
    let weigh = |part: fn(&Item) -> &Vec<u64>| {
        let mut with_word: HashMap<u64, u32, BuildHasherDefault<AsItIs>> = HashMap::default();
        for item in items {
            let different: BTreeSet<u64> = part(item).iter().copied().collect();
            different.into_iter().for_each(|word| *with_word.entry(word).or_default() += 1);
        }
        let weight = |word: &u64| (items.len() as f64 / f64::from(with_word[word])).ln_1p();
        items.iter().map(|item| part(item).iter().map(weight).collect()).collect::<Vec<Vec<f64>>>()
    };
    let (questions, answers) = (weigh(|item| &item.question), weigh(|item| &item.answer));
    questions.into_iter().zip(answers).map(|(question, answer)| Weights { question, answer }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_looked_for_by_runs_that_fit_their_length() {
        let config = Config { ngram_words: 6, border_words: 5, min_words: 3, ..Config::default() };
        let check = |question: u64, answer: u64, expected: &[(Part, u32, usize)]| {
            let item = Item {
                set: 0,
                id: String::new(),
                question: (0..question).collect(),
                answer: (100..100 + answer).collect(),
            };
            let found: Vec<_> =
                runs(&config, &item).iter().map(|run| (run.part, run.at, run.words.len())).collect();
            assert_eq!(found, expected, "{question} and {answer}");
        };
        use Part::{Answer, Border, Question};
        check(7, 0, &[(Question, 0, 6), (Question, 1, 6)]);
        check(4, 1, &[(Question, 0, 4), (Border, 0, 5)]);
        check(4, 4, &[(Question, 0, 4), (Border, 2, 5), (Border, 3, 5)]);
        check(3, 6, &[(Question, 0, 3), (Answer, 0, 6), (Border, 1, 5), (Border, 2, 5)]);
        check(2, 2, &[(Border, 0, 4)]);
        check(1, 1, &[]);
        check(0, 5, &[]);
    }
}
