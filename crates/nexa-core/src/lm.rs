//! The seam between models and everything that uses them.
//!
//! [`LanguageModel`] is what a decoder implements: token ids in, logits out, with the keys and values of each
//! sequence kept by the model. [`ChatModel`] and [`TextScorer`] are what evaluation and distillation see; an
//! inference engine implements them over a `LanguageModel`, an API client implements `ChatModel` alone. Nothing
//! here knows a tensor library, a sampler or a network.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Kind};
use crate::stage::Context;

/// Who speaks in one turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand before the conversation.
    System,
    /// The person, or the prompt of a data set.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// Returns the word that stands in files and chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation, in the `messages` form of the OpenAI API and of SFT files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// Makes a message of any role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// How the next token is chosen from the logits.
///
/// Biases and penalties change the logits first, then they are divided by the temperature, then top-k, top-p and min-p
/// leave tokens out, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 means greedy decoding.
    pub temperature: f32,
    /// Keeps the smallest set of tokens whose probability reaches this share; 1 keeps all.
    pub top_p: f32,
    /// Keeps the `top_k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens whose probability is at least this share of that of the most probable; 0 keeps all.
    #[serde(skip_serializing_if = "is_default")]
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of tokens that stand in the prompt or the answer; 1 changes
    /// nothing (Keskar et al., "CTRL", 2019).
    #[serde(skip_serializing_if = "Factor::is_one")]
    pub repetition_penalty: Factor,
    /// Taken from the logit of a token for each time that it stands in the answer.
    #[serde(skip_serializing_if = "is_default")]
    pub frequency_penalty: f32,
    /// Taken from the logits of tokens that stand in the answer.
    #[serde(skip_serializing_if = "is_default")]
    pub presence_penalty: f32,
    /// Added to the logits of tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub logit_bias: BTreeMap<u32, f32>,
    /// Seeds the draws of this request alone, so that its neighbours in a batch cannot change them.
    pub seed: u64,
    /// Ends the answer after this many tokens.
    pub max_tokens: usize,
    /// The end of the turn is not chosen before the answer has so many tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub min_tokens: usize,
    /// Goes on after the end of the turn.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_eos: bool,
    /// Ends the answer before the first occurrence of any of these strings.
    pub stop: Vec<String>,
    /// Tells the probability of each token of the answer, and of so many of the most probable in its place.
    #[serde(skip_serializing_if = "is_default")]
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt.
    #[serde(skip_serializing_if = "is_default")]
    pub prompt_logprobs: Option<usize>,
    /// What the answer must look like.
    #[serde(skip_serializing_if = "is_default")]
    pub form: Option<AnswerForm>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A factor, 1 where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Factor(pub f32);

impl Factor {
    fn is_one(&self) -> bool {
        self.0 == 1.0
    }
}

impl Default for Factor {
    fn default() -> Self {
        Self(1.0)
    }
}

/// How a model writes that it calls a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolSyntax {
    /// `<tool_call>` and `</tool_call>` around an object with `name` and `arguments`, for every call: Hermes, Qwen.
    Tagged,
    /// An answer that is an object with `name` and `parameters`: Llama 3.
    Object,
    /// `[TOOL_CALLS]` before an array of objects with `name` and `arguments`: Mistral.
    Array,
}

/// What an answer must look like; tokens that would lead away from it are never chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerForm {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema accepts.
    JsonSchema(serde_json::Value),
    /// A text that a regular expression matches from its beginning to its end.
    Regex(String),
    /// A text of a grammar, in the Lark notation of `llguidance`.
    Grammar(String),
    /// One of some texts.
    Choice(Vec<String>),
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: Factor::default(),
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
            max_tokens: 256,
            min_tokens: 0,
            ignore_eos: false,
            stop: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            form: None,
        }
    }
}

/// Why an answer ended, in the words of the OpenAI API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-turn token or a stop string.
    Stop,
    /// `max_tokens` or the context length.
    Length,
    /// The provider withheld the answer.
    ContentFilter,
}

impl FinishReason {
    /// Returns the word that the OpenAI API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// A question to a [`ChatModel`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The conversation so far; the model writes the next assistant turn.
    pub messages: Vec<ChatMessage>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// The answer of a [`ChatModel`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The assistant's text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, the end-of-turn token included.
    pub completion_tokens: usize,
    /// Tokens that the prompt lost at its beginning, as it left no room for the answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cut_tokens: usize,
}

/// Whatever answers chats: an engine over a local checkpoint, or a remote API.
pub trait ChatModel: Send + Sync {
    /// The name that reports show.
    fn name(&self) -> &str;

    /// Answers every request and returns the replies in the order of the requests.
    ///
    /// `done` is called once for each request as it finishes, with its position, in any order.
    ///
    /// # Errors
    /// Fails when the model fails; a request that the model refuses is an error of the whole call.
    fn chat(&self, requests: &[ChatRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<ChatReply>, Error>;

    /// As [`Self::chat`], where single requests may fail for good: each has its reply, or the reason why there will be none.
    ///
    /// # Errors
    /// Fails when the model fails.
    fn chat_each(
        &self,
        requests: &[ChatRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<ChatReply, String>>, Error> {
        Ok(self.chat(requests, done)?.into_iter().map(Ok).collect())
    }
}

/// A text whose probability is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreRequest {
    /// The assistant turns of a conversation, rendered and masked exactly as in training.
    Chat(Vec<ChatMessage>),
    /// A continuation after a context, both as plain text.
    Continuation {
        /// What stands before; not scored.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// A whole text. What is longer than the context is read in windows that do not overlap, each after the token before
    /// it, so that every token is scored once.
    Text(String),
}

/// The probability of a text under a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Sum of the log-probabilities of the scored tokens, in nats.
    pub logprob_nats: f64,
    /// Number of scored tokens.
    pub tokens: usize,
    /// UTF-8 bytes of the scored text, special tokens not counted.
    pub bytes: usize,
    /// Whether every scored token was the most probable one.
    pub is_greedy: bool,
    /// Tokens that the context lost at its beginning, as the model reads no more at a time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cut_tokens: usize,
}

/// A model whose probabilities can be read, as log-likelihood tasks need.
pub trait TextScorer: Send + Sync {
    /// Scores every request and returns the scores in the order of the requests.
    ///
    /// # Errors
    /// Fails when a text is longer than the model's context or the model fails.
    fn score(&self, requests: &[ScoreRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<Score>, Error>;
}

/// A text that a [`TextCompleter`] goes on from.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The text, encoded as [`Tokenizer::encode_text`] does. It loses its beginning where it leaves no room in the context
    /// for `sampling.max_tokens`.
    pub prompt: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// A model that goes on from plain text, as few-shot tasks need.
pub trait TextCompleter: Send + Sync {
    /// Completes every request and returns the replies in the order of the requests.
    ///
    /// # Errors
    /// Fails when the model fails, or when an answer of `max_tokens` alone fills the context.
    fn complete(
        &self,
        requests: &[CompletionRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, Error>;

    /// Renders a conversation with the chat template of the model, to the opening of the next assistant turn; where the
    /// assistant speaks last, that turn is left open to be gone on with.
    ///
    /// # Errors
    /// Fails when the model has no template, or the template refuses the conversation.
    fn render_prompt(&self, messages: &[ChatMessage]) -> Result<String, Error>;
}

/// A conversation as a model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedChat {
    /// The rendered conversation.
    pub token_ids: Vec<u32>,
    /// For each token, whether it belongs to an assistant turn (its end-of-turn token included) and so carries loss.
    pub trained: Vec<bool>,
}

/// Text to token ids and back, with the chat template of the model.
pub trait Tokenizer: Send + Sync {
    /// Number of ids, special tokens included.
    fn vocab_size(&self) -> usize;

    /// Encodes plain text without adding special tokens.
    ///
    /// # Errors
    /// Fails when the tokenizer cannot encode the text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// Encodes text as the tokenizers of `transformers` do when nothing is said: special tokens that the text spells are
    /// read as such, and what the tokenizer puts before every text stands before it, once.
    ///
    /// # Errors
    /// Fails when the tokenizer cannot encode the text.
    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode(text)
    }

    /// Decodes ids to text and leaves special tokens out. Incomplete UTF-8 shows as U+FFFD.
    ///
    /// # Errors
    /// Fails on an id outside the vocabulary.
    fn decode(&self, token_ids: &[u32]) -> Result<String, Error>;

    /// The bytes that a token adds to a text; of a special token, its name. `None` where the vocabulary has no such token.
    fn token_bytes(&self, token_id: u32) -> Option<Vec<u8>>;

    /// Whether a token is no text: the end of a turn, the beginning of a sequence.
    fn is_special(&self, token_id: u32) -> bool;

    /// Renders a conversation with the chat template and encodes it, ending with the opening of an assistant turn.
    ///
    /// # Errors
    /// Fails when the template refuses the conversation.
    fn encode_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, Error>;

    /// Renders a conversation to text, as [`TextCompleter::render_prompt`].
    ///
    /// # Errors
    /// Fails when there is no template, or the template refuses the conversation.
    fn render_prompt(&self, _messages: &[ChatMessage]) -> Result<String, Error> {
        Err(Error::Tokenizer("the tokenizer has no chat template".to_owned()))
    }

    /// How the model writes that it calls a tool; `None` where its chat template knows no tools.
    fn tool_syntax(&self) -> Option<ToolSyntax> {
        None
    }

    /// As [`Self::encode_prompt`], for messages with any keys that the template may read, such as `tool_calls`, and the
    /// JSON schemas of tools that the model may call.
    ///
    /// # Errors
    /// Fails when the template refuses the conversation or knows no tools.
    fn encode_tool_prompt(
        &self,
        _messages: &[serde_json::Map<String, serde_json::Value>],
        _tools: Option<&serde_json::Value>,
    ) -> Result<Vec<u32>, Error> {
        Err(Error::Tokenizer("the chat template of the model knows no tools".to_owned()))
    }

    /// Renders a whole conversation and marks the tokens of the assistant turns.
    ///
    /// # Errors
    /// Fails when the template refuses the conversation.
    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<EncodedChat, Error>;

    /// The token before an empty context: beginning of sequence, else end of sequence.
    fn prefix_token(&self) -> u32;

    /// Ids that end an assistant turn.
    fn stop_tokens(&self) -> &[u32];
}

/// What a model is, for listings, `/v1/models` and manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name under which it is served.
    pub name: String,
    /// `llama`, `qwen2`, … as in `config.json`.
    pub architecture: String,
    /// Number of weights, tied ones once.
    pub parameters: usize,
    /// Largest number of positions.
    pub context_length: usize,
    /// BLAKE3 of the weights.
    pub weights_hash: String,
    /// `cpu`, `cuda:0`, …
    pub device: String,
    /// The format of the weights in memory: `f32`, `q8_0`, or those of a GGUF file.
    pub format: String,
    /// Bytes of weights that a step reads, however many tokens it has.
    pub weight_bytes: u64,
}

/// Names a sequence whose keys and values a [`LanguageModel`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// A sequence that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its name.
    pub sequence: SequenceId,
    /// How many tokens of the prompt it holds already, because the model had seen the same beginning before. They are not
    /// fed again.
    pub cached_tokens: usize,
}

/// New tokens of one sequence: a whole prompt, a chunk of it, the last sampled token, or that with guesses after it.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// Which sequence grows.
    pub sequence: SequenceId,
    /// The tokens that it grows by; at least one.
    pub token_ids: &'a [u32],
    /// After how many of these tokens, counted from the last, logits are wanted.
    pub wanted: usize,
}

impl<'a> Feed<'a> {
    /// Tokens of which the logits after the last are wanted.
    pub fn new(sequence: SequenceId, token_ids: &'a [u32]) -> Self {
        Self { sequence, token_ids, wanted: 1 }
    }
}

/// The memory that a model has for keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// Pages that there may be; 0 where a model has no such limit.
    pub pages: usize,
    /// Pages that open sequences hold.
    pub held: usize,
    /// Tokens of a page.
    pub page_tokens: usize,
    /// Whether a prompt finds the full pages of what open sequences, or those before them, begin with.
    pub finds_beginnings: bool,
    /// Tokens of all prompts that were looked for among what was seen before.
    pub asked_tokens: u64,
    /// Tokens of them that were found.
    pub found_tokens: u64,
}

/// A sequence whose last tokens are scored, each after all before it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// The whole sequence.
    pub token_ids: &'a [u32],
    /// How many of its last tokens are scored: fewer than it has.
    pub wanted: usize,
}

/// How a model rates one token after those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Natural logarithm of the token's probability.
    pub logprob_nats: f32,
    /// Whether no other token was more probable.
    pub is_greedy: bool,
}

/// A correction of a model's weights that sequences can be opened with. It is in memory for as long as somebody holds it.
#[derive(Clone)]
pub struct Adapter {
    /// Which loading of an adapter this is; no number is given twice.
    pub generation: u64,
    /// What the model knows it by.
    pub weights: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Loads adapters for one model, while that model is at work.
pub trait AdapterLoader: Send + Sync {
    /// Loads the adapter in a folder.
    ///
    /// # Errors
    /// Fails when the folder holds no adapter that fits the model, naming the file or tensor.
    fn load_adapter(&self, folder: &std::path::Path) -> Result<Adapter, Error>;
}

/// A decoder with its weights. Its only user at a time is an engine's thread.
pub trait LanguageModel: Send {
    /// What the model is.
    fn info(&self) -> &ModelInfo;

    /// The tokenizer that belongs to the weights.
    fn tokenizer(&self) -> Arc<dyn Tokenizer>;

    /// What loads adapters for this model; none where it takes none.
    fn adapter_loader(&self) -> Option<Arc<dyn AdapterLoader>> {
        None
    }

    /// Opens a sequence that will be fed a prompt; at least its last token remains to be fed. It is computed with an
    /// adapter that this model's loader has loaded, or without any.
    fn open_with(&mut self, prompt: &[u32], adapter: Option<&Adapter>) -> Opened;

    /// Opens a sequence without an adapter.
    fn open(&mut self, prompt: &[u32]) -> Opened {
        self.open_with(prompt, None)
    }

    /// Whether there is memory for some feeds now.
    fn fits(&self, _feeds: &[Feed<'_>]) -> bool {
        true
    }

    /// How much of its memory for sequences the model uses.
    fn cache(&self) -> CacheUse {
        CacheUse::default()
    }

    /// Feeds tokens to sequences and returns, for each feed, the logits after its last tokens.
    ///
    /// Prompts and single tokens may stand in one step. The logits of a sequence depend neither on what else stands in the
    /// step nor on how its tokens are cut into steps.
    ///
    /// # Shapes
    /// Returns `[wanted, vocab]` for each feed, in their order.
    ///
    /// # Errors
    /// Fails when a sequence is unknown, would outgrow the context length, or does not fit; no sequence has grown then.
    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, Error>;

    /// Takes back the last tokens of a sequence, all but `tokens` of it: guesses that turned out wrong. Only tokens of
    /// the last step can be taken back, before another sequence is opened.
    fn truncate(&mut self, sequence: SequenceId, tokens: usize);

    /// Drops a sequence and what is kept of it. Unknown ids are ignored.
    fn close(&mut self, sequence: SequenceId);

    /// Feeds tokens to a sequence, as [`LanguageModel::step`] does, and returns the hidden states that the output layer reads
    /// after its last tokens.
    ///
    /// # Shapes
    /// Returns `[wanted, hidden]`.
    ///
    /// # Errors
    /// Fails where the model gives no hidden states, and as [`LanguageModel::step`].
    fn hidden_states(&mut self, _feed: Feed<'_>) -> Result<Vec<f32>, Error> {
        Err(Error::Invalid(format!("model `{}` gives no hidden states to embed texts by", self.info().name)))
    }

    /// Scores the last tokens of each sequence. Beginnings that neighbours share are computed once where the model can.
    ///
    /// # Shapes
    /// Gives [`Scored::wanted`] scores for each sequence.
    ///
    /// # Errors
    /// Fails when a sequence without its last token, which is only predicted, is longer than the context length, when it
    /// has no token before those that are wanted, or holds an id outside the vocabulary.
    fn score(&mut self, sequences: &[Scored<'_>]) -> Result<Vec<Vec<TokenScore>>, Error>;
}

/// A model that is ready to answer and to score.
#[derive(Clone)]
pub struct LoadedModel<'a> {
    /// What it is.
    pub info: ModelInfo,
    /// Answers chats.
    pub chat: Arc<dyn ChatModel + 'a>,
    /// Gives probabilities; absent for models behind an API that does not tell them.
    pub scorer: Option<Arc<dyn TextScorer + 'a>>,
    /// Goes on from plain text; absent for models behind an API that takes conversations alone.
    pub completer: Option<Arc<dyn TextCompleter + 'a>>,
}

/// How a model behind an API is called. Nothing of it changes an answer; what may fail and cost decides whether there is a
/// result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// The ceiling on what they may cost, in US dollars. Default: that of `nexa.yaml`, if any.
    pub max_cost_usd: Option<f64>,
    /// The ceiling on the tokens that they may use, prompts and answers together.
    pub max_total_tokens: Option<u64>,
    /// Calls under way at once, at most. Default 64.
    pub max_concurrent_requests: usize,
    /// Calls begun in a minute, at most; the provider's headers may lower it.
    pub max_requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute, at most; the provider's headers may lower it.
    pub max_tokens_per_minute: Option<u64>,
    /// Further attempts for a call that failed in passing. Default 6, about half a minute.
    pub max_retries: u32,
    /// Seconds after which a call counts as failed. Default 120.
    pub timeout_s: u64,
    /// The share of a task's requests that may fail for good, as the provider does not accept them; they count as empty
    /// answers. Default 0.05.
    pub max_failed_share: f64,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            max_cost_usd: None,
            max_total_tokens: None,
            max_concurrent_requests: 64,
            max_requests_per_minute: None,
            max_tokens_per_minute: None,
            max_retries: 6,
            timeout_s: 120,
            max_failed_share: 0.05,
        }
    }
}

/// Opens checkpoints for stages that must not know how: the binary wires decoder and engine together here.
pub trait ModelLoader: Send + Sync {
    /// Opens the checkpoint in a folder.
    ///
    /// # Errors
    /// Fails when the folder holds no checkpoint that can be read, naming the file.
    fn load(&self, checkpoint: &std::path::Path) -> Result<LoadedModel<'static>, Error>;

    /// Opens what a stage was given to ask: a checkpoint, or a model behind an API, whose calls go to the ledger of the
    /// stage and stay within its budget.
    ///
    /// # Errors
    /// As [`Self::load`], and where the artifact is a model behind an API and the loader knows none.
    fn open<'a>(
        &self,
        model: &Artifact,
        _context: &'a Context<'a>,
        _calls: &Calls,
    ) -> Result<LoadedModel<'a>, Error> {
        if model.manifest.kind == Kind::ApiModel {
            return Err(Error::Invalid(format!("{} is behind an API, which is not called here", model.id())));
        }
        self.load(&model.path())
    }
}

/// Opens tokenizers for stages that must not know how.
pub trait TokenizerLoader: Send + Sync {
    /// Opens the tokenizer of a folder, which may be that of a checkpoint.
    ///
    /// # Errors
    /// Fails when the folder holds no tokenizer that can be read, naming the file.
    fn load_tokenizer(&self, folder: &std::path::Path) -> Result<Arc<dyn Tokenizer>, Error>;
}

/// What goes wrong between a model and its user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More positions than the model has.
    #[error("sequence of {tokens} tokens is longer than the context of {context_length}")]
    TooLong {
        /// Tokens asked for.
        tokens: usize,
        /// Positions there are.
        context_length: usize,
    },
    /// The memory for keys and values has no room for a step.
    #[error("the cache of keys and values has room for {tokens} tokens, which is too few")]
    CacheFull {
        /// Tokens that it has room for in all.
        tokens: usize,
    },
    /// The tokenizer or the chat template refused the text.
    #[error("tokenize: {0}")]
    Tokenizer(String),
    /// The request makes no sense to this model.
    #[error("{0}")]
    Invalid(String),
    /// The model or its service failed.
    #[error("model `{model}`: {message}")]
    Failed {
        /// Which model.
        model: String,
        /// What happened.
        message: String,
    },
    /// Calls to the API of a model failed, or may not be made.
    #[error("{0}")]
    Calls(Box<dyn crate::Diagnose>),
    /// The engine is shutting down or the caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}
