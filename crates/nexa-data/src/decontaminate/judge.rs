//! What a row has in common with evaluation items.
//!
//! # Source
//! Common runs of 13 words are the rule of GPT-3 (Brown et al., "Language models are few-shot learners", 2020, appendix
//! C); the border of question and answer is looked at as in datatrove's decontamination; shares of question and answer
//! whose words count by their rarity are the idea of AI2's decon; a share from which on a row is taken out, 0.5, is that
//! of Tülu 3.
//!
//! # Departures
//! Words in common runs are what is counted, not the runs: one word that was changed costs one word and not thirteen
//! runs. No sampling: every run of a row is looked up.

use nexa_core::overlap::{Windows, hashes};

use super::Config;
use super::index::{Index, Part};
use crate::rows::Words;

/// Items that are told of one row, the worst first.
const MAX_MATCHES: usize = 8;

/// Why a row is taken out, the strongest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The end of the question is followed by the beginning of the answer.
    Border,
    /// Enough of the question.
    Question,
    /// Enough of the answer.
    Answer,
}

impl Reason {
    /// The word for it in tables.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Border => "border",
            Self::Question => "question",
            Self::Answer => "answer",
        }
    }
}

/// What a row has in common with an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    /// The number of the item.
    pub(super) item: u32,
    pub(super) reason: Reason,
    pub(super) question_overlap: f64,
    pub(super) answer_overlap: f64,
    /// The longest run in common of the part that is the reason, as words, and its first word in the row.
    pub(super) span: String,
    pub(super) span_start: usize,
}

/// Looks through rows.
pub(super) struct Judge<'a> {
    pub(super) config: &'a Config,
    pub(super) index: &'a Index,
}

/// A run of a row that is one of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    item: u32,
    part: Part,
    /// Where it stands in the item, less where it stands in the row: equal for what goes on.
    diagonal: i64,
    /// The first word in the row.
    start: usize,
    length: usize,
}

impl Judge<'_> {
    /// The items that a row is contaminated by.
    pub(super) fn judge(&self, words: &Words) -> Vec<Match> {
        let mut hits = self.hits(words);
        hits.sort_unstable();
        let mut matches: Vec<Match> = hits
            .chunk_by(|one, other| one.item == other.item)
            .filter_map(|of_item| self.judge_item(of_item, words))
            .collect();
        let overlap = |found: &Match| found.question_overlap.max(found.answer_overlap);
        matches.sort_by(|one, other| {
            one.reason
                .cmp(&other.reason)
                .then(overlap(other).total_cmp(&overlap(one)))
                .then(one.item.cmp(&other.item))
        });
        matches.truncate(MAX_MATCHES);
        matches
    }

    fn hits(&self, words: &Words) -> Vec<Hit> {
        let hashes: Vec<u64> = hashes(words).collect();
        let windows = Windows::of(&hashes);
        let mut hits = Vec::new();
        for &length in &self.index.lengths {
            for (start, hash) in windows.hashes(length).enumerate() {
                for place in self.index.places(hash) {
                    let diagonal = i64::from(place.at) - start as i64;
                    hits.push(Hit { item: place.item, part: place.part, diagonal, start, length });
                }
            }
        }
        hits
    }

    /// Judges by the hits of one item, which are sorted by part, diagonal and start.
    fn judge_item(&self, hits: &[Hit], words: &Words) -> Option<Match> {
        let item = hits.first()?.item;
        let weights = &self.index.weights[item as usize];
        let of = |part: Part| hits.iter().filter(move |hit| hit.part == part);
        let question_overlap = overlap(of(Part::Question), &weights.question);
        let answer_overlap = overlap(of(Part::Answer), &weights.answer);
        let enough = |share: f64| share > 0.0 && share >= self.config.min_overlap;
        let (reason, part) = if of(Part::Border).next().is_some() {
            (Reason::Border, Part::Border)
        } else if enough(question_overlap) {
            (Reason::Question, Part::Question)
        } else if enough(answer_overlap) {
            (Reason::Answer, Part::Answer)
        } else {
            return None;
        };
        let (span_start, length) = longest(of(part));
        let span = String::from_utf8_lossy(words.span(span_start, length)).into_owned();
        Some(Match { item, reason, question_overlap, answer_overlap, span, span_start })
    }
}

/// The share of a part that stands in common runs, by the weights of its words.
fn overlap<'a>(hits: impl Iterator<Item = &'a Hit>, weights: &[f64]) -> f64 {
    let mut is_covered = vec![false; weights.len()];
    for hit in hits {
        let at =
            usize::try_from(hit.diagonal + hit.start as i64).expect("a place in an item is not negative");
        is_covered[at..at + hit.length].fill(true);
    }
    // From a fold over plain zeros: the sum of no numbers at all would be the negative one.
    let sum = |is_counted: &dyn Fn(usize) -> bool| {
        let counted = weights.iter().enumerate().filter(|(at, _)| is_counted(*at));
        counted.fold(0.0, |sum, (_, weight)| sum + weight)
    };
    let total = sum(&|_| true);
    if total > 0.0 { sum(&|at| is_covered[at]) / total } else { 0.0 }
}

/// The longest stretch of a row that hits of one diagonal cover without a gap: its first word, and how many.
fn longest<'a>(hits: impl Iterator<Item = &'a Hit>) -> (usize, usize) {
    let mut best = (0, 0);
    let mut open: Option<(i64, usize, usize)> = None;
    for hit in hits {
        let end = hit.start + hit.length;
        let stretch = match open {
            Some((diagonal, start, until)) if diagonal == hit.diagonal && hit.start <= until => {
                (diagonal, start, until.max(end))
            }
            _ => (hit.diagonal, hit.start, end),
        };
        if stretch.2 - stretch.1 > best.1 {
            best = (stretch.1, stretch.2 - stretch.1);
        }
        open = Some(stretch);
    }
    best
}
