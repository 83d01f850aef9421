//! What callers hold.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nexa_core::lm::{
    self, Adapter, AdapterLoader, ChatMessage, LanguageModel, LoadedModel, ModelInfo, Sampling, Tokenizer,
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::answer::Sink;
use super::form::Forms;
use super::queue::{Phase, Queue, Request, WhenFull};
use super::tools::{CallMarks, call_marks};
use super::{Answer, EngineConfig, Event, worker};
use crate::Error;

/// What an answer continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, rendered with the chat template of the model.
    Messages(Vec<ChatMessage>),
    /// Plain text, encoded as [`Tokenizer::encode_text`] does. Text without a token stands for the tokenizer's prefix token.
    Text(String),
    /// A conversation with what else the chat template reads of its messages, and the tools that the model may call.
    Conversation {
        /// The messages, each with `role`, `content` and whatever the template knows.
        messages: Vec<Map<String, Value>>,
        /// The tools, as OpenAI's requests give them.
        tools: Option<Value>,
    },
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

/// A running engine. Clones share it; when the last is dropped, unfinished requests fail and the thread ends.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// What the requests of this handle are computed with.
    adapter: Option<Adapter>,
}

struct Inner {
    info: ModelInfo,
    tokenizer: Arc<dyn Tokenizer>,
    forms: Forms,
    /// Found when tools are first offered: it looks at the whole vocabulary.
    marks: OnceLock<Arc<CallMarks>>,
    adapters: Option<Arc<dyn AdapterLoader>>,
    window: usize,
    queue: Arc<Queue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.abort();
    }
}

impl Engine {
    /// Starts the thread of a model.
    ///
    /// # Errors
    /// Fails when a size in the configuration is 0, or the system gives no thread.
    pub fn start(model: Box<dyn LanguageModel>, config: EngineConfig) -> Result<Self, Error> {
        config.validate()?;
        let info = model.info().clone();
        let (tokenizer, adapters) = (model.tokenizer(), model.adapter_loader());
        let queue = Arc::new(Queue::new(&info.name, config.clone()));
        let window = config.max_batch.saturating_mul(2);
        std::thread::Builder::new()
            .name("nexa-engine".to_owned())
            .spawn({
                let queue = Arc::clone(&queue);
                move || worker::run(model, config, queue)
            })
            .map_err(|source| Error::Start { what: "the engine's thread", source })?;
        let forms = Forms::new(Arc::clone(&tokenizer));
        let marks = OnceLock::new();
        let inner = Inner { info, tokenizer, forms, marks, adapters, window, queue };
        Ok(Self { inner: Arc::new(inner), adapter: None })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> &Arc<dyn Tokenizer> {
        &self.inner.tokenizer
    }

    /// Asks for an answer. It may have at most `sampling.max_tokens` tokens and ends where the context is full.
    ///
    /// # Errors
    /// Fails when the engine is full or shutting down, the prompt leaves no room in the context or cannot be
    /// tokenised, or the sampling makes no sense.
    pub fn submit(&self, prompt: &Prompt, sampling: Sampling) -> Result<Answer, Error> {
        self.inner.queue.admits()?;
        let (sender, events) = mpsc::unbounded_channel();
        let request = self.request(prompt, sampling, Sink::new(0, &sender))?;
        self.inner.queue.push(request, WhenFull::Refuse)?;
        Ok(Answer::new(events, Arc::clone(&self.inner.queue)))
    }

    /// Loads an adapter while requests are answered. It stays in memory until the last handle and the last request that
    /// has it are gone.
    ///
    /// # Errors
    /// Fails when the folder holds no adapter that fits the model, or the model takes none.
    pub fn load_adapter(&self, folder: &Path) -> Result<Adapter, lm::Error> {
        let Some(loader) = &self.inner.adapters else {
            return Err(lm::Error::Invalid(format!("model `{}` takes no adapters", self.info().name)));
        };
        loader.load_adapter(folder)
    }

    /// A handle on the same engine whose requests are computed with an adapter that it has loaded.
    #[must_use]
    pub fn with_adapter(&self, adapter: Adapter) -> Self {
        Self { inner: Arc::clone(&self.inner), adapter: Some(adapter) }
    }

    /// Where the engine stands in its life.
    pub fn phase(&self) -> Phase {
        self.inner.queue.phase()
    }

    /// Waits until requests are answered, or until it is certain that they never will be.
    ///
    /// # Errors
    /// Fails when the engine stopped instead.
    pub async fn ready(&self) -> Result<(), Error> {
        match self.inner.queue.wait_for(|phase| *phase != Phase::Loading).await {
            Phase::Stopped => Err(self.inner.queue.stopped_error()),
            Phase::Loading | Phase::Ready | Phase::Draining => Ok(()),
        }
    }

    /// Waits until the thread has ended.
    ///
    /// # Errors
    /// Fails when it ended because the model failed in a way that it cannot go on from.
    pub async fn stopped(&self) -> Result<(), Error> {
        self.inner.queue.wait_for(|phase| *phase == Phase::Stopped).await;
        match self.inner.queue.failure() {
            None => Ok(()),
            Some(_) => Err(self.inner.queue.stopped_error()),
        }
    }

    /// Takes nothing new from now on and ends when what was accepted is answered.
    pub fn drain(&self) {
        self.inner.queue.drain();
    }

    /// Ends after the current step of the model; unfinished answers fail with [`lm::Error::Interrupted`].
    pub fn abort(&self) {
        self.inner.queue.abort();
    }

    /// Counters, gauges and histograms in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let (running, waiting) = self.inner.queue.load();
        self.inner.queue.metrics.render(&self.inner.info.name, running, waiting)
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.inner.queue
    }

    /// How many requests of one blocking call are in flight: enough that the batch stays full while answers are read.
    pub(super) fn window(&self) -> usize {
        self.inner.window
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// Fails when the prompt cannot be tokenised, or the chat template refuses the conversation.
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, lm::Error> {
        let tokenizer = &self.inner.tokenizer;
        match prompt {
            Prompt::Messages(messages) => tokenizer.encode_prompt(messages),
            Prompt::Text(text) => tokenizer.encode_text(text),
            Prompt::Conversation { messages, tools } => {
                tokenizer.encode_tool_prompt(messages, tools.as_ref())
            }
            Prompt::Tokens(token_ids) => Ok(token_ids.clone()),
        }
    }

    /// Refuses ids that the model has no token for.
    pub(super) fn check_ids(&self, token_ids: &[u32]) -> Result<(), lm::Error> {
        let vocabulary = self.inner.tokenizer.vocab_size();
        match token_ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(unknown) => Err(lm::Error::Invalid(format!("token id {unknown} is outside the vocabulary"))),
            None => Ok(()),
        }
    }

    /// Tokenises and checks a request.
    pub(super) fn request(
        &self,
        prompt: &Prompt,
        sampling: Sampling,
        sink: Sink<Event>,
    ) -> Result<Request, lm::Error> {
        check_sampling(&sampling)?;
        let tokenizer = &self.inner.tokenizer;
        let mut token_ids = self.encode(prompt)?;
        if token_ids.is_empty() {
            token_ids.push(tokenizer.prefix_token());
        }
        self.check_ids(&token_ids)?;
        // The answer needs room for at least one token.
        let (tokens, context_length) = (token_ids.len() + 1, self.inner.info.context_length);
        if tokens > context_length {
            return Err(lm::Error::TooLong { tokens, context_length });
        }
        let form = sampling.form.as_ref().map(|form| self.inner.forms.form(form)).transpose()?;
        let adapter = self.adapter.clone();
        let marks = self.shown_marks(prompt);
        Ok(Request { prompt: token_ids, sampling, form, adapter, marks, sink, arrived: Instant::now() })
    }

    /// The special tokens that the answer to a prompt shows: those of calls where tools are offered, else none.
    fn shown_marks(&self, prompt: &Prompt) -> Arc<CallMarks> {
        let Prompt::Conversation { tools: Some(_), .. } = prompt else { return Arc::default() };
        let tokenizer = self.inner.tokenizer.as_ref();
        Arc::clone(self.inner.marks.get_or_init(|| Arc::new(call_marks(tokenizer))))
    }
}

impl From<Engine> for LoadedModel<'static> {
    fn from(engine: Engine) -> Self {
        let engine = Arc::new(engine);
        Self {
            info: engine.info().clone(),
            chat: engine.clone(),
            scorer: Some(engine.clone()),
            completer: Some(engine),
        }
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), lm::Error> {
    let problem = if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
        format!("`temperature` is {}, but must be 0 or more", sampling.temperature)
    } else if !(0.0..=1.0).contains(&sampling.top_p) {
        format!("`top_p` is {}, but must be from 0 to 1", sampling.top_p)
    } else if !(0.0..=1.0).contains(&sampling.min_p) {
        format!("`min_p` is {}, but must be from 0 to 1", sampling.min_p)
    } else if !(sampling.repetition_penalty.0.is_finite() && sampling.repetition_penalty.0 > 0.0) {
        format!("`repetition_penalty` is {}, but must be above 0", sampling.repetition_penalty.0)
    } else if ![sampling.frequency_penalty, sampling.presence_penalty]
        .iter()
        .all(|penalty| penalty.is_finite())
    {
        "a penalty is no finite number".to_owned()
    } else if sampling.logit_bias.values().any(|bias| bias.is_nan()) {
        "`logit_bias` holds what is no number".to_owned()
    } else if sampling.form.is_some() && (sampling.ignore_eos || sampling.min_tokens > 0) {
        "an answer of a given form ends where the form does: `ignore_eos` and `min_tokens` are not for it"
            .to_owned()
    } else if sampling.max_tokens == 0 {
        "`max_tokens` is 0, but must be at least 1".to_owned()
    } else if sampling.stop.iter().any(String::is_empty) {
        "`stop` holds an empty string".to_owned()
    } else {
        return Ok(());
    };
    Err(lm::Error::Invalid(problem))
}
