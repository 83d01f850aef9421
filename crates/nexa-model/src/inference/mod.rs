//! The decoder for inference on the CPU: keys and values in pages, many sequences in one step.
//!
//! It is a second forward pass over the same weights, made of the host kernels alone, because decoding works on
//! few rows, where dispatching tensor operations and packing weights anew for every product costs more than the
//! products themselves; and because a general matrix product picks its order of summation by the number of rows, so
//! that a sequence's logits would depend on its neighbours. Here they do not, bit for bit: every kernel computes a
//! row from that row and its own sequence alone. A test holds this pass against the one that is trained.
//!
//! `host` arranges weights, in single precision or in few bits, and `adapters` what corrects them for some sequences;
//! `network` computes, `pages` is the memory of sequences.

mod adapters;
mod host;
mod network;
mod pages;
mod score;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nexa_core::lm::{
    self, Adapter, AdapterLoader, CacheUse, Feed, LanguageModel, ModelInfo, Opened, Scored, SequenceId,
    TokenScore, Tokenizer,
};

use self::adapters::{HostAdapter, Loader};
pub use self::host::Quantisation;
use self::host::{Numbers, Rounded};
use self::network::{HostNetwork, Input, Sequence, root};
use self::pages::Pool;
use crate::config::RopeScaling;
pub use crate::kernels::cache::CacheNumber;
use crate::kernels::cache::{PAGE_TOKENS, Page};
use crate::{ChatTokenizer, Checkpoint, DecoderConfig, Error, checkpoint, gguf};

/// The memory for keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bytes that pages may take in all. They are taken as they are needed.
    pub bytes: usize,
    /// How exactly keys and values are kept.
    pub number: CacheNumber,
    /// Whether pages of sequences that are over are kept for prompts that begin the same.
    pub prefixes: bool,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: 2 << 30, number: CacheNumber::F32, prefixes: true }
    }
}

/// A checkpoint, ready to generate and to score.
#[derive(Debug)]
pub struct LocalModel {
    info: ModelInfo,
    tokenizer: Arc<ChatTokenizer>,
    network: HostNetwork,
    pool: Pool,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
}

impl LocalModel {
    /// Loads a checkpoint folder.
    ///
    /// # Errors
    /// Names the file, key or tensor that is missing or does not fit.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        Self::new(Checkpoint::load(folder)?)
    }

    /// Prepares a checkpoint that was loaded.
    ///
    /// # Errors
    /// Fails when the weights cannot be arranged.
    pub fn new(checkpoint: Checkpoint) -> Result<Self, Error> {
        let Checkpoint { weights, tokenizer, weights_hash, folder } = checkpoint;
        let about = About { name: name_of(&folder), hash: weights_hash, format: "f32".to_owned() };
        Self::of(weights.config(), &weights, tokenizer, about)
    }

    /// As [`Self::new`], with the weights rounded to few bits.
    ///
    /// # Errors
    /// Fails when the weights cannot be arranged.
    pub fn quantised(checkpoint: Checkpoint, to: Quantisation) -> Result<Self, Error> {
        let Checkpoint { weights, tokenizer, weights_hash, folder } = checkpoint;
        let about = About { name: name_of(&folder), hash: weights_hash, format: to.as_str().to_owned() };
        Self::of(weights.config(), &Rounded { weights: &weights, to }, tokenizer, about)
    }

    /// Loads a GGUF file with the weights in its own bits.
    ///
    /// # Errors
    /// Names the byte, key or tensor of the file that is missing, malformed or not supported.
    pub fn load_gguf(path: &Path) -> Result<Self, Error> {
        let model = gguf::Model::open(path)?;
        // The tokenizer and the config have one reader each, which reads files.
        let folder =
            tempfile::tempdir().map_err(|e| nexa_core::Error::io("create", std::env::temp_dir(), e))?;
        model.write_files(folder.path())?;
        let config = checkpoint::load_config(folder.path())?;
        let tokenizer = ChatTokenizer::load(folder.path())?;
        let hash = nexa_core::hash::ContentHash::of_file(path)?.to_string();
        let about = About { name: name_of(&path.with_extension("")), hash, format: formats(&model) };
        Self::of(&config, &model, tokenizer, about)
    }

    fn of(
        config: &DecoderConfig,
        numbers: &dyn Numbers,
        tokenizer: ChatTokenizer,
        about: About,
    ) -> Result<Self, Error> {
        let network = HostNetwork::new(config, numbers)?;
        let context_length = context_length(config);
        if context_length < config.context_length() {
            tracing::warn!(
                context_length,
                "dynamic scaling of positions is not used: the model reads as far as it was trained"
            );
        }
        let info = ModelInfo {
            name: about.name,
            architecture: config.architecture.model_type().to_owned(),
            parameters: crate::layout(config)
                .iter()
                .map(|parameter| parameter.shape.iter().product::<usize>())
                .sum(),
            context_length,
            weights_hash: about.hash,
            device: "cpu".to_owned(),
            format: about.format,
            weight_bytes: network.bytes() as u64,
        };
        let pool = pool(&network, CacheConfig::default());
        let sequences = BTreeMap::new();
        Ok(Self { info, tokenizer: Arc::new(tokenizer), network, pool, sequences, next_id: 0 })
    }

    /// Gives the model the name under which it is served; by default it is that of its folder.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.info.name);
        self
    }

    /// Gives the model another memory for keys and values. Open sequences are closed.
    #[must_use]
    pub fn with_cache(mut self, cache: CacheConfig) -> Self {
        self.sequences.clear();
        self.pool = pool(&self.network, cache);
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

    /// Pages that open sequences lack for some feeds.
    fn lacks(&self, feeds: &[Feed<'_>]) -> usize {
        let lacks = |feed: &Feed<'_>| {
            self.sequences.get(&feed.sequence).map_or(0, |sequence| sequence.lacks(feed.token_ids.len()))
        };
        feeds.iter().map(lacks).sum()
    }

    /// Refuses feeds that make no sense, and returns their places by sequence.
    fn check(&self, feeds: &[Feed<'_>]) -> Result<BTreeMap<SequenceId, usize>, lm::Error> {
        let mut seen = BTreeMap::new();
        for (index, feed) in feeds.iter().enumerate() {
            let id = feed.sequence.0;
            if feed.token_ids.is_empty() {
                return Err(lm::Error::Invalid(format!("no tokens for sequence {id}")));
            }
            if feed.wanted > feed.token_ids.len() {
                return Err(lm::Error::Invalid(format!("more logits than tokens for sequence {id}")));
            }
            if seen.insert(feed.sequence, index).is_some() {
                return Err(lm::Error::Invalid(format!("sequence {id} stands twice in a step")));
            }
            self.check_ids(feed.token_ids)?;
            let Some(sequence) = self.sequences.get(&feed.sequence) else {
                return Err(lm::Error::Invalid(format!("sequence {id} is not open")));
            };
            self.check_length(sequence.token_ids.len() + feed.token_ids.len())?;
        }
        if !self.fits(feeds) {
            return Err(lm::Error::CacheFull { tokens: self.pool.budget() * PAGE_TOKENS });
        }
        Ok(seen)
    }
}

/// What is known of a model besides its numbers.
struct About {
    name: String,
    hash: String,
    format: String,
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The formats of a file's matrices, the most frequent first.
fn formats(model: &gguf::Model) -> String {
    let mut formats: Vec<_> =
        model.formats().into_iter().filter(|(format, _)| format.bits().is_some()).collect();
    formats.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let names: Vec<_> = formats.into_iter().map(|(format, _)| format.name()).collect();
    if names.is_empty() { "f32".to_owned() } else { names.join("+") }
}

/// Positions that sequences may take. With dynamic scaling, rotations beyond the length of the first training follow the
/// length of the sequence at that time, so that logits would depend on how its tokens were cut into steps: they end there.
fn context_length(config: &DecoderConfig) -> usize {
    match config.rope_scaling {
        Some(RopeScaling::Dynamic { .. }) => config.max_position_embeddings,
        _ => config.context_length(),
    }
}

fn pool(network: &HostNetwork, cache: CacheConfig) -> Pool {
    let shape = network.page_shape(cache.number);
    Pool::new(shape, cache.bytes / shape.bytes(), cache.prefixes)
}

impl LanguageModel for LocalModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenizer(&self) -> Arc<dyn Tokenizer> {
        self.tokenizer.clone()
    }

    fn adapter_loader(&self) -> Option<Arc<dyn AdapterLoader>> {
        Some(Arc::new(Loader::new(&self.network.config, &self.info.weights_hash)))
    }

    fn open_with(&mut self, prompt: &[u32], adapter: Option<&Adapter>) -> Opened {
        let adapter = adapter.map(|adapter| {
            let weights = Arc::clone(&adapter.weights).downcast::<HostAdapter>();
            weights.expect("an adapter comes from this model's loader")
        });
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        // The logits after the last token are not kept, so that one is always fed.
        let known = &prompt[..prompt.len().saturating_sub(1)];
        // What was taken back is gone by now, so full pages of open sequences stay as they are.
        for sequence in self.sequences.values_mut() {
            sequence.remember(&mut self.pool);
        }
        let (pages, last_full) = self.pool.find(root(adapter.as_deref()), known);
        let cached_tokens = pages.len() * PAGE_TOKENS;
        let (token_ids, remembered) = (prompt[..cached_tokens].to_vec(), pages.len());
        self.sequences.insert(id, Sequence { pages, token_ids, last_full, remembered, adapter });
        Opened { sequence: id, cached_tokens }
    }

    fn fits(&self, feeds: &[Feed<'_>]) -> bool {
        self.lacks(feeds) <= self.pool.available()
    }

    fn cache(&self) -> CacheUse {
        CacheUse {
            pages: self.pool.budget(),
            held: self.pool.held(),
            page_tokens: PAGE_TOKENS,
            finds_beginnings: self.pool.remembers(),
            asked_tokens: self.pool.asked_tokens,
            found_tokens: self.pool.found_tokens,
        }
    }

    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, lm::Error> {
        let logits = self.feed(feeds, HostNetwork::forward)?;
        let mut rest = logits.as_slice();
        let rows = feeds.iter().map(|feed| {
            let (own, tail) = rest.split_at(feed.wanted * self.network.config.vocab_size);
            rest = tail;
            own.to_vec()
        });
        Ok(rows.collect())
    }

    fn truncate(&mut self, sequence: SequenceId, tokens: usize) {
        let Some(sequence) = self.sequences.get_mut(&sequence) else { return };
        // Remembered pages are not the sequence's own.
        let tokens = tokens.max(sequence.remembered * PAGE_TOKENS);
        sequence.token_ids.truncate(tokens);
        for page in sequence.pages.drain(sequence.token_ids.len().div_ceil(PAGE_TOKENS)..) {
            self.pool.give_back(page);
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        if let Some(mut sequence) = self.sequences.remove(&sequence) {
            sequence.remember(&mut self.pool);
            sequence.pages.into_iter().for_each(|page| self.pool.give_back(page));
        }
    }

    fn hidden_states(&mut self, feed: Feed<'_>) -> Result<Vec<f32>, lm::Error> {
        self.feed(&[feed], |network, inputs| rayon::scope(|_| network.hidden(inputs)))
    }

    fn score(&mut self, sequences: &[Scored<'_>]) -> Result<Vec<Vec<TokenScore>>, lm::Error> {
        for Scored { token_ids, wanted } in sequences {
            self.check_ids(token_ids)?;
            self.check_length(token_ids.len().saturating_sub(1))?;
            if *wanted >= token_ids.len() {
                return Err(lm::Error::Invalid(
                    "a score needs a token before the first that is scored".to_owned(),
                ));
            }
        }
        Ok(self.scores(sequences))
    }
}

impl LocalModel {
    /// Gives sequences pages for their new tokens, and computes what is wanted after them.
    fn feed(
        &mut self,
        feeds: &[Feed<'_>],
        compute: impl FnOnce(&HostNetwork, Vec<Input<'_>>) -> Vec<f32>,
    ) -> Result<Vec<f32>, lm::Error> {
        let places = self.check(feeds)?;
        // The sequences come out of the map in the order of their ids, the feeds stand in any order.
        let mut fed: Vec<(usize, &mut Sequence)> = Vec::with_capacity(feeds.len());
        for (id, sequence) in &mut self.sequences {
            if let Some(&index) = places.get(id) {
                sequence.remember(&mut self.pool);
                fed.push((index, sequence));
            }
        }
        fed.sort_unstable_by_key(|(index, _)| *index);
        for (index, sequence) in &mut fed {
            for _ in 0..sequence.lacks(feeds[*index].token_ids.len()) {
                sequence.pages.push(self.pool.take().expect("the feeds fit"));
            }
        }
        let input = |(index, sequence): (usize, _)| {
            let Feed { token_ids, wanted, .. } = feeds[index];
            Input { sequence, token_ids, wanted }
        };
        let inputs = fed.into_iter().map(input).collect();
        Ok(compute(&self.network, inputs))
    }

    /// A sequence with room for some tokens, outside of the budget: it is gone after one step.
    fn apart(&self, tokens: usize) -> Sequence {
        let mut sequence = Sequence::empty(None);
        let page = || Arc::new(Page::new(self.pool.shape()));
        sequence.pages.extend((0..tokens.div_ceil(PAGE_TOKENS)).map(|_| page()));
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::kernels::log_softmax::LogSoftmax;
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
        (LocalModel::new(checkpoint).expect("arranges"), weights)
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
                let mut sequence = local.apart(token_ids.len());
                let wanted = token_ids.len();
                let logits = local.network.forward(vec![Input {
                    sequence: &mut sequence,
                    token_ids: &token_ids,
                    wanted,
                }]);
                // The one that is trained predicts nothing after the last token.
                assert_eq!(logits.len(), expected.len() + config.vocab_size);
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
            check_neighbours_and_chunks(&DecoderConfig { max_position_embeddings: 64, ..config });
        }
    }

    fn check_neighbours_and_chunks(config: &DecoderConfig) {
        let (mut local, _) = model(config);
        let sequences = sequences();
        let alone: Vec<Vec<f32>> = sequences
            .iter()
            .map(|token_ids| {
                let sequence = local.open(&[]).sequence;
                local.step(&[Feed::new(sequence, token_ids)]).expect("valid feed").remove(0)
            })
            .collect();
        // Together, in one step.
        let opened: Vec<SequenceId> = sequences.iter().map(|_| local.open(&[]).sequence).collect();
        let feeds: Vec<Feed<'_>> = opened
            .iter()
            .zip(&sequences)
            .rev()
            .map(|(&sequence, token_ids)| Feed::new(sequence, token_ids))
            .collect();
        let mut together = local.step(&feeds).expect("valid feeds");
        together.reverse();
        assert_eq!(together, alone);
        // Together, token by token, each in its own rhythm: prompts and single tokens mixed.
        let opened: Vec<SequenceId> = sequences.iter().map(|_| local.open(&[]).sequence).collect();
        let mut fed = vec![0; sequences.len()];
        let mut latest = vec![Vec::new(); sequences.len()];
        while fed.iter().zip(&sequences).any(|(&fed, sequence)| fed < sequence.len()) {
            let open: Vec<usize> = (0..sequences.len()).filter(|&i| fed[i] < sequences[i].len()).collect();
            let ends: Vec<usize> =
                open.iter().map(|&i| (fed[i] + 1 + i % 3).min(sequences[i].len())).collect();
            let feeds: Vec<Feed<'_>> = open
                .iter()
                .zip(&ends)
                .map(|(&i, &end)| Feed::new(opened[i], &sequences[i][fed[i]..end]))
                .collect();
            let logits = local.step(&feeds).expect("valid feeds");
            for ((&i, end), logits) in open.iter().zip(ends).zip(logits) {
                (fed[i], latest[i]) = (end, logits);
            }
        }
        assert_eq!(latest, alone);
    }

    #[test]
    fn hidden_states_are_what_the_output_layer_reads_however_the_text_is_cut() {
        for config in families() {
            let config = DecoderConfig { max_position_embeddings: 64, ..config };
            let (mut local, _) = model(&config);
            let hidden = |local: &mut LocalModel, token_ids: &[u32], chunk: usize| {
                let sequence = local.open(&[]).sequence;
                let mut states = Vec::new();
                for chunk in token_ids.chunks(chunk) {
                    let feed = Feed { sequence, token_ids: chunk, wanted: chunk.len() };
                    states.extend(local.hidden_states(feed).expect("a text that fits"));
                    assert!(local.cache().held > 0, "the text takes pages of the pool");
                }
                local.close(sequence);
                states
            };
            for token_ids in sequences() {
                let whole = hidden(&mut local, &token_ids, token_ids.len());
                assert_eq!(whole.len(), token_ids.len() * config.hidden_size);
                for chunk in [1, 7, 16] {
                    assert_eq!(hidden(&mut local, &token_ids, chunk), whole, "{:?}", config.architecture);
                }
                for (position, state) in whole.chunks_exact(config.hidden_size).enumerate() {
                    let mut sequence = local.apart(position + 1);
                    let token_ids = &token_ids[..=position];
                    let input = Input { sequence: &mut sequence, token_ids, wanted: 1 };
                    assert_eq!(local.network.hidden(vec![input]), state);
                }
            }
            let sequence = local.open(&[]).sequence;
            let mut refuses = |token_ids: &[u32]| {
                let feed = Feed { sequence, token_ids, wanted: token_ids.len() };
                local.hidden_states(feed).expect_err("refused");
            };
            refuses(&[]);
            refuses(&[config.vocab_size as u32]);
            assert_eq!(local.cache().held, 0);
        }
    }

    #[test]
    fn a_text_for_which_there_is_no_memory_gives_no_hidden_states() {
        let mut local = with_pages(&small(), 2, CacheConfig::default());
        let sequence = local.open(&[]).sequence;
        let token_ids = tokens(33, 2);
        let feed = Feed { sequence, token_ids: &token_ids, wanted: 33 };
        let error = local.hidden_states(feed).expect_err("has no room").to_string();
        assert!(error.contains("room for 32 tokens"), "{error}");
        assert_eq!(local.cache().held, 0);
    }

    #[test]
    fn with_dynamic_scaling_the_context_ends_where_the_training_did() {
        let scaling = Some(RopeScaling::Dynamic { factor: 4.0 });
        let config = DecoderConfig { max_position_embeddings: 16, rope_scaling: scaling, ..small() };
        let (mut local, _) = model(&config);
        assert_eq!((config.context_length(), local.info().context_length), (64, 16));
        let sequence = local.open(&[]).sequence;
        let error = local.step(&[Feed::new(sequence, &tokens(17, 3))]).expect_err("too long").to_string();
        assert_eq!(error, "sequence of 17 tokens is longer than the context of 16");
        local.step(&[Feed::new(sequence, &tokens(16, 3))]).expect("fits");
    }

    /// The logits of single tokens after prompts, alone and together, with their attention split from so many
    /// multiply-adds on.
    fn single_tokens(config: &DecoderConfig, number: CacheNumber, split_from: usize) -> Vec<Vec<f32>> {
        let mut local = with_pages(config, 80, CacheConfig { number, ..CacheConfig::default() });
        local.network.split_from = split_from;
        let mut found = Vec::new();
        let mut open = Vec::new();
        for length in [1, 15, 16, 40, 125] {
            let sequence = local.open(&[]).sequence;
            local.step(&[Feed::new(sequence, &tokens(length, length))]).expect("fits");
            let logits = local.step(&[Feed::new(sequence, &[7])]).expect("fits");
            found.extend(logits);
            open.push(sequence);
        }
        // Across the border of a page, and beside a prompt.
        for token in 10..16 {
            let prompt = tokens(9, token);
            let token = [token as u32];
            let reading = local.open(&[]).sequence;
            let mut feeds: Vec<Feed<'_>> = open.iter().map(|&sequence| Feed::new(sequence, &token)).collect();
            feeds.insert(2, Feed::new(reading, &prompt));
            found.extend(local.step(&feeds).expect("fits"));
            local.close(reading);
        }
        found
    }

    #[test]
    fn attention_that_is_split_further_changes_no_bit() {
        for number in [CacheNumber::F32, CacheNumber::F16] {
            for config in families() {
                let config = DecoderConfig { max_position_embeddings: 192, ..config };
                let whole = single_tokens(&config, number, usize::MAX);
                assert_eq!(single_tokens(&config, number, 0), whole, "{:?} {number:?}", config.architecture);
            }
            // As wide as models are that people serve: the longest of the sequences are split as they are there.
            let config = DecoderConfig {
                hidden_size: 288,
                num_attention_heads: 9,
                num_key_value_heads: 3,
                head_dim: 32,
                max_position_embeddings: 192,
                ..small()
            };
            assert!((41..125).contains(&(network::WORTH_A_THREAD / config.heads().output_width())));
            let whole = single_tokens(&config, number, usize::MAX);
            assert_eq!(single_tokens(&config, number, network::WORTH_A_THREAD), whole, "{number:?}");
        }
    }

    /// A model with room for some pages.
    fn with_pages(config: &DecoderConfig, pages: usize, cache: CacheConfig) -> LocalModel {
        let (local, _) = model(config);
        let bytes = pages * local.network.page_shape(cache.number).bytes();
        local.with_cache(CacheConfig { bytes, ..cache })
    }

    fn tokens(count: usize, seed: usize) -> Vec<u32> {
        (0..count).map(|i| ((i * i * 7 + i * seed + seed) % 50) as u32).collect()
    }

    #[test]
    fn what_was_seen_before_changes_no_bit() {
        for number in [CacheNumber::F32, CacheNumber::F16] {
            for config in families() {
                let config = DecoderConfig { max_position_embeddings: 128, ..config };
                let cache = CacheConfig { number, ..CacheConfig::default() };
                let mut local = with_pages(&config, 40, cache);
                let mut fresh = with_pages(&config, 40, CacheConfig { prefixes: false, ..cache });
                let shared = tokens(37, 3);
                for ending in 0..4 {
                    let prompt = [shared.clone(), tokens(5 + ending, 11 + ending)].concat();
                    let opened = local.open(&prompt);
                    assert_eq!(opened.cached_tokens, if ending == 0 { 0 } else { 32 });
                    let rest = &prompt[opened.cached_tokens..];
                    let logits = local.step(&[Feed::new(opened.sequence, rest)]).expect("fits");
                    let alone = fresh.open(&prompt);
                    assert_eq!(alone.cached_tokens, 0);
                    assert_eq!(logits, fresh.step(&[Feed::new(alone.sequence, &prompt)]).expect("fits"));
                    // Left open on purpose: pages are shared by sequences that are alive, too.
                    if ending % 2 == 0 {
                        local.close(opened.sequence);
                    }
                    fresh.close(alone.sequence);
                }
                assert_eq!(fresh.cache().held, 0);
            }
        }
    }

    #[test]
    fn guesses_that_are_taken_back_leave_no_trace() {
        let config = DecoderConfig { max_position_embeddings: 128, ..small() };
        let mut local = with_pages(&config, 16, CacheConfig::default());
        let prompt = tokens(30, 5);
        let plain = local.open(&[]).sequence;
        local.step(&[Feed::new(plain, &prompt)]).expect("fits");
        let guessing = local.open(&[]).sequence;
        local.step(&[Feed::new(guessing, &prompt)]).expect("fits");
        // Across the border of a page, and back.
        for (token, guesses) in [(7, vec![1, 2, 3, 4]), (8, vec![9, 10, 11]), (9, vec![]), (10, vec![1])] {
            let expected = local.step(&[Feed::new(plain, &[token])]).expect("fits").remove(0);
            let fed: Vec<u32> = [token].into_iter().chain(guesses).collect();
            let before = local.sequences[&guessing].token_ids.len();
            let feed = Feed { sequence: guessing, token_ids: &fed, wanted: fed.len() };
            let rows = local.step(&[feed]).expect("fits").remove(0);
            assert_eq!(rows[..50], expected[..]);
            local.truncate(guessing, before + 1);
        }
        assert_eq!(local.sequences[&plain].token_ids, local.sequences[&guessing].token_ids);
    }

    #[test]
    fn a_step_without_memory_is_refused_and_changes_nothing() {
        let config = DecoderConfig { max_position_embeddings: 128, ..small() };
        let mut local = with_pages(&config, 3, CacheConfig::default());
        let one = local.open(&[]).sequence;
        local.step(&[Feed::new(one, &tokens(33, 2))]).expect("fits");
        let other = local.open(&[]).sequence;
        let feed = Feed::new(other, &[1]);
        assert!(!local.fits(&[feed]));
        let error = local.step(&[feed]).expect_err("has no room").to_string();
        assert!(error.contains("room for 48 tokens"), "{error}");
        assert_eq!(local.cache().held, 3);
        local.close(one);
        assert_eq!(local.cache().held, 0);
        // The two full pages are remembered, and make room where it is needed.
        assert!(local.fits(&[feed]));
        local.step(&[Feed::new(other, &tokens(48, 9))]).expect("fits");
        assert_eq!(local.cache().held, 3);
    }

    #[test]
    fn few_bits_give_the_same_logits_alone_and_together() {
        let config = DecoderConfig { hidden_size: 32, intermediate_size: 64, ..small() };
        for to in [Quantisation::Q8_0, Quantisation::Q4_0] {
            let weights = scattered(&config);
            let checkpoint = || Checkpoint {
                weights: weights.clone(),
                tokenizer: sample(),
                weights_hash: "blake3:0".to_owned(),
                folder: "test".into(),
            };
            let mut local = LocalModel::quantised(checkpoint(), to).expect("arranges");
            assert!(
                local.info().weight_bytes
                    < LocalModel::new(checkpoint()).expect("arranges").info().weight_bytes / 2
            );
            let sequences = sequences();
            let alone: Vec<Vec<f32>> = sequences
                .iter()
                .map(|token_ids| {
                    let sequence = local.open(&[]).sequence;
                    local.step(&[Feed::new(sequence, token_ids)]).expect("fits").remove(0)
                })
                .collect();
            let opened: Vec<SequenceId> = sequences.iter().map(|_| local.open(&[]).sequence).collect();
            let feeds: Vec<Feed<'_>> = opened
                .iter()
                .zip(&sequences)
                .map(|(&sequence, token_ids)| Feed::new(sequence, token_ids))
                .collect();
            assert_eq!(local.step(&feeds).expect("fits"), alone, "{to:?}");
        }
    }

    #[test]
    fn tokens_of_which_nothing_is_wanted_are_read_all_the_same() {
        let config = DecoderConfig { hidden_size: 32, intermediate_size: 64, ..small() };
        let checkpoint = || Checkpoint {
            weights: scattered(&config),
            tokenizer: sample(),
            weights_hash: "blake3:0".to_owned(),
            folder: "test".into(),
        };
        let models = [LocalModel::new(checkpoint()), LocalModel::quantised(checkpoint(), Quantisation::Q8_0)];
        for mut local in models.map(|model| model.expect("arranges")) {
            let token_ids = tokens(30, 2);
            let [whole, parts] = [(); 2].map(|()| local.open(&[]).sequence);
            let expected = local.step(&[Feed::new(whole, &token_ids)]).expect("fits");
            let silent = Feed { wanted: 0, ..Feed::new(parts, &token_ids[..12]) };
            assert_eq!(local.step(&[silent]).expect("fits"), [Vec::<f32>::new()]);
            assert_eq!(local.step(&[Feed::new(parts, &token_ids[12..])]).expect("fits"), expected);
        }
    }

    #[test]
    fn scores_are_the_log_softmax_of_the_logits() {
        let (mut local, _) = model(&small());
        let sequences = sequences();
        let whole = |token_ids| Scored { token_ids, wanted: token_ids.len() - 1 };
        let last = Scored { token_ids: &sequences[9], wanted: 3 };
        let scored: Vec<Scored<'_>> =
            sequences.iter().map(|token_ids| whole(token_ids.as_slice())).chain([last]).collect();
        let scores = local.score(&scored).expect("valid sequences");
        for (Scored { token_ids, wanted }, scores) in scored.iter().zip(&scores) {
            assert_eq!(scores.len(), *wanted);
            let sequence = local.open(&[]).sequence;
            let rows = token_ids.len() - 1 - wanted;
            if rows > 0 {
                local.step(&[Feed::new(sequence, &token_ids[..rows])]).expect("valid feed");
            }
            for (position, score) in (rows..).zip(scores) {
                let feed = Feed::new(sequence, &token_ids[position..=position]);
                let logits = local.step(&[feed]).expect("valid feed").remove(0);
                let logit = logits[token_ids[position + 1] as usize];
                assert_eq!(*score, score::score(&LogSoftmax::of(&logits), logit));
            }
        }
    }

    #[test]
    fn beginnings_that_are_shared_change_no_score() {
        let (mut local, _) = model(&small());
        let mut check = |question: &[u32], endings: &[Vec<u32>]| {
            let texts: Vec<Vec<u32>> = endings.iter().map(|ending| [question, ending].concat()).collect();
            let scored = texts.iter().zip(endings);
            let scored: Vec<Scored<'_>> =
                scored.map(|(text, ending)| Scored { token_ids: text, wanted: ending.len() }).collect();
            let together = local.score(&scored).expect("valid sequences");
            for (one, scores) in scored.iter().zip(together) {
                assert_eq!(local.score(&[*one]).expect("a valid sequence"), [scores]);
            }
        };
        let question: Vec<u32> = (0..40).map(|at| at * 7 % 50).collect();
        check(&question, &[vec![3, 1, 4], vec![1], vec![3, 1, 5, 9], vec![2, 7]]);
        // More than is computed at a time goes on from one beginning.
        let long = |number: u32| (0..40).map(|at| if at == 0 { number } else { at * number % 50 }).collect();
        check(&question[..20], &(0..50).map(long).chain([vec![9]]).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let (mut local, _) = model(&small());
        let mut check = |token_ids: &[u32], wanted, expected: &str| {
            let error = local.score(&[Scored { token_ids, wanted }]).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], 0, "a score needs a token before");
        check(&[1, 2], 2, "a score needs a token before");
        check(&[1, 50], 1, "id 50 is outside");
        check(&[1; 66], 1, "sequence of 65 tokens is longer than the context of 64");
        // The last token is only predicted.
        assert_eq!(local.score(&[Scored { token_ids: &[1; 65], wanted: 64 }]).expect("fits")[0].len(), 64);
    }

    #[test]
    fn a_refused_step_changes_nothing() {
        let (mut local, _) = model(&small());
        let (a, b) = (local.open(&[]).sequence, local.open(&[]).sequence);
        let long = vec![1; 65];
        let check = |local: &mut LocalModel, feeds: &[Feed<'_>], expected: &str| {
            let error = local.step(feeds).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(local.sequences.values().all(|sequence| sequence.token_ids.is_empty()));
        };
        let good = Feed::new(a, &[1, 2]);
        check(&mut local, &[good, Feed::new(b, &long)], "sequence of 65 tokens is longer");
        check(&mut local, &[good, Feed::new(b, &[50])], "id 50 is outside");
        check(&mut local, &[good, Feed::new(b, &[])], "no tokens");
        check(&mut local, &[good, good], "stands twice");
        check(&mut local, &[good, Feed::new(SequenceId(99), &[1])], "99 is not open");
        local.close(b);
        check(&mut local, &[good, Feed::new(b, &[1])], "is not open");
    }
}
