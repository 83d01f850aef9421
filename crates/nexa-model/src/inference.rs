//! The decoder for inference on the CPU: a cache of keys and values for each sequence, many sequences in one step.
//!
//! It is a second forward pass over the same [`Weights`], made of the host kernels alone, because decoding works on
//! few rows, where dispatching tensor operations and packing weights anew for every product costs more than the
//! products themselves; and because a general matrix product picks its order of summation by the number of rows, so
//! that a sequence's logits would depend on its neighbours. Here they do not, bit for bit: every kernel computes a
//! row from that row and its own sequence alone. A test holds this pass against the one that is trained.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nexa_core::lm::{self, Feed, LanguageModel, ModelInfo, SequenceId, TokenScore, Tokenizer};
use rayon::prelude::*;

use crate::kernels::cache::LayerCache;
use crate::kernels::head_norm::{self, Norms};
use crate::kernels::panel::PackedLinear;
use crate::kernels::rope::RopeTable;
use crate::kernels::{bias, gather, rms_norm, swiglu};
use crate::rope::Rope;
use crate::weights::{Block, Network, Projection};
use crate::{Buffer, ChatTokenizer, Checkpoint, DecoderConfig, Error, Weights};

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

/// What a sequence leaves behind for its next tokens.
#[derive(Debug)]
struct Sequence {
    layers: Vec<LayerCache>,
    tokens: usize,
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

/// Which tokens' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Those after the last token of every sequence.
    Last,
    /// Those after every token of every sequence that has a successor.
    AllButLast,
}

/// The weights in the form that the kernels multiply with.
#[derive(Debug)]
struct HostNetwork {
    config: DecoderConfig,
    rope: Rope,
    still: Rope,
    embedding: Buffer,
    blocks: Vec<HostBlock>,
    norm: Buffer,
    head: PackedLinear,
}

/// One block of the decoder.
#[derive(Debug)]
struct HostBlock {
    input_norm: Buffer,
    qkv: HostProjection,
    qk_norm: Option<[Buffer; 2]>,
    output: HostProjection,
    mlp_norm: Buffer,
    gate_up: HostProjection,
    down: HostProjection,
}

/// A packed weight with its bias.
#[derive(Debug)]
struct HostProjection {
    weight: PackedLinear,
    bias: Option<Buffer>,
}

impl HostProjection {
    fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let mut output = self.weight.forward(rows);
        if let Some(bias) = &self.bias {
            bias::add(&mut output, bias);
        }
        output
    }
}

impl HostNetwork {
    fn new(weights: &Weights) -> Self {
        let config = weights.config().clone();
        let vector = |place: usize| weights.values()[place].clone();
        let packed = |place: usize| {
            let [outputs, inputs] = weights.layout()[place].shape;
            PackedLinear::new(&weights.values()[place], outputs, inputs)
        };
        let projection = |places: Projection<usize>| HostProjection {
            weight: packed(places.weight),
            bias: places.bias.map(vector),
        };
        let block = |places: Block<usize>| HostBlock {
            input_norm: vector(places.input_norm),
            qkv: projection(places.qkv),
            qk_norm: places.qk_norm.map(|norms| norms.map(vector)),
            output: projection(places.output),
            mlp_norm: vector(places.mlp_norm),
            gate_up: projection(places.gate_up),
            down: projection(places.down),
        };
        let network = Network::of(&config);
        Self {
            rope: Rope::new(&config),
            still: Rope::still(&config),
            embedding: vector(network.embedding),
            blocks: network.blocks.into_iter().map(block).collect(),
            norm: vector(network.norm),
            head: packed(network.head.unwrap_or(network.embedding)),
            config,
        }
    }

    fn empty_sequence(&self) -> Sequence {
        let layer = LayerCache::new(self.config.heads());
        Sequence { layers: vec![layer; self.config.num_hidden_layers], tokens: 0 }
    }

    /// Feeds tokens to sequences and returns the logits of the wanted rows.
    ///
    /// # Shapes
    /// Returns `[wanted rows, vocab]`.
    fn forward(&self, mut inputs: Vec<(&mut Sequence, &[u32])>, wanted: Rows) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let epsilon = self.config.rms_norm_eps as f32;
        let token_ids: Vec<u32> = inputs.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let rows = wanted_rows(&inputs, wanted);
        let tables = [&self.rope, &self.still].map(|rope| tables(rope, &inputs));

        let mut x = gather::forward(&self.embedding, hidden, &token_ids); // [tokens, hidden]
        for (layer, block) in self.blocks.iter().enumerate() {
            let normed = rms_norm::forward(&x, &block.input_norm, epsilon);
            let mut qkv = block.qkv.forward(&normed); // [tokens, qkv_width]
            if let Some([query, key]) = &block.qk_norm {
                qkv = head_norm::forward(&qkv, self.config.heads(), Norms { query, key, epsilon });
            }
            let tables = &tables[usize::from(!self.config.is_rotated(layer))];
            let mut mixed = self.attend(&mut inputs, layer, tables, &mut qkv); // [tokens, heads * head_dim]
            if layer + 1 == self.blocks.len() {
                // No later operation mixes rows, so only the wanted ones go on.
                mixed = gather::forward(&mixed, self.config.heads().output_width(), &rows);
                x = gather::forward(&x, hidden, &rows);
            }
            add(&mut x, &block.output.forward(&mixed));
            let normed = rms_norm::forward(&x, &block.mlp_norm, epsilon);
            let gated = swiglu::forward(&block.gate_up.forward(&normed), self.config.intermediate_size);
            add(&mut x, &block.down.forward(&gated));
        }
        for (sequence, token_ids) in inputs {
            sequence.tokens += token_ids.len();
        }
        self.head.forward(&rms_norm::forward(&x, &self.norm, epsilon))
    }

    /// Attends within every sequence, several of them at a time.
    fn attend(
        &self,
        inputs: &mut [(&mut Sequence, &[u32])],
        layer: usize,
        tables: &[Arc<RopeTable>],
        qkv: &mut [f32],
    ) -> Vec<f32> {
        let heads = self.config.heads();
        let window = self.config.window(layer);
        let tokens = qkv.len() / heads.qkv_width();
        let mut output = vec![0.0; tokens * heads.output_width()];
        let mut tasks = Vec::with_capacity(inputs.len());
        let (mut rest_qkv, mut rest_output) = (qkv, output.as_mut_slice());
        for ((sequence, token_ids), table) in inputs.iter_mut().zip(tables) {
            let (own_qkv, tail) = rest_qkv.split_at_mut(token_ids.len() * heads.qkv_width());
            let (own_output, output_tail) = rest_output.split_at_mut(token_ids.len() * heads.output_width());
            (rest_qkv, rest_output) = (tail, output_tail);
            tasks.push((&mut sequence.layers[layer], own_qkv, table, own_output));
        }
        if let [(cache, qkv, table, output)] = tasks.as_mut_slice() {
            cache.attend(qkv, heads, table, window, output);
        } else {
            let attend = |(cache, qkv, table, output): Task<'_>| {
                cache.attend(qkv, heads, table, window, output);
            };
            tasks.into_par_iter().with_min_len(4).for_each(attend);
        }
        output
    }
}

/// What attention of one sequence works on: its cache, its rows, its rotations, and where the result goes.
type Task<'a> = (&'a mut LayerCache, &'a mut [f32], &'a Arc<RopeTable>, &'a mut [f32]);

/// Returns the rotations of the tokens that are fed to every sequence.
fn tables(rope: &Rope, inputs: &[(&mut Sequence, &[u32])]) -> Vec<Arc<RopeTable>> {
    inputs
        .iter()
        .map(|(sequence, token_ids)| rope.table(sequence.tokens..sequence.tokens + token_ids.len()))
        .collect()
}

/// Lists the wanted rows of tokens that lie end to end.
fn wanted_rows(inputs: &[(&mut Sequence, &[u32])], wanted: Rows) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut first = 0;
    for (_, token_ids) in inputs {
        let last = first + token_ids.len() - 1;
        match wanted {
            Rows::Last => rows.push(last as u32),
            Rows::AllButLast => rows.extend((first..last).map(|row| row as u32)),
        }
        first += token_ids.len();
    }
    rows
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::tokenizer::tests::sample;
    use crate::weights::tests::scattered;
    use crate::{Batch, Decoder};
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
