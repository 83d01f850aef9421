//! The runs of words by which items are found in rows.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

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
    if question.len() >= config.min_words {
        runs.extend(windows(Part::Question, question, config.ngram_words.min(question.len())));
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

/// Hashes of all runs of a text, each in constant time: differences of the prefixes of a polynomial modulo 2^64.
pub(super) struct Windows {
    prefixes: Vec<u64>,
}

impl Windows {
    /// Any odd number with bits all over.
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Prepares a text, given as the hashes of its words.
    pub(super) fn of(words: &[u64]) -> Self {
        let mut prefixes = Vec::with_capacity(words.len() + 1);
        prefixes.push(0_u64);
        let mut hash = 0_u64;
        for word in words {
            hash = hash.wrapping_mul(Self::BASE).wrapping_add(*word);
            prefixes.push(hash);
        }
        Self { prefixes }
    }

    /// The hashes of all runs of a length, in order; the length is part of them.
    pub(super) fn hashes(&self, length: usize) -> impl Iterator<Item = u64> {
        let power = (0..length).fold(1_u64, |power, _| power.wrapping_mul(Self::BASE));
        let ends = self.prefixes.iter().skip(length);
        self.prefixes.iter().zip(ends).map(move |(start, end)| {
            let difference = end.wrapping_sub(start.wrapping_mul(power));
            // High bits depend on all words; those that a table goes by are the low ones.
            (difference ^ length as u64).wrapping_mul(Self::BASE).rotate_left(32)
        })
    }
}

/// Takes hashes as they are.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_same_hash_wherever_it_stands() {
        let hashes = |words: &[u64], length: usize| Windows::of(words).hashes(length).collect::<Vec<_>>();
        let found = hashes(&[5, 6, 7, 5, 6, 7, 8], 3);
        assert_eq!(found.len(), 5);
        assert_eq!(found[0], found[3]);
        assert_eq!(hashes(&[5, 6, 7], 3), [found[0]]);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 4);
        assert_ne!(hashes(&[0, 0], 2), hashes(&[0, 0, 0], 3));
        assert!(hashes(&[1], 2).is_empty());
    }

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
