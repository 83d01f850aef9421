//! One request in the batch: what it has fed, what it has written, and when it ends.

use std::sync::Arc;
use std::time::Instant;

use nexa_core::lm::{Adapter, Error, FinishReason, Opened, Sampling, SequenceId, Tokenizer};

use super::answer::Sink;
use super::detokenize::Detokenizer;
use super::form::Form;
use super::guess::guess;
use super::metrics::{Metrics, Times};
use super::queue::Request;
use super::sample::Sampler;
use super::stop::StopStrings;
use super::{Event, TokenLogprob, Usage};

/// Tokens that the form of an answer may put before the model in one step.
const MOST_FORCED: usize = 32;

/// A request that the model works on, or that waits for memory to go on.
pub(super) struct Sequence {
    /// The model's name for it, while it is open.
    pub(super) id: SequenceId,
    pub(super) sink: Sink<Event>,
    pub(super) times: Times,
    /// What corrects the model's weights for it.
    pub(super) adapter: Option<Adapter>,
    /// The prompt and then the tokens of the answer.
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    cached_tokens: usize,
    /// How many of `token_ids` the model has seen.
    fed: usize,
    /// How many the model sees before the next is chosen: the prompt, and after a wait for memory the answer so far.
    read_to: usize,
    /// Tokens that the model is about to see without anybody having chosen them yet.
    guesses: Vec<u32>,
    /// Whether the form of the answer demands them.
    is_forced: bool,
    /// Tokens that the answer may have.
    limit: usize,
    sampling: Sampling,
    sampler: Sampler,
    form: Option<Form>,
    detokenizer: Detokenizer,
    stops: StopStrings,
    /// Probabilities that wait for the text of their tokens.
    logprobs: Vec<TokenLogprob>,
    prompt_logprobs: Vec<TokenLogprob>,
}

impl Sequence {
    pub(super) fn new(request: Request, tokenizer: Arc<dyn Tokenizer>, context_length: usize) -> Self {
        let Request { prompt, sampling, form, adapter, marks, sink, arrived } = request;
        let prompt_tokens = prompt.len();
        Self {
            id: SequenceId(u64::MAX),
            sink,
            times: Times::new(arrived),
            adapter,
            prompt_tokens,
            cached_tokens: 0,
            fed: 0,
            read_to: prompt_tokens,
            guesses: Vec::new(),
            is_forced: false,
            limit: sampling.max_tokens.min(context_length.saturating_sub(prompt_tokens)),
            sampler: Sampler::new(&sampling, &prompt),
            detokenizer: Detokenizer::new(tokenizer, marks),
            stops: StopStrings::new(&sampling.stop),
            sampling,
            form,
            token_ids: prompt,
            logprobs: Vec::new(),
            prompt_logprobs: Vec::new(),
        }
    }

    /// What the model may have seen before. Who asks for the probabilities of a prompt needs all of it computed.
    pub(super) fn known_prompt(&self) -> &[u32] {
        if self.wants_prompt_logprobs() { &[] } else { &self.token_ids }
    }

    /// How many tokens another one's prompt begins with that this one's begins with too, under the same adapter.
    pub(super) fn common_beginning(&self, other: &Self) -> usize {
        let generation = |sequence: &Self| sequence.adapter.as_ref().map(|adapter| adapter.generation);
        if generation(self) != generation(other) {
            return 0;
        }
        let read = &self.token_ids[..self.read_to];
        read.iter().zip(other.known_prompt()).take_while(|(a, b)| a == b).count()
    }

    /// Begins, or begins again, with what the model still has of the tokens.
    pub(super) fn open(&mut self, opened: Opened) {
        if self.wants_prompt_logprobs() {
            self.prompt_logprobs.clear();
        }
        self.id = opened.sequence;
        self.fed = opened.cached_tokens;
        self.read_to = self.token_ids.len();
        if self.times.first_token.is_none() {
            self.cached_tokens = opened.cached_tokens;
        }
    }

    /// Whether the model has yet to see tokens before the next can be chosen.
    pub(super) fn is_reading(&self) -> bool {
        self.fed < self.read_to
    }

    /// The tokens that the model sees next: of what is being read, at most `chunk`.
    pub(super) fn pending(&self, chunk: usize) -> Vec<u32> {
        if self.is_reading() {
            return self.token_ids[self.fed..self.chunk_end(chunk)].to_vec();
        }
        self.token_ids[self.fed..].iter().chain(&self.guesses).copied().collect()
    }

    /// After how many of the pending tokens logits are wanted.
    pub(super) fn wanted(&self, chunk: usize) -> usize {
        if !self.is_reading() {
            return 1 + self.guesses.len();
        }
        if self.wants_prompt_logprobs() {
            self.chunk_len(chunk)
        } else {
            usize::from(self.chunk_end(chunk) == self.read_to)
        }
    }

    /// How many tokens the next chunk of what is being read has.
    pub(super) fn chunk_len(&self, chunk: usize) -> usize {
        self.chunk_end(chunk) - self.fed
    }

    fn chunk_end(&self, chunk: usize) -> usize {
        self.read_to.min(self.fed.saturating_add(chunk))
    }

    fn wants_prompt_logprobs(&self) -> bool {
        self.sampling.prompt_logprobs.is_some() && self.prompt_logprobs.len() + 1 < self.prompt_tokens
    }

    /// The form of the answer, where the next step may choose a token of it.
    pub(super) fn form_to_prepare(&mut self, chunk: usize) -> Option<&mut Form> {
        if self.wanted(chunk) == 0 { None } else { self.form.as_mut() }
    }

    /// Guesses tokens that the model checks along with the next step: those that the form of the answer demands, else at
    /// most `most` that followed the last ones before.
    pub(super) fn guess(&mut self, most: usize) {
        self.guesses.clear();
        self.is_forced = false;
        if !self.is_reading() {
            // The last token of an answer needs no guess after it.
            let room = self.limit.saturating_sub(self.answer_len() + 1);
            if let Some(form) = &mut self.form {
                let forced = form.forced();
                self.guesses.extend(forced.into_iter().take(room.min(MOST_FORCED)));
                self.is_forced = !self.guesses.is_empty();
            }
            if self.guesses.is_empty() {
                self.guesses.extend(guess(&self.token_ids, most.min(room)));
            }
        }
    }

    /// Forgets the guesses: there is no memory for them.
    pub(super) fn drop_guesses(&mut self) -> bool {
        let had_some = !self.guesses.is_empty();
        self.guesses.clear();
        had_some
    }

    /// Takes the logits after the pending tokens and goes on as far as they lead. Returns why the answer ends, if it does.
    ///
    /// # Errors
    /// Fails when no logit is a number, or the tokenizer cannot decode a token.
    pub(super) fn advance(
        &mut self,
        rows: &[&[f32]],
        chunk: usize,
        tokenizer: &dyn Tokenizer,
        metrics: &Metrics,
    ) -> Result<Option<FinishReason>, Error> {
        let mut rows = rows;
        if self.is_reading() {
            let end = self.chunk_end(chunk);
            if self.wants_prompt_logprobs() {
                self.rate_prompt(rows);
                rows = &rows[rows.len().saturating_sub(1)..];
            }
            self.fed = end;
            if self.is_reading() {
                return Ok(None);
            }
        } else {
            self.fed = self.token_ids.len();
        }
        let guesses = std::mem::take(&mut self.guesses);
        for (right, (row, guess)) in rows.iter().zip(guesses.iter().map(Some).chain([None])).enumerate() {
            let token_id = self.choose(row, tokenizer)?;
            let ending = self.accept(token_id, row, tokenizer, metrics)?;
            if ending.is_some() || guess != Some(&token_id) {
                if self.is_forced {
                    metrics.forced(right);
                } else {
                    metrics.guessed(guesses.len(), right);
                }
                return Ok(ending);
            }
            // The model has seen this token already.
            self.fed += 1;
        }
        Ok(None)
    }

    /// How many tokens the model may keep of those that it has seen.
    pub(super) fn seen(&self) -> usize {
        self.fed
    }

    fn choose(&mut self, logits: &[f32], tokenizer: &dyn Tokenizer) -> Result<u32, Error> {
        let none = || Error::Invalid("the logits hold no finite number".to_owned());
        if let Some(form) = &mut self.form {
            let mut logits = logits.to_vec();
            form.restrict(&mut logits)?;
            return self.sampler.sample(&logits).ok_or_else(none);
        }
        if self.answer_len() >= self.sampling.min_tokens && !self.sampling.ignore_eos {
            return self.sampler.sample(logits).ok_or_else(none);
        }
        let mut logits = logits.to_vec();
        for &stop in tokenizer.stop_tokens() {
            if let Some(logit) = logits.get_mut(stop as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        self.sampler.sample(&logits).ok_or_else(none)
    }

    /// Adds a token to the answer, shows its text, and returns why the answer ends, if it does.
    fn accept(
        &mut self,
        token_id: u32,
        logits: &[f32],
        tokenizer: &dyn Tokenizer,
        metrics: &Metrics,
    ) -> Result<Option<FinishReason>, Error> {
        self.note_token(token_id, metrics);
        if tokenizer.stop_tokens().contains(&token_id) {
            return self.flush(FinishReason::Stop).map(Some);
        }
        if let Some(form) = &mut self.form {
            form.accept(token_id)?;
        }
        if let Some(top) = self.sampling.logprobs {
            self.logprobs.push(TokenLogprob::new(logits, token_id, top));
        }
        let text = self.detokenizer.push(token_id)?;
        if self.show(&text) {
            self.send_logprobs();
            return Ok(Some(FinishReason::Stop));
        }
        if self.form.as_ref().is_some_and(Form::is_complete) {
            return self.flush(FinishReason::Stop).map(Some);
        }
        if self.answer_len() >= self.limit {
            return self.flush(FinishReason::Length).map(Some);
        }
        Ok(None)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.answer_len(),
            cached_tokens: self.cached_tokens,
        }
    }

    fn answer_len(&self) -> usize {
        self.token_ids.len() - self.prompt_tokens
    }

    /// Rates the tokens of the prompt that follow those which the model has just seen, and tells them when all are.
    fn rate_prompt(&mut self, rows: &[&[f32]]) {
        let top = self.sampling.prompt_logprobs.unwrap_or(0);
        let next = self.token_ids[self.fed + 1..self.prompt_tokens].iter();
        let rated = rows.iter().zip(next).map(|(row, &token_id)| TokenLogprob::new(row, token_id, top));
        self.prompt_logprobs.extend(rated);
        if self.prompt_logprobs.len() + 1 == self.prompt_tokens {
            self.sink.send(Event::Prompt { logprobs: self.prompt_logprobs.clone() });
        }
    }

    fn note_token(&mut self, token_id: u32, metrics: &Metrics) {
        let now = Instant::now();
        match self.times.last_token.replace(now) {
            None => {
                self.times.first_token = Some(now);
                metrics.first_token(self.usage(), now - self.times.arrived);
            }
            Some(before) => metrics.next_token(now - before),
        }
        self.token_ids.push(token_id);
        self.sampler.accept(token_id);
    }

    /// Shows text up to a stop string and returns whether there was one. As in vLLM, a stop string counts once a token after
    /// the least that was asked for ends it.
    fn show(&mut self, text: &str) -> bool {
        if self.answer_len() <= self.sampling.min_tokens {
            let passed = self.stops.pass(text);
            self.send(passed);
            return false;
        }
        let passed = self.stops.push(text);
        self.send(passed.text);
        passed.stopped
    }

    /// Shows what was held back. Only a broken character can complete a stop string here.
    fn flush(&mut self, reason: FinishReason) -> Result<FinishReason, Error> {
        let rest = self.detokenizer.finish()?;
        if self.show(&rest) {
            self.send_logprobs();
            return Ok(FinishReason::Stop);
        }
        let held = self.stops.finish();
        self.send(held);
        self.send_logprobs();
        Ok(reason)
    }

    fn send(&mut self, text: String) {
        if !text.is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            self.sink.send(Event::Delta { text, logprobs, usage: self.usage() });
        }
    }

    fn send_logprobs(&mut self) {
        if !self.logprobs.is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            self.sink.send(Event::Delta { text: String::new(), logprobs, usage: self.usage() });
        }
    }
}
