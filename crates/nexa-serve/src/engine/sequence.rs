//! One request in the batch: what it has fed, what it has written, and when it ends.

use std::sync::Arc;
use std::time::Instant;

use nexa_core::lm::{Error, FinishReason, SequenceId, Tokenizer};

use super::answer::Sink;
use super::detokenize::Detokenizer;
use super::metrics::Metrics;
use super::queue::Request;
use super::sample::Sampler;
use super::stop::StopStrings;
use super::{Event, Usage};

/// A request that the model works on.
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    pub(super) sink: Sink<Event>,
    pub(super) arrived: Instant,
    /// The prompt and then the tokens of the answer.
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    /// How many of `token_ids` the model has seen.
    fed: usize,
    /// Tokens that the answer may have.
    limit: usize,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopStrings,
    last_token: Option<Instant>,
}

impl Sequence {
    pub(super) fn new(
        id: SequenceId,
        request: Request,
        tokenizer: Arc<dyn Tokenizer>,
        context_length: usize,
    ) -> Self {
        let prompt_tokens = request.prompt.len();
        Self {
            id,
            sink: request.sink,
            arrived: request.arrived,
            prompt_tokens,
            fed: 0,
            limit: request.sampling.max_tokens.min(context_length.saturating_sub(prompt_tokens)),
            sampler: Sampler::new(&request.sampling),
            detokenizer: Detokenizer::new(tokenizer),
            stops: StopStrings::new(&request.sampling.stop),
            token_ids: request.prompt,
            last_token: None,
        }
    }

    /// Whether the model has not yet seen the whole prompt.
    pub(super) fn is_reading(&self) -> bool {
        self.fed < self.prompt_tokens
    }

    /// The tokens that the model sees next. Prompts are cut at multiples of `chunk`, wherever the sequence's neighbours
    /// stand, so that rounding in the model cannot depend on them.
    pub(super) fn pending(&self, chunk: usize) -> &[u32] {
        let end =
            if self.is_reading() { self.prompt_tokens.min(self.fed + chunk) } else { self.token_ids.len() };
        &self.token_ids[self.fed..end]
    }

    /// Notes that the model has seen the pending tokens and returns whether it is the answer's turn.
    pub(super) fn feed(&mut self, chunk: usize) -> bool {
        self.fed += self.pending(chunk).len();
        !self.is_reading()
    }

    /// Chooses the next token, or none where no logit is a number.
    pub(super) fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        self.sampler.sample(logits)
    }

    /// Adds a token to the answer, shows its text, and returns why the answer ends, if it does.
    ///
    /// # Errors
    /// Fails when the tokenizer cannot decode the token.
    pub(super) fn accept(
        &mut self,
        token_id: u32,
        stop_tokens: &[u32],
        metrics: &Metrics,
    ) -> Result<Option<FinishReason>, Error> {
        self.note_token(token_id, metrics);
        if stop_tokens.contains(&token_id) {
            return self.flush(FinishReason::Stop).map(Some);
        }
        let text = self.detokenizer.push(token_id)?;
        if self.show(&text) {
            return Ok(Some(FinishReason::Stop));
        }
        if self.usage().completion_tokens >= self.limit {
            return self.flush(FinishReason::Length).map(Some);
        }
        Ok(None)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.token_ids.len() - self.prompt_tokens,
        }
    }

    fn note_token(&mut self, token_id: u32, metrics: &Metrics) {
        let now = Instant::now();
        match self.last_token.replace(now) {
            None => metrics.first_token(self.prompt_tokens, now - self.arrived),
            Some(before) => metrics.next_token(now - before),
        }
        self.token_ids.push(token_id);
    }

    /// Shows text up to a stop string and returns whether there was one.
    fn show(&mut self, text: &str) -> bool {
        let passed = self.stops.push(text);
        self.send(passed.text);
        passed.stopped
    }

    /// Shows what was held back. Only a broken character can complete a stop string here.
    fn flush(&mut self, reason: FinishReason) -> Result<FinishReason, Error> {
        let rest = self.detokenizer.finish()?;
        if self.show(&rest) {
            return Ok(FinishReason::Stop);
        }
        let held = self.stops.finish();
        self.send(held);
        Ok(reason)
    }

    fn send(&self, text: String) {
        if !text.is_empty() {
            self.sink.send(Event::Delta { text });
        }
    }
}
