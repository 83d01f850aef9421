//! The probabilities of the last tokens of sequences, with the beginnings that sequences share computed once.
//!
//! In the order of their tokens, each sequence takes over the full pages that it has in common with the one before it,
//! from whichever sequence computes them. What waits for no page is the first wave; what takes over pages of one wave
//! is of the next. Sequences of a wave are computed together.

use std::sync::Arc;

use nexa_core::lm::{Scored, TokenScore};

use super::LocalModel;
use super::network::{Input, Sequence};
use crate::kernels::cache::{PAGE_TOKENS, Page};
use crate::kernels::{simd, team};

/// Tokens that run through the model at a time.
const TOKENS_AT_ONCE: usize = 2048;
/// Rows of logits that are in memory at a time.
const ROWS_AT_ONCE: usize = 256;
/// Exponentials that are summed in single precision.
const SUMMED_AT_ONCE: usize = 1024;

impl LocalModel {
    /// Scores sequences that were checked.
    pub(super) fn scores(&self, sequences: &[Scored<'_>]) -> Vec<Vec<TokenScore>> {
        let plan = Plan::new(sequences);
        let mut scores = vec![Vec::new(); sequences.len()];
        let mut done: Vec<Option<Sequence>> = sequences.iter().map(|_| None).collect();
        for batch in plan.batches(sequences) {
            let mut fresh: Vec<Sequence> =
                batch.iter().map(|place| self.begun(place, sequences, &done)).collect();
            let inputs = fresh.iter_mut().zip(&batch).map(|(sequence, place)| {
                let Scored { token_ids, wanted } = sequences[place.index];
                let fed = &token_ids[sequence.token_ids.len()..token_ids.len() - 1];
                Input { sequence, token_ids: fed, wanted }
            });
            let inputs: Vec<Input<'_>> = inputs.collect();
            let hidden = rayon::scope(|_| self.network.hidden(inputs)); // [wanted, hidden]
            let targets = batch.iter().flat_map(|place| sequences[place.index].targets()).copied();
            let mut rated = self.rated(&hidden, &targets.collect::<Vec<_>>()).into_iter();
            for (place, sequence) in batch.iter().zip(fresh) {
                scores[place.index] = rated.by_ref().take(sequences[place.index].wanted).collect();
                done[place.index] = Some(sequence);
            }
        }
        scores
    }

    /// A sequence with the pages that it takes over, and room for the rest.
    fn begun(&self, place: &Place, sequences: &[Scored<'_>], done: &[Option<Sequence>]) -> Sequence {
        let fed = sequences[place.index].fed();
        let mut sequence = self.apart(0);
        if let Some((owner, pages)) = place.shared {
            let owner = done[owner].as_ref().expect("a wave waits for those before it");
            sequence.pages.extend_from_slice(&owner.pages[..pages]);
            sequence.token_ids.extend_from_slice(&fed[..pages * PAGE_TOKENS]);
        }
        let page = || Arc::new(Page::new(self.pool.shape()));
        sequence.pages.resize_with(fed.len().div_ceil(PAGE_TOKENS), page);
        sequence
    }

    /// Rates a token after each row of what the output layer reads.
    fn rated(&self, hidden: &[f32], targets: &[u32]) -> Vec<TokenScore> {
        let vocab = self.network.config.vocab_size;
        let mut scores = vec![TokenScore { logprob_nats: 0.0, is_greedy: false }; targets.len()];
        let blocks = hidden.chunks(ROWS_AT_ONCE * self.network.config.hidden_size);
        for ((hidden, targets), scores) in
            blocks.zip(targets.chunks(ROWS_AT_ONCE)).zip(scores.chunks_mut(ROWS_AT_ONCE))
        {
            let logits = rayon::scope(|_| self.network.logits(hidden)); // [rows, vocab]
            let rows = logits.chunks_exact(vocab).zip(targets).zip(scores);
            team::tasks(rows, |_, ((row, &target), score)| *score = rate(row, target));
        }
        scores
    }
}

/// Rates a token under the softmax of a row of logits.
pub(super) fn rate(logits: &[f32], token_id: u32) -> TokenScore {
    let largest = simd::max(logits);
    let total: f64 = logits.chunks(SUMMED_AT_ONCE).map(|chunk| f64::from(sum_of_exp(chunk, largest))).sum();
    let logit = logits[token_id as usize];
    TokenScore { logprob_nats: (f64::from(logit - largest) - total.ln()) as f32, is_greedy: logit >= largest }
}

/// Sums `e^(x - largest)`, lane by lane.
fn sum_of_exp(values: &[f32], largest: f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<{ simd::LANES }>();
    let mut lanes = [0.0; simd::LANES];
    for chunk in chunks {
        for lane in 0..simd::LANES {
            lanes[lane] += simd::exp(chunk[lane] - largest);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += simd::exp(value - largest);
    }
    simd::sum_lanes(lanes)
}

/// When a sequence is computed, and what it takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    /// Waves that go before.
    wave: usize,
    /// Whose pages it takes over, and how many.
    shared: Option<(usize, usize)>,
}

/// All places, in the order of the tokens.
struct Plan {
    places: Vec<Place>,
}

impl Plan {
    fn new(sequences: &[Scored<'_>]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).filter(|&at| sequences[at].wanted > 0).collect();
        order.sort_by_key(|&at| sequences[at].fed());
        let mut places: Vec<Place> = Vec::with_capacity(order.len());
        // Who computes each full page of the sequence before.
        let mut owners: Vec<usize> = Vec::new();
        for index in order {
            let common = places.last().map_or(0, |before| {
                common_pages(sequences[before.index].fed(), sequences[index].before_wanted())
            });
            owners.truncate(common);
            let owner = owners.last().map(|&at| places[at]);
            places.push(Place {
                index,
                wave: owner.map_or(0, |owner| owner.wave + 1),
                shared: owner.map(|owner| (owner.index, common)),
            });
            owners.resize(sequences[index].fed().len() / PAGE_TOKENS, places.len() - 1);
        }
        Self { places }
    }

    /// Places that are computed together, wave by wave.
    fn batches(mut self, sequences: &[Scored<'_>]) -> Vec<Vec<Place>> {
        self.places.sort_by_key(|place| place.wave);
        let mut batches: Vec<Vec<Place>> = Vec::new();
        let mut tokens = 0;
        for place in self.places {
            let own =
                sequences[place.index].fed().len() - place.shared.map_or(0, |(_, pages)| pages * PAGE_TOKENS);
            tokens += own;
            match batches.last_mut() {
                Some(batch) if batch[0].wave == place.wave && tokens <= TOKENS_AT_ONCE => batch.push(place),
                _ => {
                    batches.push(vec![place]);
                    tokens = own;
                }
            }
        }
        batches
    }
}

/// The parts of a sequence that is scored.
trait Parts<'a> {
    /// What the model sees: the last token is only predicted.
    fn fed(&self) -> &'a [u32];
    /// The tokens after which no logits are wanted.
    fn before_wanted(&self) -> &'a [u32];
    /// The tokens that are rated.
    fn targets(&self) -> &'a [u32];
}

impl<'a> Parts<'a> for Scored<'a> {
    fn fed(&self) -> &'a [u32] {
        &self.token_ids[..self.token_ids.len() - 1]
    }

    fn before_wanted(&self) -> &'a [u32] {
        &self.token_ids[..self.token_ids.len() - 1 - self.wanted]
    }

    fn targets(&self) -> &'a [u32] {
        &self.token_ids[self.token_ids.len() - self.wanted..]
    }
}

/// How many full pages two sequences begin with in common.
fn common_pages(a: &[u32], b: &[u32]) -> usize {
    let (a, b) = (a.as_chunks::<PAGE_TOKENS>().0, b.as_chunks::<PAGE_TOKENS>().0);
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some tokens of one value each.
    fn tokens(parts: &[(u32, usize)]) -> Vec<u32> {
        parts.iter().flat_map(|&(token, count)| std::iter::repeat_n(token, count)).collect()
    }

    #[test]
    fn beginnings_are_taken_over_page_by_page() {
        let few_shot = 2 * PAGE_TOKENS + 3;
        let sequences = [
            tokens(&[(1, few_shot), (2, PAGE_TOKENS), (3, 4)]),
            tokens(&[(1, few_shot), (2, PAGE_TOKENS), (4, 4)]),
            tokens(&[(1, few_shot), (5, PAGE_TOKENS), (3, 4)]),
            tokens(&[(9, 5)]),
            tokens(&[(1, few_shot), (5, PAGE_TOKENS), (3, 3)]),
        ];
        let scored: Vec<Scored<'_>> =
            sequences.iter().map(|token_ids| Scored { token_ids, wanted: 3 }).collect();
        let place = |index, wave, shared| Place { index, wave, shared };
        let expected = vec![
            vec![place(0, 0, None), place(3, 0, None)],
            // The shorter one sorts first and computes the page that the longer one takes over.
            vec![place(1, 1, Some((0, 3))), place(4, 1, Some((0, 2)))],
            vec![place(2, 2, Some((4, 3)))],
        ];
        assert_eq!(Plan::new(&scored).batches(&scored), expected);
        // Rows whose logits are wanted are computed by each sequence itself.
        let long: Vec<Scored<'_>> =
            scored.iter().map(|one| Scored { wanted: one.token_ids.len() - 1, ..*one }).collect();
        assert!(Plan::new(&long).places.iter().all(|place| place.shared.is_none()));
    }

    #[test]
    fn a_rating_is_the_logarithm_of_the_softmax() {
        let logits: Vec<f32> = (0..5000).map(|at| ((at * 37) % 101) as f32 / 7.0).collect();
        let exact = |at: usize| {
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(logits[at]) - total.ln()
        };
        for at in [0, 100, 4999] {
            let found = f64::from(rate(&logits, at as u32).logprob_nats);
            assert!((found - exact(at)).abs() < 2e-6, "{found} for {}", exact(at));
        }
        let largest = logits.iter().position(|&logit| logit == 100.0 / 7.0).unwrap();
        assert!(rate(&logits, largest as u32).is_greedy && !rate(&logits, 0).is_greedy);
    }
}
