//! The engine's thread: the only one that touches the model.
//!
//! Each turn of its loop admits waiting requests, scores a batch of sequences if some wait, and makes one step of the
//! model over all live sequences: the last token of those that write, with guesses of the next where there are some, and
//! as many chunks of prompts as fit into `prefill_chunk` tokens, oldest first.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use nexa_core::lm::{Error, Feed, FinishReason, LanguageModel, Scored, TokenScore, Tokenizer};

use super::form::Form;
use super::metrics::Finished;
use super::queue::{Queue, ScoreJob, Work};
use super::sequence::Sequence;
use super::{EngineConfig, Event, Usage};

/// Runs until the queue says that it is over. Every caller gets its last event, also when the model panics.
pub(super) fn run(model: Box<dyn LanguageModel>, config: EngineConfig, queue: Arc<Queue>) {
    let mut worker = Worker {
        tokenizer: model.tokenizer(),
        model,
        config,
        queue,
        work: Work::default(),
        live: Vec::new(),
        joining: VecDeque::new(),
    };
    let failure = match catch_unwind(AssertUnwindSafe(|| worker.work())) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(format!("the model panicked: {}", panic_message(panic.as_ref()))),
    };
    if let Some(failure) = &failure {
        tracing::error!(failure, "the inference engine has stopped");
    }
    worker.queue.stop(failure);
    worker.fail_all();
}

/// How a sequence leaves the batch.
enum Ending {
    Done(FinishReason),
    Failed(Error),
    Abandoned,
}

struct Worker {
    model: Box<dyn LanguageModel>,
    tokenizer: Arc<dyn Tokenizer>,
    config: EngineConfig,
    queue: Arc<Queue>,
    /// What was taken from the queue. It is kept here while the model works on it, so that a panic cannot lose it.
    work: Work,
    /// The batch, in the order of admission.
    live: Vec<Sequence>,
    /// Those that wait for memory, in the order in which they join the batch.
    joining: VecDeque<Sequence>,
}

impl Worker {
    fn work(&mut self) -> Result<(), Error> {
        self.warm_up()?;
        self.queue.warmed_up();
        while let Some(work) = self.queue.next_work(self.live.len() + self.joining.len()) {
            self.work = work;
            self.admit();
            self.score();
            self.embed();
            self.drop_abandoned();
            self.step();
        }
        Ok(())
    }

    /// Makes one step before anybody waits for it: kernels are compiled and weights are paged in.
    fn warm_up(&mut self) -> Result<(), Error> {
        let first = [self.tokenizer.prefix_token()];
        let sequence = self.model.open(&first).sequence;
        let result = self.model.step(&[Feed::new(sequence, &first)]);
        self.model.close(sequence);
        result.map(drop)
    }

    /// Takes new requests, and opens as many sequences as there is memory for, those that waited longest first.
    fn admit(&mut self) {
        let context_length = self.model.info().context_length;
        while let Some(request) = self.work.admitted.pop_front() {
            self.queue.metrics.admitted(request.arrived.elapsed());
            self.joining.push_back(Sequence::new(request, Arc::clone(&self.tokenizer), context_length));
        }
        let mut held_back = VecDeque::new();
        while let Some(mut sequence) = self.joining.pop_front() {
            if self.is_being_read(&sequence) {
                held_back.push_back(sequence);
                continue;
            }
            sequence.open(self.model.open_with(sequence.known_prompt(), sequence.adapter.as_ref()));
            let token_ids = sequence.pending(usize::MAX);
            if self.model.fits(&[Feed { sequence: sequence.id, token_ids: &token_ids, wanted: 0 }]) {
                self.live.push(sequence);
                continue;
            }
            self.model.close(sequence.id);
            if self.live.is_empty() {
                let error = self.cache_full();
                self.leave(sequence, Ending::Failed(error));
                continue;
            }
            self.joining.push_front(sequence);
            break;
        }
        held_back.append(&mut self.joining);
        self.joining = held_back;
    }

    /// Whether the batch is about to read what a sequence begins with, so that it finds that later and need not read it
    /// too.
    fn is_being_read(&self, sequence: &Sequence) -> bool {
        let cache = self.model.cache();
        cache.finds_beginnings
            && self.live.iter().any(|other| {
                let common = other.common_beginning(sequence);
                other.is_reading() && common - common % cache.page_tokens.max(1) > other.seen()
            })
    }

    fn drop_abandoned(&mut self) {
        let closed = |sequence: &Sequence| sequence.sink.is_closed();
        let gone =
            self.live.iter().enumerate().filter(|(_, s)| closed(s)).map(|(at, _)| (at, Ending::Abandoned));
        self.retire(gone.collect());
        let (gone, kept) = self.joining.drain(..).partition(closed);
        self.joining = kept;
        let gone: VecDeque<Sequence> = gone;
        for sequence in gone {
            self.leave(sequence, Ending::Abandoned);
        }
    }

    fn step(&mut self) {
        let plan = self.plan();
        if plan.positions.is_empty() {
            return;
        }
        let rows = self.rows(&plan);
        let mut endings = Vec::new();
        for (position, rows) in plan.positions.into_iter().zip(rows) {
            match rows.and_then(|rows| self.advance(position, &rows)) {
                Ok(None) => {}
                Ok(Some(reason)) => endings.push((position, Ending::Done(reason))),
                Err(error) => endings.push((position, Ending::Failed(error))),
            }
        }
        if endings.is_empty() {
            self.queue.metrics.stepped(self.model.cache());
        }
        self.retire(endings);
    }

    /// Lets a sequence go on with the logits of a step, and takes back from the model what was guessed wrong.
    fn advance(&mut self, position: usize, rows: &Rows) -> Result<Option<FinishReason>, Error> {
        let sequence = &mut self.live[position];
        // Where no logits were wanted there are none, and no width.
        let width = rows.logits.len().checked_div(rows.count).unwrap_or(0).max(1);
        let rows: Vec<&[f32]> = rows.logits.chunks_exact(width).collect();
        let guessed = !sequence.is_reading() && rows.len() > 1;
        let ending =
            sequence.advance(&rows, self.config.prefill_chunk, self.tokenizer.as_ref(), &self.queue.metrics);
        if guessed {
            self.model.truncate(sequence.id, sequence.seen());
        }
        ending.map_err(|error| match error {
            Error::Invalid(message) => failed(self.model.as_ref(), message),
            other => other,
        })
    }

    /// Chooses the sequences of this step: all that write, and those that read whose chunks fit, in order. Where memory is
    /// short, guesses go first, then the youngest sequence waits.
    fn plan(&mut self) -> Plan {
        for sequence in &mut self.live {
            sequence.guess(self.config.guesses);
        }
        loop {
            let plan = self.chosen();
            if plan.positions.is_empty() || self.model.fits(&self.feeds(&plan)) {
                return plan;
            }
            if self.live.iter_mut().map(Sequence::drop_guesses).fold(false, |any, had| any | had) {
                continue;
            }
            let Some(youngest) = self.live.pop() else { return Plan::default() };
            self.model.close(youngest.id);
            if self.live.is_empty() {
                let error = self.cache_full();
                self.leave(youngest, Ending::Failed(error));
                return Plan::default();
            }
            self.queue.metrics.preempted();
            self.joining.push_front(youngest);
        }
    }

    fn chosen(&self) -> Plan {
        let mut room = self.config.prefill_chunk;
        let mut fits = |sequence: &Sequence| {
            if !sequence.is_reading() {
                return true;
            }
            let chunk = sequence.chunk_len(self.config.prefill_chunk);
            // Once one chunk does not fit, later ones wait too: a short prompt never overtakes a long one.
            let fits = chunk <= room;
            room = if fits { room - chunk } else { 0 };
            fits
        };
        let positions: Vec<_> = (0..self.live.len()).filter(|&position| fits(&self.live[position])).collect();
        let pending =
            positions.iter().map(|&position| self.live[position].pending(self.config.prefill_chunk));
        Plan { pending: pending.collect(), positions }
    }

    fn feeds<'a>(&self, plan: &'a Plan) -> Vec<Feed<'a>> {
        let feed = |(&position, token_ids): (&usize, &'a Vec<u32>)| {
            let sequence = &self.live[position];
            Feed { sequence: sequence.id, token_ids, wanted: sequence.wanted(self.config.prefill_chunk) }
        };
        plan.positions.iter().zip(&plan.pending).map(feed).collect()
    }

    fn cache_full(&self) -> Error {
        let cache = self.model.cache();
        Error::CacheFull { tokens: cache.pages * cache.page_tokens }
    }

    /// The logits of the planned sequences. When a step fails, no sequence has grown: each is tried alone, so that only
    /// those fail that the model cannot feed.
    fn rows(&mut self, plan: &Plan) -> Vec<Result<Rows, Error>> {
        let feeds = self.feeds(plan);
        match self.step_and_prepare(&plan.positions, &feeds) {
            Ok(rows) => complete(self.model.as_ref(), rows, &feeds),
            Err(error) if feeds.len() == 1 => vec![Err(error)],
            Err(_) => feeds
                .iter()
                .flat_map(|feed| match self.model.step(&[*feed]) {
                    Ok(rows) => complete(self.model.as_ref(), rows, &[*feed]),
                    Err(error) => vec![Err(error)],
                })
                .collect(),
        }
    }

    /// Makes a step, and meanwhile finds out which tokens the forms of answers allow after it.
    fn step_and_prepare(&mut self, positions: &[usize], feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, Error> {
        let chunk = self.config.prefill_chunk;
        let live = self
            .live
            .iter_mut()
            .enumerate()
            .filter(|(position, _)| positions.binary_search(position).is_ok());
        let forms: Vec<_> = live.filter_map(|(_, sequence)| sequence.form_to_prepare(chunk)).collect();
        if forms.is_empty() {
            return self.model.step(feeds);
        }
        let model = &mut self.model;
        thread::scope(|scope| {
            scope.spawn(|| forms.into_iter().for_each(Form::prepare));
            model.step(feeds)
        })
    }

    /// Takes sequences, given by ascending position, out of the batch, and tells their callers last: who has the answer
    /// also sees the gauges without it.
    fn retire(&mut self, endings: Vec<(usize, Ending)>) {
        if endings.is_empty() {
            return;
        }
        let mut gone = Vec::with_capacity(endings.len());
        for (position, ending) in endings.into_iter().rev() {
            let sequence = self.live.remove(position);
            self.model.close(sequence.id);
            gone.push((sequence, ending));
        }
        self.queue.metrics.stepped(self.model.cache());
        for (sequence, ending) in gone {
            self.leave(sequence, ending);
        }
    }

    /// Tells a caller that its sequence, which is closed, has left.
    fn leave(&self, sequence: Sequence, ending: Ending) {
        self.queue.left(1);
        let (how, event) = match ending {
            Ending::Done(finish_reason) => {
                let usage = sequence.usage();
                (Finished::Reason(finish_reason), Some(Event::Done { finish_reason, usage }))
            }
            Ending::Failed(error) => (Finished::Error, Some(Event::Failed { error })),
            Ending::Abandoned => (Finished::Abort, None),
        };
        self.queue.metrics.finished(how, sequence.usage(), sequence.arrived.elapsed());
        if let Some(event) = event {
            sequence.sink.send(event);
        }
    }

    fn score(&mut self) {
        let jobs = &self.work.scoring;
        if jobs.is_empty() {
            return;
        }
        fn scored(job: &ScoreJob) -> Scored<'_> {
            Scored { token_ids: &job.token_ids, wanted: job.wanted }
        }
        let sequences: Vec<Scored<'_>> = jobs.iter().map(scored).collect();
        match score(self.model.as_mut(), &sequences) {
            Ok(scores) => {
                for (job, scores) in jobs.iter().zip(scores) {
                    job.sink.send(Ok(scores));
                }
            }
            // As with steps: only the sequences at fault fail.
            Err(_) => {
                for job in jobs {
                    let alone = score(self.model.as_mut(), &[scored(job)]);
                    job.sink.send(alone.map(|mut scores| scores.swap_remove(0)));
                }
            }
        }
        self.work.scoring.clear();
    }

    fn embed(&mut self) {
        if let Some(job) = &self.work.embedding {
            job.sink.send(self.model.embed(&job.token_ids));
        }
        self.work.embedding = None;
    }

    /// Tells everybody who still waits that nothing more will come.
    fn fail_all(&mut self) {
        let joining = self.work.admitted.drain(..).map(|request| (request.sink, request.arrived));
        let live = self.live.drain(..).chain(self.joining.drain(..));
        let live = live.map(|sequence| (sequence.sink, sequence.arrived));
        for (sink, arrived) in joining.chain(live) {
            self.queue.metrics.finished(Finished::Abort, Usage::default(), arrived.elapsed());
            sink.send(Event::Failed { error: self.queue.why_stopped() });
        }
        for job in self.work.scoring.drain(..) {
            job.sink.send(Err(self.queue.why_stopped()));
        }
        if let Some(job) = self.work.embedding.take() {
            job.sink.send(Err(self.queue.why_stopped()));
        }
    }
}

/// The sequences of a step, by their places in the batch, and the tokens that each is fed.
#[derive(Default)]
struct Plan {
    positions: Vec<usize>,
    pending: Vec<Vec<u32>>,
}

/// The logits of one sequence after a step: so many rows, end to end.
struct Rows {
    logits: Vec<f32>,
    count: usize,
}

/// The rows of a step. Where their number is wrong, nobody knows whose they are, and all fail.
fn complete(model: &dyn LanguageModel, rows: Vec<Vec<f32>>, feeds: &[Feed<'_>]) -> Vec<Result<Rows, Error>> {
    if rows.len() == feeds.len() {
        let rows = rows.into_iter().zip(feeds);
        return rows.map(|(logits, feed)| Ok(Rows { logits, count: feed.wanted })).collect();
    }
    let message = format!("returned {} rows of logits, expected {}", rows.len(), feeds.len());
    feeds.iter().map(|_| Err(failed(model, message.clone()))).collect()
}

/// Scores, with their number checked.
fn score(model: &mut dyn LanguageModel, sequences: &[Scored<'_>]) -> Result<Vec<Vec<TokenScore>>, Error> {
    let scores = model.score(sequences)?;
    check_count(model, "lists of scores", scores.len(), sequences.len())?;
    for (scores, sequence) in scores.iter().zip(sequences) {
        check_count(model, "scores", scores.len(), sequence.wanted)?;
    }
    Ok(scores)
}

fn check_count(model: &dyn LanguageModel, what: &str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(failed(model, format!("returned {found} {what}, expected {expected}")))
}

fn failed(model: &dyn LanguageModel, message: String) -> Error {
    Error::Failed { model: model.info().name.clone(), message }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
