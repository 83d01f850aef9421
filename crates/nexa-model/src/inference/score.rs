//! The probabilities of the last tokens of sequences, with everything that sequences share computed once.
//!
//! In the order of their tokens, each sequence takes over what it begins with in common with the one before it, from
//! whichever sequence computes that: keys and values, and the logits too. What takes over nothing is the first wave; what
//! takes over tokens of one wave is of the next. Sequences of a wave are computed together.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexa_core::lm::{Scored, TokenScore};

use super::LocalModel;
use super::network::{Input, Sequence};
use crate::kernels::cache::{PAGE_TOKENS, Page};
use crate::kernels::log_softmax::{LogSoftmax, RatedRow};

/// Tokens that run through the model at a time.
const TOKENS_AT_ONCE: usize = 2048;
/// Rows of what the output layer reads that it takes at a time.
const ROWS_AT_ONCE: usize = 256;
/// Fewer tokens than these are not worth another wave.
const WORTH_SHARING: usize = 4;

impl LocalModel {
    /// Scores sequences that were checked.
    pub(super) fn scores(&self, sequences: &[Scored<'_>]) -> Vec<Vec<TokenScore>> {
        let plan = Plan::new(sequences);
        let nothing = TokenScore { logprob_nats: 0.0, is_greedy: false };
        let mut scores: Vec<Vec<TokenScore>> =
            sequences.iter().map(|one| vec![nothing; one.wanted]).collect();
        // What others go on from.
        let mut kept: BTreeMap<usize, Sequence> = BTreeMap::new();
        for batch in plan.batches() {
            let mut fresh: Vec<Sequence> = batch.iter().map(|&at| self.begun(&plan, at, &kept)).collect();
            let inputs = fresh.iter_mut().zip(&batch).map(|(sequence, &at)| {
                let token_ids = &plan.places[at].fed[sequence.token_ids.len()..];
                Input { sequence, token_ids, wanted: plan.places[at].rows() }
            });
            let inputs: Vec<Input<'_>> = inputs.collect();
            let hidden = rayon::scope(|_| self.network.hidden(inputs)); // [rows, hidden]
            let rows: Vec<&[Asked]> = batch.iter().flat_map(|&at| plan.places[at].asked_by_row()).collect();
            for (asked, score) in self.rated(&hidden, &rows) {
                scores[asked.sequence][asked.slot] = score;
            }
            for (&at, sequence) in batch.iter().zip(fresh) {
                kept.insert(at, sequence);
            }
            let wave = plan.places[batch[0]].wave;
            kept.retain(|&at, _| plan.places[at].is_needed(wave));
        }
        scores
    }

    /// A sequence with what it takes over, and room for the rest. A page that it shares only in part is copied.
    fn begun(&self, plan: &Plan<'_>, at: usize, kept: &BTreeMap<usize, Sequence>) -> Sequence {
        let Place { fed, shared, .. } = &plan.places[at];
        let mut sequence = self.apart(0);
        if let Some(Shared { owner, tokens }) = *shared {
            let owner = &kept[&owner];
            let full = tokens / PAGE_TOKENS;
            sequence.pages.extend_from_slice(&owner.pages[..full]);
            if tokens > full * PAGE_TOKENS {
                sequence.pages.push(Arc::new(Page::clone(&owner.pages[full])));
            }
            sequence.token_ids.extend_from_slice(&fed[..tokens]);
        }
        let page = || Arc::new(Page::new(self.pool.shape()));
        sequence.pages.resize_with(fed.len().div_ceil(PAGE_TOKENS), page);
        sequence
    }

    /// Rates what is asked after each row of what the output layer reads.
    fn rated<'a>(&self, hidden: &[f32], rows: &[&'a [Asked]]) -> Vec<(&'a Asked, TokenScore)> {
        let width = self.network.config.hidden_size;
        let mut rated = Vec::new();
        for (hidden, rows) in hidden.chunks(ROWS_AT_ONCE * width).zip(rows.chunks(ROWS_AT_ONCE)) {
            let columns = |asked: &&[Asked]| asked.iter().map(|asked| asked.token_id).collect();
            let columns: Vec<Vec<u32>> = rows.iter().map(columns).collect();
            let found = rayon::scope(|_| self.network.rate(hidden, &columns));
            for (asked, RatedRow { softmax, logits }) in rows.iter().copied().zip(found) {
                rated.extend(asked.iter().zip(logits).map(|(asked, logit)| (asked, score(&softmax, logit))));
            }
        }
        rated
    }
}

/// The score of a token with this logit.
pub(super) fn score(softmax: &LogSoftmax, logit: f32) -> TokenScore {
    TokenScore { logprob_nats: softmax.logprob_nats(logit), is_greedy: softmax.is_largest(logit) }
}

/// A token whose score somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// After which of the tokens that the place computes it comes.
    row: usize,
    token_id: u32,
    /// Whose score it is, and which of them.
    sequence: usize,
    slot: usize,
}

/// What a sequence takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shared {
    /// The place that has computed it, or taken it over itself.
    owner: usize,
    tokens: usize,
}

/// A sequence that is computed.
#[derive(Debug)]
struct Place<'a> {
    /// What the model sees: the last token is only predicted.
    fed: &'a [u32],
    /// Waves that go before.
    wave: usize,
    /// The last wave that goes on from it; its own where none does.
    last_use: usize,
    shared: Option<Shared>,
    /// By row.
    asked: Vec<Asked>,
}

impl Place<'_> {
    /// Rows of logits that are computed, up to the last token.
    fn rows(&self) -> usize {
        self.asked.first().map_or(0, |first| self.fed.len() - first.row)
    }

    /// What is asked after each of these rows.
    fn asked_by_row(&self) -> impl Iterator<Item = &[Asked]> {
        let first = self.fed.len() - self.rows();
        (first..self.fed.len()).map(|row| {
            let start = self.asked.partition_point(|asked| asked.row < row);
            let end = self.asked.partition_point(|asked| asked.row <= row);
            &self.asked[start..end]
        })
    }

    /// Whether this wave, which may have more batches, or a later one goes on from it.
    fn is_needed(&self, wave: usize) -> bool {
        self.last_use > self.wave && self.last_use >= wave
    }

    /// Tokens that it computes.
    fn own(&self) -> usize {
        self.fed.len() - self.shared.map_or(0, |shared| shared.tokens)
    }
}

/// All places, in the order of the tokens.
struct Plan<'a> {
    places: Vec<Place<'a>>,
}

impl<'a> Plan<'a> {
    fn new(sequences: &[Scored<'a>]) -> Self {
        let fed = |at: usize| &sequences[at].token_ids[..sequences[at].token_ids.len() - 1];
        let mut order: Vec<usize> = (0..sequences.len()).filter(|&at| sequences[at].wanted > 0).collect();
        order.sort_by_key(|&at| fed(at));
        let mut places: Vec<Place<'a>> = Vec::with_capacity(order.len());
        // Who computes each token of the sequence before.
        let mut owners: Vec<usize> = Vec::new();
        for sequence in order {
            let Scored { token_ids, wanted } = sequences[sequence];
            let fed = fed(sequence);
            let before = places.last().map_or(&[][..], |before| before.fed);
            let common = before.iter().zip(fed).take_while(|(a, b)| a == b).count();
            // A sequence that is all shared adds nothing to be computed, only to be asked.
            let is_known = common == fed.len();
            owners.truncate(if common < WORTH_SHARING && !is_known { 0 } else { common });
            if !is_known {
                let shared = owners.last().map(|&owner| Shared { owner, tokens: owners.len() });
                let wave = shared.map_or(0, |shared| places[shared.owner].wave + 1);
                if let Some(Shared { owner, .. }) = shared {
                    places[owner].last_use = places[owner].last_use.max(wave);
                }
                owners.resize(fed.len(), places.len());
                places.push(Place { fed, wave, last_use: wave, shared, asked: Vec::new() });
            }
            for slot in 0..wanted {
                let row = token_ids.len() - wanted + slot - 1;
                let token_id = token_ids[row + 1];
                places[owners[row]].asked.push(Asked { row, token_id, sequence, slot });
            }
        }
        for place in &mut places {
            place.asked.sort_by_key(|asked| asked.row);
        }
        Self { places }
    }

    /// Places that are computed together, wave by wave.
    fn batches(&self) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|&at| self.places[at].wave);
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut tokens = 0;
        for at in order {
            let place = &self.places[at];
            tokens += place.own();
            match batches.last_mut() {
                Some(batch) if self.places[batch[0]].wave == place.wave && tokens <= TOKENS_AT_ONCE => {
                    batch.push(at);
                }
                _ => {
                    tokens = place.own();
                    batches.push(vec![at]);
                }
            }
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan as text: for each batch what each place computes, what it takes over, and what is asked of it.
    fn planned(sequences: &[(&str, usize)]) -> Vec<Vec<String>> {
        let token_ids: Vec<Vec<u32>> =
            sequences.iter().map(|(text, _)| text.chars().map(u32::from).collect()).collect();
        let scored: Vec<Scored<'_>> = token_ids
            .iter()
            .zip(sequences)
            .map(|(token_ids, &(_, wanted))| Scored { token_ids, wanted })
            .collect();
        let plan = Plan::new(&scored);
        let text = |ids: &[u32]| ids.iter().filter_map(|&id| char::from_u32(id)).collect::<String>();
        let place = |&at: &usize| {
            let place = &plan.places[at];
            let (known, own) = place.fed.split_at(place.fed.len() - place.own());
            let asked: Vec<String> = place
                .asked
                .iter()
                .map(|asked| format!("{}{}{}", asked.row, text(&[asked.token_id]), asked.sequence))
                .collect();
            format!("{}+{} {}", text(known), text(own), asked.join(","))
        };
        plan.batches().iter().map(|batch| batch.iter().map(place).collect()).collect()
    }

    #[test]
    fn what_is_shared_is_computed_once() {
        // Two sentences that differ in the middle, one that begins like neither, and one that is known already.
        let sequences = [("the cat sat.", 11), ("the cap sat.", 11), ("a dog", 4), ("the cat.", 1)];
        let found = planned(&sequences);
        let asked_of_cap = "0h1,0h0,1e1,1e0,2 1,2 0,3c1,3c0,4a1,4a0,5p1,5t0,6 1,7s1,8a1,9t1,10.1";
        assert_eq!(
            found,
            [
                vec!["+a do 0 2,1d2,2o2,3g2".to_owned(), format!("+the cap sat {asked_of_cap}")],
                // `the cat` goes on from `the ca`, and `the cat sat` from that.
                vec!["the ca+t 6.3,6 0".to_owned()],
                vec!["the cat+ sat 7s0,8a0,9t0,10.0".to_owned()],
            ]
        );
        // Choices of one token each ask the same row.
        assert_eq!(planned(&[("2+2=4", 1), ("2+2=5", 1)]), [["+2+2= 340,351"]]);
        // A beginning that is too short to be worth it is computed twice.
        assert_eq!(planned(&[("abcx.", 1), ("abcy.", 1)]), [["+abcx 3.0", "+abcy 3.1"]]);
        assert!(planned(&[("ab", 0)]).is_empty());
    }
}
