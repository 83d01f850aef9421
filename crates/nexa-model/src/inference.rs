//! The decoder for inference on the CPU: a cache of keys and values for each sequence, many sequences in one step.
//!
//! It is a second forward pass over the same [`Weights`], made of the host kernels alone, because decoding works on
//! few rows, where dispatching tensor operations and packing weights anew for every product costs more than the
//! products themselves; and because a general matrix product picks its order of summation by the number of rows, so
//! that a sequence's logits would depend on its neighbours. Here they do not, bit for bit: every kernel computes a
//! row from that row and its own sequence alone. A test holds this pass against the one that is trained.

mod network;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nexa_core::lm::{self, Feed, LanguageModel, ModelInfo, SequenceId, TokenScore, Tokenizer};

use self::network::{HostNetwork, Rows, Sequence};
use crate::{ChatTokenizer, Checkpoint, Error};

/// Tokens that [`LocalModel::score`] runs through the model at a time.
const SCORED_AT_ONCE: usize = 2048;

/// A checkpoint, ready to generate and to score.
#[derive(Debug)]
pub struct LocalModel {
    info: ModelInfo,
    tokenizer: Arc<ChatTokenizer>,
    network: HostNetwork,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
}

impl LocalModel {
    /// Loads a checkpoint folder.
    ///
    /// # Errors
    /// Names the file, key or tensor that is missing or does not fit.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        Ok(Self::new(Checkpoint::load(folder)?))
    }

    /// Prepares a checkpoint that was loaded.
    pub fn new(checkpoint: Checkpoint) -> Self {
        let config = checkpoint.weights.config();
        let name = checkpoint.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let info = ModelInfo {
            name,
            architecture: config.architecture.model_type().to_owned(),
            parameters: checkpoint.weights.count(),
            context_length: config.context_length(),
            weights_hash: checkpoint.weights_hash,
            device: "cpu".to_owned(),
        };
        let network = HostNetwork::new(&checkpoint.weights);
        Self {
            info,
            tokenizer: Arc::new(checkpoint.tokenizer),
            network,
            sequences: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Gives the model the name under which it is served; by default it is that of its folder.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.info.name);
        self
    }

    fn check_ids(&self, token_ids: &[u32]) -> Result<(), lm::Error> {
        let vocab = self.network.config.vocab_size;
        match token_ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(lm::Error::Invalid(format!("token id {id} is outside a vocabulary of {vocab}"))),
            None => Ok(()),
        }
    }

    fn check_length(&self, tokens: usize) -> Result<(), lm::Error> {
        let context_length = self.info.context_length;
        if tokens > context_length { Err(lm::Error::TooLong { tokens, context_length }) } else { Ok(()) }
    }
}

impl LanguageModel for LocalModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenizer(&self) -> Arc<dyn Tokenizer> {
        self.tokenizer.clone()
    }

    fn open(&mut self) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.sequences.insert(id, self.network.empty_sequence());
        id
    }

    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, lm::Error> {
        let mut seen = BTreeMap::new();
        for (index, feed) in feeds.iter().enumerate() {
            let id = feed.sequence.0;
            if feed.token_ids.is_empty() {
                return Err(lm::Error::Invalid(format!("no tokens for sequence {id}")));
            }
            if seen.insert(feed.sequence, index).is_some() {
                return Err(lm::Error::Invalid(format!("sequence {id} stands twice in a step")));
            }
            self.check_ids(feed.token_ids)?;
            let Some(sequence) = self.sequences.get(&feed.sequence) else {
                return Err(lm::Error::Invalid(format!("sequence {id} is not open")));
            };
            self.check_length(sequence.tokens + feed.token_ids.len())?;
        }
        // The sequences come out of the map in the order of their ids, the feeds stand in any order.
        let mut fed: Vec<(usize, &mut Sequence)> = Vec::with_capacity(feeds.len());
        for (id, sequence) in &mut self.sequences {
            if let Some(&index) = seen.get(id) {
                fed.push((index, sequence));
            }
        }
        fed.sort_unstable_by_key(|(index, _)| *index);
        let inputs = fed.into_iter().map(|(index, sequence)| (sequence, feeds[index].token_ids)).collect();
        let logits = self.network.forward(inputs, Rows::Last);
        Ok(logits.chunks_exact(self.network.config.vocab_size).map(<[f32]>::to_vec).collect())
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    fn score(&mut self, sequences: &[&[u32]]) -> Result<Vec<Vec<TokenScore>>, lm::Error> {
        for token_ids in sequences {
            self.check_ids(token_ids)?;
            self.check_length(token_ids.len())?;
        }
        let vocab = self.network.config.vocab_size;
        let mut scores = Vec::with_capacity(sequences.len());
        let mut rest = sequences;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take_while(|sequence| {
                tokens += sequence.len();
                tokens <= SCORED_AT_ONCE
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            rest = later;
            let mut fresh: Vec<Sequence> = now.iter().map(|_| self.network.empty_sequence()).collect();
            let inputs =
                fresh.iter_mut().zip(now.iter().copied()).filter(|(_, ids)| !ids.is_empty()).collect();
            let logits = self.network.forward(inputs, Rows::AllButLast);
            let mut rows = logits.chunks_exact(vocab);
            for token_ids in now {
                let targets = token_ids.get(1..).unwrap_or_default();
                scores.push(targets.iter().zip(rows.by_ref()).map(|(&id, row)| rate(row, id)).collect());
            }
        }
        Ok(scores)
    }
}

/// Rates a token under the softmax of a row of logits.
fn rate(logits: &[f32], token_id: u32) -> TokenScore {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let logit = logits[token_id as usize];
    TokenScore { logprob_nats: (f64::from(logit - largest) - total.ln()) as f32, is_greedy: logit >= largest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::tokenizer::tests::sample;
    use crate::weights::tests::scattered;
    use crate::{Batch, Decoder, DecoderConfig, Weights};
    use burn::tensor::Device;

    fn model(config: &DecoderConfig) -> (LocalModel, Weights) {
        let weights = scattered(config);
        let checkpoint = Checkpoint {
            weights: weights.clone(),
            tokenizer: sample(),
            weights_hash: "blake3:0".to_owned(),
            folder: "test".into(),
        };
        (LocalModel::new(checkpoint), weights)
    }

    /// Sequences of several lengths, across the edges of tiles and panels.
    fn sequences() -> Vec<Vec<u32>> {
        let lengths = [1usize, 2, 5, 6, 7, 15, 16, 17, 31, 40];
        lengths.iter().map(|&n| (0..n).map(|i| ((i * i + 3 * n) % 50) as u32).collect()).collect()
    }

    #[test]
    fn logits_agree_with_the_decoder_that_is_trained() {
        for config in families() {
            let (local, weights) = model(&config);
            let decoder = Decoder::new(&weights, &Device::flex());
            for token_ids in sequences() {
                let trained = vec![true; token_ids.len()];
                let batch = Batch::new([(token_ids.as_slice(), trained.as_slice())]);
                let expected: Vec<f32> = decoder.logits(&batch).into_data().iter::<f32>().collect();
                let mut sequence = local.network.empty_sequence();
                let logits = local.network.forward(vec![(&mut sequence, &token_ids)], Rows::AllButLast);
                assert_eq!(logits.len(), expected.len());
                for (a, b) in logits.iter().zip(&expected) {
                    let place = (config.architecture, token_ids.len());
                    assert!((a - b).abs() < 1e-4, "{place:?}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn logits_do_not_depend_on_neighbours_or_chunks() {
        for config in families() {
            // With dynamic scaling, the length of a step beyond the first training changes its logits.
            check_neighbours_and_chunks(&DecoderConfig { max_position_embeddings: 64, ..config });
        }
    }

    fn check_neighbours_and_chunks(config: &DecoderConfig) {
        let (mut local, _) = model(config);
        let sequences = sequences();
        let alone: Vec<Vec<f32>> = sequences
            .iter()
            .map(|token_ids| {
                let sequence = local.open();
                local.step(&[Feed { sequence, token_ids }]).expect("valid feed").remove(0)
            })
            .collect();
        // Together, in one step.
        let opened: Vec<SequenceId> = sequences.iter().map(|_| local.open()).collect();
        let feeds: Vec<Feed<'_>> = opened
            .iter()
            .zip(&sequences)
            .rev()
            .map(|(&sequence, token_ids)| Feed { sequence, token_ids })
            .collect();
        let mut together = local.step(&feeds).expect("valid feeds");
        together.reverse();
        assert_eq!(together, alone);
        // Together, token by token, each in its own rhythm: prompts and single tokens mixed.
        let opened: Vec<SequenceId> = sequences.iter().map(|_| local.open()).collect();
        let mut fed = vec![0; sequences.len()];
        let mut latest = vec![Vec::new(); sequences.len()];
        while fed.iter().zip(&sequences).any(|(&fed, sequence)| fed < sequence.len()) {
            let open: Vec<usize> = (0..sequences.len()).filter(|&i| fed[i] < sequences[i].len()).collect();
            let ends: Vec<usize> =
                open.iter().map(|&i| (fed[i] + 1 + i % 3).min(sequences[i].len())).collect();
            let feeds: Vec<Feed<'_>> = open
                .iter()
                .zip(&ends)
                .map(|(&i, &end)| Feed { sequence: opened[i], token_ids: &sequences[i][fed[i]..end] })
                .collect();
            let logits = local.step(&feeds).expect("valid feeds");
            for ((&i, end), logits) in open.iter().zip(ends).zip(logits) {
                (fed[i], latest[i]) = (end, logits);
            }
        }
        assert_eq!(latest, alone);
    }

    #[test]
    fn scores_are_the_log_softmax_of_the_logits() {
        let (mut local, _) = model(&small());
        let sequences = sequences();
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).chain([[].as_slice()]).collect();
        let scores = local.score(&slices).expect("valid sequences");
        assert!(scores[sequences.len()].is_empty());
        for (token_ids, scores) in sequences.iter().zip(&scores) {
            assert_eq!(scores.len(), token_ids.len() - 1);
            let sequence = local.open();
            for (position, score) in scores.iter().enumerate() {
                let feed = Feed { sequence, token_ids: &token_ids[position..=position] };
                let logits = local.step(&[feed]).expect("valid feed").remove(0);
                assert_eq!(*score, rate(&logits, token_ids[position + 1]));
            }
        }
    }

    #[test]
    fn a_refused_step_changes_nothing() {
        let (mut local, _) = model(&small());
        let (a, b) = (local.open(), local.open());
        let long = vec![1; 65];
        let check = |local: &mut LocalModel, feeds: &[Feed<'_>], expected: &str| {
            let error = local.step(feeds).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(local.sequences.values().all(|sequence| sequence.tokens == 0));
        };
        let good = Feed { sequence: a, token_ids: &[1, 2] };
        check(&mut local, &[good, Feed { sequence: b, token_ids: &long }], "sequence of 65 tokens is longer");
        check(&mut local, &[good, Feed { sequence: b, token_ids: &[50] }], "id 50 is outside");
        check(&mut local, &[good, Feed { sequence: b, token_ids: &[] }], "no tokens");
        check(&mut local, &[good, good], "stands twice");
        check(&mut local, &[good, Feed { sequence: SequenceId(99), token_ids: &[1] }], "99 is not open");
        local.close(b);
        check(&mut local, &[good, Feed { sequence: b, token_ids: &[1] }], "is not open");
    }
}
