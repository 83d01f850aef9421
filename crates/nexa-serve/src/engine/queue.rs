//! The door between callers and the engine's thread.
//!
//! Callers push under one lock and the thread takes under the same lock, so that "how many are in flight" and "is it
//! shutting down" never disagree. The lock is held for moves of a few pointers only, never during a model's step.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nexa_core::lm::{self, Adapter, Sampling, TokenScore};
use tokio::sync::watch;

use super::answer::Sink;
use super::form::Form;
use super::metrics::{Finished, Metrics, Times};
use super::tools::CallMarks;
use super::{EngineConfig, Event, Usage};
use crate::Error;

/// Where an engine stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first step, which may compile kernels, has not ended. Requests wait.
    Loading,
    /// Requests are answered.
    Ready,
    /// What was accepted is finished; nothing new is taken.
    Draining,
    /// The thread has ended.
    Stopped,
}

/// A prompt to be answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) prompt: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) form: Option<Form>,
    pub(super) adapter: Option<Adapter>,
    /// Special tokens that its answer shows.
    pub(super) marks: Arc<CallMarks>,
    pub(super) sink: Sink<Event>,
    pub(super) arrived: Instant,
}

/// A token sequence to be scored.
#[derive(Debug)]
pub(super) struct ScoreJob {
    pub(super) token_ids: Vec<u32>,
    /// How many of its last tokens.
    pub(super) wanted: usize,
    pub(super) sink: Sink<Result<Vec<TokenScore>, lm::Error>>,
}

/// A token sequence of which the hidden state is wanted.
#[derive(Debug)]
pub(super) struct EmbedJob {
    pub(super) token_ids: Vec<u32>,
    pub(super) sink: Sink<Result<Vec<f32>, lm::Error>>,
    pub(super) arrived: Instant,
}

/// What the thread does next.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Requests that join the batch.
    pub(super) admitted: VecDeque<Request>,
    /// Sequences to be scored.
    pub(super) scoring: Vec<ScoreJob>,
    /// A sequence to be embedded.
    pub(super) embedding: Option<EmbedJob>,
}

/// What the thread has taken, in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// What is worked on.
    pub(super) running: usize,
    /// What waits for memory.
    pub(super) waiting: usize,
    /// What is written: the part of both that are answers.
    pub(super) answers: usize,
    /// Whether a text is being embedded. The next one waits for its end.
    pub(super) embeds: bool,
}

/// Whether a caller is willing to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    Refuse,
    Wait,
}

/// Everything that callers and the thread share.
#[derive(Debug)]
pub(super) struct Queue {
    model: String,
    config: EngineConfig,
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    phase: watch::Sender<Phase>,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    scoring: VecDeque<ScoreJob>,
    embedding: VecDeque<EmbedJob>,
    held: Held,
    aborted: bool,
    /// Why the thread ended before its time.
    failure: Option<String>,
}

impl Queue {
    pub(super) fn new(model: &str, config: EngineConfig) -> Self {
        Self {
            model: model.to_owned(),
            config,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            phase: watch::Sender::new(Phase::Loading),
            metrics: Metrics::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until a condition on the phase holds.
    pub(super) async fn wait_for(&self, condition: impl FnMut(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        phase.wait_for(condition).await.map_or(Phase::Stopped, |phase| *phase)
    }

    /// Requests that are worked on, and those that wait, in the queue or for memory.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.held.running, state.held.waiting + state.waiting.len() + state.embedding.len())
    }

    /// Refuses at once what [`Queue::push`] would refuse after the work of tokenising.
    pub(super) fn admits(&self) -> Result<(), Error> {
        let state = self.lock();
        self.check_open(&state)?;
        self.check_room(&state, 0)
    }

    /// Adds a request, unless the engine is full or shutting down.
    pub(super) fn push(&self, request: Request, when_full: WhenFull) -> Result<(), Error> {
        let mut state = self.lock();
        loop {
            self.check_open(&state)?;
            match self.check_room(&state, request.prompt.len()) {
                Ok(()) => break,
                Err(full) if when_full == WhenFull::Refuse => return Err(full),
                Err(_) => state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        state.waiting.push_back(request);
        self.work.notify_one();
        Ok(())
    }

    /// Adds sequences to be scored. They are bounded by what the caller holds in memory anyway.
    pub(super) fn push_scoring(&self, jobs: Vec<ScoreJob>) -> Result<(), Error> {
        let mut state = self.lock();
        self.check_open(&state)?;
        state.scoring.extend(jobs);
        self.work.notify_one();
        Ok(())
    }

    /// Adds sequences to be embedded, unless as many tokens wait as may.
    pub(super) fn push_embedding(&self, jobs: Vec<EmbedJob>) -> Result<(), Error> {
        let mut state = self.lock();
        self.check_open(&state)?;
        self.check_room(&state, jobs.iter().map(|job| job.token_ids.len()).sum())?;
        state.embedding.extend(jobs);
        self.work.notify_one();
        Ok(())
    }

    /// Takes the next work, waiting for it while the thread holds none; none when the thread should end. Beside other work, so
    /// many tokens are scored at a time.
    pub(super) fn next_work(&self, held: Held, score_tokens: usize) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.aborted {
                return None;
            }
            self.drop_abandoned(&mut state);
            let has_jobs = !state.scoring.is_empty() || !state.embedding.is_empty();
            if held.running + held.waiting > 0 || !state.waiting.is_empty() || has_jobs {
                break;
            }
            if self.phase() == Phase::Draining {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let free = self.config.max_batch.saturating_sub(held.answers).min(state.waiting.len());
        let admitted: VecDeque<Request> = state.waiting.drain(..free).collect();
        let embedding = if held.embeds { None } else { state.embedding.pop_front() };
        // They wait until the thread says that it has room for them.
        state.held.waiting += admitted.len() + usize::from(embedding.is_some());
        state.held.answers += admitted.len();
        let is_busy = held.running + held.waiting > 0 || !admitted.is_empty() || embedding.is_some();
        let tokens =
            if is_busy { score_tokens.min(self.config.score_tokens) } else { self.config.score_tokens };
        let scoring = take_scoring(&mut state.scoring, tokens);
        Some(Work { admitted, scoring, embedding })
    }

    /// Notes what the thread holds now.
    pub(super) fn holds(&self, held: Held) {
        let mut state = self.lock();
        state.held = held;
        self.room.notify_all();
    }

    /// Notes that the model is warm.
    pub(super) fn warmed_up(&self) {
        let _state = self.lock();
        self.phase.send_if_modified(|phase| {
            let loading = *phase == Phase::Loading;
            if loading {
                *phase = Phase::Ready;
            }
            loading
        });
    }

    /// Takes nothing new from now on; the thread ends when all is done.
    pub(super) fn drain(&self) {
        let _state = self.lock();
        self.phase.send_if_modified(|phase| {
            let open = matches!(phase, Phase::Loading | Phase::Ready);
            if open {
                *phase = Phase::Draining;
            }
            open
        });
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Ends the thread after its current step; what is unfinished fails.
    pub(super) fn abort(&self) {
        self.drain();
        self.lock().aborted = true;
        self.work.notify_all();
    }

    /// The thread's last act: closes the door and fails what still waits.
    pub(super) fn stop(&self, failure: Option<String>) {
        let (waiting, scoring, embedding) = {
            let mut state = self.lock();
            state.failure = failure;
            state.held = Held::default();
            self.phase.send_replace(Phase::Stopped);
            self.room.notify_all();
            let State { waiting, scoring, embedding, .. } = &mut *state;
            (std::mem::take(waiting), std::mem::take(scoring), std::mem::take(embedding))
        };
        for request in waiting {
            self.metrics.finished(Finished::Abort, Usage::default(), Times::new(request.arrived));
            request.sink.send(Event::Failed { error: self.why_stopped() });
        }
        for job in scoring {
            job.sink.send(Err(self.why_stopped()));
        }
        for job in embedding {
            self.metrics.finished(Finished::Abort, Usage::default(), Times::new(job.arrived));
            job.sink.send(Err(self.why_stopped()));
        }
    }

    /// What a caller is told whose request was not finished.
    pub(super) fn why_stopped(&self) -> lm::Error {
        match self.failure() {
            Some(message) => lm::Error::Failed { model: self.model.clone(), message },
            None => lm::Error::Interrupted,
        }
    }

    /// What a caller is told who comes after the end.
    pub(super) fn stopped_error(&self) -> Error {
        self.stopped_by(&self.lock())
    }

    /// Why the thread ended before its time, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn check_open(&self, state: &State) -> Result<(), Error> {
        match self.phase() {
            Phase::Loading | Phase::Ready => Ok(()),
            Phase::Draining => Err(Error::Draining),
            Phase::Stopped => Err(self.stopped_by(state)),
        }
    }

    fn stopped_by(&self, state: &State) -> Error {
        let reason = state.failure.clone().unwrap_or_else(|| "it was shut down".to_owned());
        Error::Stopped { model: self.model.clone(), reason }
    }

    /// Refuses a request with so many tokens where too many requests or tokens wait. Where none waits, any may.
    fn check_room(&self, state: &State, tokens: usize) -> Result<(), Error> {
        let in_flight = state.held.answers + state.waiting.len();
        if in_flight >= self.config.max_batch.saturating_add(self.config.max_queued) {
            return Err(Error::QueueFull { in_flight });
        }
        let prompts = state.waiting.iter().map(|request| request.prompt.len());
        let waiting = prompts.chain(state.embedding.iter().map(|job| job.token_ids.len())).sum::<usize>();
        if waiting > 0 && waiting + tokens > self.config.max_queued_tokens {
            return Err(Error::QueueTokensFull { waiting, tokens });
        }
        Ok(())
    }

    fn drop_abandoned(&self, state: &mut State) {
        let waiting = |state: &State| state.waiting.len() + state.embedding.len();
        let before = waiting(state);
        let stays = |is_closed: bool, arrived| {
            if is_closed {
                self.metrics.finished(Finished::Abort, Usage::default(), Times::new(arrived));
            }
            !is_closed
        };
        state.waiting.retain(|request| stays(request.sink.is_closed(), request.arrived));
        state.scoring.retain(|job| !job.sink.is_closed());
        state.embedding.retain(|job| stays(job.sink.is_closed(), job.arrived));
        if waiting(state) < before {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes jobs until their tokens reach the limit, at least one. What a job begins with as the one before it is no work.
fn take_scoring(jobs: &mut VecDeque<ScoreJob>, limit: usize) -> Vec<ScoreJob> {
    let mut taken: Vec<ScoreJob> = Vec::new();
    let mut tokens = 0;
    while let Some(job) = jobs.front() {
        let common = taken.last().map_or(0, |before| {
            before.token_ids.iter().zip(&job.token_ids).take_while(|(a, b)| a == b).count()
        });
        tokens += job.token_ids.len() - common;
        if !taken.is_empty() && tokens > limit {
            break;
        }
        taken.extend(jobs.pop_front());
    }
    taken
}
