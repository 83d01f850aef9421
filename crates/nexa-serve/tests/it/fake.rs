//! A language model without weights: its logits are a function of the tokens that it was fed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nexa_core::lm::{
    Adapter, AdapterLoader, CacheUse, ChatMessage, EncodedChat, Error, Feed, LanguageModel, ModelInfo,
    Opened, Role, Scored, SequenceId, TokenScore, Tokenizer, ToolSyntax,
};
use serde_json::{Map, Value, json};

/// Begins every text.
pub(crate) const BEGIN: u32 = 256;
/// Opens an assistant turn.
pub(crate) const ASSISTANT: u32 = 257;
/// Ends a turn.
pub(crate) const END: u32 = 258;
/// All ids: the bytes and the three above.
pub(crate) const VOCAB: usize = 259;
/// The marks of calls: special tokens after all others, which only a tokenizer with [`ToolSyntax::Array`] has.
pub(crate) const CALL_MARKS: [&str; 3] = ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"];

/// Bytes as ids, with a small chat template.
pub(crate) struct ByteTokenizer {
    pub(crate) has_template: bool,
    pub(crate) syntax: ToolSyntax,
}

impl ByteTokenizer {
    fn call_marks(&self) -> &'static [&'static str] {
        if self.syntax == ToolSyntax::Array { &CALL_MARKS } else { &[] }
    }

    fn render(&self, messages: &[ChatMessage]) -> Result<EncodedChat, Error> {
        if !self.has_template {
            return Err(Error::Tokenizer("the model has no chat template".to_owned()));
        }
        let mut chat = EncodedChat { token_ids: vec![BEGIN], trained: vec![false] };
        for message in messages {
            let is_answer = message.role == Role::Assistant;
            if is_answer {
                chat.token_ids.push(ASSISTANT);
                chat.trained.push(false);
            }
            chat.token_ids.extend(message.content.bytes().map(u32::from).chain([END]));
            chat.trained.resize(chat.token_ids.len(), is_answer);
        }
        Ok(chat)
    }
}

impl Tokenizer for ByteTokenizer {
    fn vocab_size(&self) -> usize {
        VOCAB + self.call_marks().len()
    }
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        // Only this one special token can be spelled, and only at the beginning.
        match text.strip_prefix("<begin>") {
            Some(rest) => Ok([vec![BEGIN], self.encode(rest)?].concat()),
            None => self.encode(text),
        }
    }
    fn decode(&self, token_ids: &[u32]) -> Result<String, Error> {
        let bytes: Vec<u8> = token_ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
    fn token_bytes(&self, token_id: u32) -> Option<Vec<u8>> {
        match token_id {
            BEGIN => Some(b"<begin>".to_vec()),
            ASSISTANT => Some(b"<assistant>".to_vec()),
            END => Some(b"<end>".to_vec()),
            other => match u8::try_from(other) {
                Ok(byte) => Some(vec![byte]),
                Err(_) => self.call_marks().get(other as usize - VOCAB).map(|mark| mark.as_bytes().to_vec()),
            },
        }
    }
    fn is_special(&self, token_id: u32) -> bool {
        token_id >= BEGIN
    }
    fn encode_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, Error> {
        let mut token_ids = self.render(messages)?.token_ids;
        token_ids.push(ASSISTANT);
        Ok(token_ids)
    }
    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<EncodedChat, Error> {
        self.render(messages)
    }
    fn tool_syntax(&self) -> Option<ToolSyntax> {
        self.has_template.then_some(self.syntax)
    }
    /// Shows what it is given as it is, so that tests can tell.
    fn encode_tool_prompt(
        &self,
        messages: &[Map<String, Value>],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>, Error> {
        let mut token_ids = self.encode(&json!({"messages": messages, "tools": tools}).to_string())?;
        token_ids.push(ASSISTANT);
        Ok(token_ids)
    }
    fn prefix_token(&self) -> u32 {
        BEGIN
    }
    fn stop_tokens(&self) -> &[u32] {
        &[END]
    }
}

/// Logits after the tokens so far, given in the pieces in which they were fed.
type Rule = Box<dyn Fn(&[Vec<u32>]) -> Vec<f32> + Send>;

/// What happens before a step: it may block, fail or panic.
type Hook = Box<dyn FnMut(&[Feed<'_>]) -> Result<(), Error> + Send>;

/// Loads adapters: a folder is a number that changes all logits.
struct Salts(AtomicU64);

impl AdapterLoader for Salts {
    fn load_adapter(&self, folder: &Path) -> Result<Adapter, Error> {
        let salt = folder.to_str().and_then(|name| name.parse::<u32>().ok());
        let salt = salt.ok_or_else(|| Error::Invalid(format!("{} is no adapter", folder.display())))?;
        Ok(Adapter { generation: self.0.fetch_add(1, Ordering::Relaxed) + 1, weights: Arc::new(salt) })
    }
}

/// The model.
pub(crate) struct Fake {
    info: ModelInfo,
    tokenizer: Arc<ByteTokenizer>,
    sequences: HashMap<SequenceId, Vec<Vec<u32>>>,
    /// What adapters put before the tokens of sequences.
    salts: HashMap<SequenceId, u32>,
    opened: u64,
    rule: Rule,
    hook: Option<Hook>,
    closed: Option<Sender<u64>>,
    /// Tokens that all sequences may hold together.
    budget: Option<usize>,
    /// Whether prompts find what open sequences begin with.
    remembers: bool,
    has_hidden_states: bool,
    /// Whether the hook leaves the warm-up alone.
    warm_up_is_free: bool,
}

impl Fake {
    pub(crate) fn new(rule: impl Fn(&[Vec<u32>]) -> Vec<f32> + Send + 'static) -> Self {
        Self {
            info: ModelInfo {
                name: "fake".to_owned(),
                architecture: "hash".to_owned(),
                parameters: 0,
                context_length: 512,
                weights_hash: "blake3:0123456789abcdef".to_owned(),
                device: "cpu".to_owned(),
                format: "f32".to_owned(),
                weight_bytes: 0,
            },
            tokenizer: Arc::new(ByteTokenizer { has_template: true, syntax: ToolSyntax::Tagged }),
            sequences: HashMap::new(),
            salts: HashMap::new(),
            opened: 0,
            rule: Box::new(rule),
            hook: None,
            closed: None,
            budget: None,
            remembers: false,
            has_hidden_states: true,
            warm_up_is_free: true,
        }
    }

    /// Logits that depend on every token and its place.
    pub(crate) fn mixing() -> Self {
        Self::new(|pieces| {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            for &word in pieces.iter().flatten() {
                state = (state ^ u64::from(word)).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31);
            }
            let noise = |id: u64| ((state ^ id).wrapping_mul(0x94D0_49BB_1331_11EB) >> 40) as f32 / 4e6;
            (0..VOCAB as u64).map(noise).collect()
        })
    }

    /// Writes this text after an assistant's opening or a `>`, then ends its turn.
    pub(crate) fn saying(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(move |pieces| {
            let all = pieces.concat();
            let start = all.iter().rposition(|&id| id == ASSISTANT || id == u32::from(b'>')).unwrap_or(0);
            let next = text.as_bytes().get(all.len() - start - 1).map_or(END, |&byte| u32::from(byte));
            (0..VOCAB as u32).map(|id| if id == next { 9.0 } else { 0.0 }).collect()
        })
    }

    /// Writes the letter `a` for ever.
    pub(crate) fn endless() -> Self {
        Self::new(|_| (0..VOCAB).map(|id| if id == usize::from(b'a') { 9.0 } else { 0.0 }).collect())
    }

    /// Calls a hook before each step but the first, which is the warm-up.
    pub(crate) fn before_step(
        mut self,
        hook: impl FnMut(&[Feed<'_>]) -> Result<(), Error> + Send + 'static,
    ) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Makes each step after the warm-up wait for a word; dropping the sender lets all pass.
    pub(crate) fn gated(self) -> (Self, Sender<()>) {
        let (gate, words) = channel();
        let fake = self.before_step(move |_| {
            let _ = words.recv();
            Ok(())
        });
        (fake, gate)
    }

    /// Makes each step, the warm-up too, wait for a word; dropping the sender lets all pass.
    pub(crate) fn gated_from_the_start(mut self) -> (Self, Sender<()>) {
        self.warm_up_is_free = false;
        self.gated()
    }

    /// Takes so long for each token, and tells how many tokens each step feeds as it begins.
    pub(crate) fn slow(mut self, per_token: Duration) -> (Self, Receiver<usize>) {
        let (sender, fed) = channel();
        self.warm_up_is_free = false;
        let fake = self.before_step(move |feeds| {
            let tokens: usize = feeds.iter().map(|feed| feed.token_ids.len()).sum();
            let _ = sender.send(tokens);
            std::thread::sleep(per_token * u32::try_from(tokens).expect("a small step"));
            Ok(())
        });
        (fake, fed)
    }

    /// Tells which sequences are closed, by number; the warm-up is 1.
    pub(crate) fn telling_closed(mut self) -> (Self, Receiver<u64>) {
        let (sender, closed) = channel();
        self.closed = Some(sender);
        (self, closed)
    }

    /// Lets all sequences hold so many tokens together.
    pub(crate) fn with_budget(mut self, tokens: usize) -> Self {
        self.budget = Some(tokens);
        self
    }

    /// Lets prompts find what open sequences begin with.
    pub(crate) fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    pub(crate) fn with_context_length(mut self, tokens: usize) -> Self {
        self.info.context_length = tokens;
        self
    }

    pub(crate) fn without_hidden_states(mut self) -> Self {
        self.has_hidden_states = false;
        self
    }

    pub(crate) fn without_template(mut self) -> Self {
        self.tokenizer = Arc::new(ByteTokenizer { has_template: false, syntax: ToolSyntax::Tagged });
        self
    }

    /// Writes and reads calls of tools in this way.
    pub(crate) fn with_tool_syntax(mut self, syntax: ToolSyntax) -> Self {
        self.tokenizer = Arc::new(ByteTokenizer { has_template: true, syntax });
        self
    }
}

impl LanguageModel for Fake {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn tokenizer(&self) -> Arc<dyn Tokenizer> {
        self.tokenizer.clone()
    }
    fn adapter_loader(&self) -> Option<Arc<dyn AdapterLoader>> {
        Some(Arc::new(Salts(AtomicU64::new(0))))
    }
    fn open_with(&mut self, prompt: &[u32], adapter: Option<&Adapter>) -> Opened {
        self.opened += 1;
        let sequence = SequenceId(self.opened);
        let known = &prompt[..prompt.len().saturating_sub(1)];
        let common =
            |pieces: &Vec<Vec<u32>>| pieces.concat().iter().zip(known).take_while(|(a, b)| a == b).count();
        let found = self.sequences.values().map(common).max().filter(|_| self.remembers).unwrap_or(0);
        if let Some(adapter) = adapter {
            self.salts.insert(sequence, *adapter.weights.downcast_ref::<u32>().expect("a salt"));
        }
        let pieces = if found > 0 { vec![prompt[..found].to_vec()] } else { Vec::new() };
        self.sequences.insert(sequence, pieces);
        Opened { sequence, cached_tokens: found }
    }
    fn fits(&self, feeds: &[Feed<'_>]) -> bool {
        let Some(budget) = self.budget else { return true };
        let held: usize = self.sequences.values().flatten().map(Vec::len).sum();
        held + feeds.iter().map(|feed| feed.token_ids.len()).sum::<usize>() <= budget
    }
    fn cache(&self) -> CacheUse {
        let held = self.sequences.values().flatten().map(Vec::len).sum();
        CacheUse {
            pages: self.budget.unwrap_or(0),
            held,
            page_tokens: 1,
            finds_beginnings: self.remembers,
            ..CacheUse::default()
        }
    }
    fn truncate(&mut self, sequence: SequenceId, tokens: usize) {
        let pieces = self.sequences.get_mut(&sequence).expect("an open sequence");
        let mut extra = pieces.iter().map(Vec::len).sum::<usize>() - tokens;
        while extra > 0 {
            let last = pieces.last_mut().expect("there are tokens to take back");
            let taken = extra.min(last.len());
            last.truncate(last.len() - taken);
            extra -= taken;
            if last.is_empty() {
                pieces.pop();
            }
        }
    }
    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, Error> {
        let is_free = self.warm_up_is_free && feeds.iter().all(|feed| feed.sequence == SequenceId(1));
        if let Some(hook) = self.hook.as_mut().filter(|_| !is_free) {
            hook(feeds)?;
        }
        let mut rows = Vec::new();
        for feed in feeds {
            assert!(!feed.token_ids.is_empty(), "an empty feed");
            let pieces = self.sequences.get_mut(&feed.sequence).expect("an open sequence");
            let before = pieces.clone();
            pieces.push(feed.token_ids.to_vec());
            assert!(pieces.concat().len() <= self.info.context_length, "more tokens than positions");
            let seen = feed.token_ids.len();
            let salt = self.salts.get(&feed.sequence).map(|&salt| vec![salt]);
            let logits = (seen - feed.wanted + 1..=seen).map(|end| {
                let mut pieces: Vec<Vec<u32>> = salt.iter().chain(&before).cloned().collect();
                pieces.push(feed.token_ids[..end].to_vec());
                (self.rule)(&pieces)
            });
            rows.push(logits.flatten().collect());
        }
        Ok(rows)
    }
    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
        self.salts.remove(&sequence);
        if let Some(closed) = &self.closed {
            let _ = closed.send(sequence.0);
        }
    }
    /// The id of each token, and 100.
    fn hidden_states(&mut self, feed: Feed<'_>) -> Result<Vec<f32>, Error> {
        if let Some(hook) = self.hook.as_mut() {
            hook(&[feed])?;
        }
        if !self.has_hidden_states {
            return Err(Error::Invalid("model `fake` gives no hidden states to embed texts by".to_owned()));
        }
        let pieces = self.sequences.get_mut(&feed.sequence).expect("an open sequence");
        pieces.push(feed.token_ids.to_vec());
        assert!(self.fits(&[]), "more tokens than there is memory for");
        let last = &feed.token_ids[feed.token_ids.len() - feed.wanted..];
        Ok(last.iter().flat_map(|&id| [id as f32, 100.0]).collect())
    }
    fn score(&mut self, sequences: &[Scored<'_>]) -> Result<Vec<Vec<TokenScore>>, Error> {
        let score = |token_ids: &[u32], at: usize| {
            let logits = (self.rule)(&[token_ids[..at].to_vec()]);
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
            let chosen = logits[token_ids[at] as usize];
            TokenScore { logprob_nats: chosen - highest - sum.ln(), is_greedy: chosen == highest }
        };
        let scores = |&Scored { token_ids, wanted }: &Scored<'_>| {
            (token_ids.len() - wanted..token_ids.len()).map(|at| score(token_ids, at)).collect()
        };
        Ok(sequences.iter().map(scores).collect())
    }
}
