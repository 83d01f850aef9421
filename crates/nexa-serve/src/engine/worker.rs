//! The engine's thread: the only one that touches the model.
//!
//! Each turn of its loop admits waiting requests, scores a batch of sequences if some wait, reads a part of a text that is
//! embedded, and makes one step of the model over all live sequences: the last token of those that write, with guesses of
//! the next where there are some, and as many chunks of prompts as fit into the tokens that may be read, oldest first. No
//! part of a turn takes long, except scoring, which never cuts a sequence: `pace` counts the tokens of steps by their time.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use nexa_core::lm::{Error, Feed, FinishReason, LanguageModel, Scored, SequenceId, TokenScore, Tokenizer};

use super::embedding::Embedding;
use super::form::Form;
use super::metrics::{Finished, Times};
use super::pace::Pace;
use super::queue::{Held, Queue, ScoreJob, Work};
use super::sequence::Sequence;
use super::{EngineConfig, Event, Usage};

/// Runs until the queue says that it is over. Every caller gets its last event, also when the model panics.
pub(super) fn run(model: Box<dyn LanguageModel>, config: EngineConfig, queue: Arc<Queue>) {
    let mut worker = Worker {
        tokenizer: model.tokenizer(),
        model,
        pace: Pace::new(config.prefill_chunk),
        chunk: config.prefill_chunk,
        config,
        queue,
        work: Work::default(),
        live: Vec::new(),
        joining: VecDeque::new(),
        embedding: None,
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
    pace: Pace,
    /// Tokens of prompts in the step that is being made.
    chunk: usize,
    /// What was taken from the queue. It is kept here while the model works on it, so that a panic cannot lose it.
    work: Work,
    /// The batch, in the order of admission.
    live: Vec<Sequence>,
    /// Those that wait for memory, in the order in which they join the batch.
    joining: VecDeque<Sequence>,
    /// The text that is embedded now.
    embedding: Option<Embedding>,
}

impl Worker {
    fn work(&mut self) -> Result<(), Error> {
        self.warm_up()?;
        self.queue.warmed_up();
        while let Some(work) = self.queue.next_work(self.held(), self.pace.tokens()) {
            self.work = work;
            if let Some(job) = self.work.embedding.take() {
                self.embedding = Some(Embedding::new(job));
            }
            self.drop_abandoned();
            self.admit();
            self.score();
            self.embed();
            self.drop_abandoned();
            self.step();
        }
        Ok(())
    }

    /// What this thread has taken from the queue.
    fn held(&self) -> Held {
        let embedding = self.embedding.as_ref().map(Embedding::is_running);
        let answers = self.live.len() + self.joining.len() + self.work.admitted.len();
        Held {
            running: self.live.len() + usize::from(embedding == Some(true)),
            waiting: answers - self.live.len() + usize::from(embedding == Some(false)),
            answers,
            embeds: embedding.is_some(),
        }
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
            self.joining.push_back(Sequence::new(request, Arc::clone(&self.tokenizer), context_length));
        }
        let (mut held_back, mut too_large) = (VecDeque::new(), Vec::new());
        while let Some(mut sequence) = self.joining.pop_front() {
            if self.is_being_read(&sequence) {
                held_back.push_back(sequence);
                continue;
            }
            if self.embedding.as_ref().is_some_and(|text| text.waits_before(sequence.times.arrived)) {
                self.joining.push_front(sequence);
                break;
            }
            sequence.open(self.model.open_with(sequence.known_prompt(), sequence.adapter.as_ref()));
            if self.has_room(sequence.id, &sequence.pending(usize::MAX)) {
                sequence.times.scheduled(&self.queue.metrics);
                self.live.push(sequence);
                continue;
            }
            self.model.close(sequence.id);
            if self.holds_no_memory() {
                too_large.push(sequence);
                continue;
            }
            self.joining.push_front(sequence);
            break;
        }
        held_back.append(&mut self.joining);
        self.joining = held_back;
        self.queue.holds(self.held());
        for sequence in too_large {
            let error = self.cache_full();
            self.leave(sequence, Ending::Failed(error));
        }
    }

    /// Whether there is memory for what a sequence has yet to read, beside that for what the batch has, and the text that is
    /// embedded where it has begun: what was let in reads to its end.
    fn has_room(&self, sequence: SequenceId, token_ids: &[u32]) -> bool {
        let pending: Vec<_> = self.live.iter().map(|one| (one.id, one.pending(usize::MAX))).collect();
        let live = pending.iter().map(|(sequence, token_ids)| (*sequence, token_ids.as_slice()));
        let embedding = self.embedding.as_ref();
        let embedding = embedding.and_then(|text| Some((text.sequence?, text.pending(usize::MAX))));
        let feeds: Vec<Feed<'_>> = live
            .chain(embedding)
            .chain([(sequence, token_ids)])
            .map(|(sequence, token_ids)| Feed { sequence, token_ids, wanted: 0 })
            .collect();
        self.model.fits(&feeds)
    }

    /// Whether all memory of the model is there for whoever comes next.
    fn holds_no_memory(&self) -> bool {
        self.live.is_empty() && !self.embedding.as_ref().is_some_and(Embedding::is_running)
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
        if self.embedding.as_ref().is_some_and(|text| text.job.sink.is_closed()) {
            self.embedded(None);
        }
    }

    fn step(&mut self) {
        self.chunk = self.pace.tokens();
        let plan = self.plan();
        if plan.positions.is_empty() {
            return;
        }
        let tokens: usize = plan.pending.iter().map(Vec::len).sum();
        let started = Instant::now();
        let rows = self.rows(&plan);
        self.queue.metrics.fed(tokens);
        let mut endings = Vec::new();
        for (position, rows) in plan.positions.into_iter().zip(rows) {
            match rows.and_then(|rows| self.advance(position, &rows)) {
                Ok(None) => {}
                Ok(Some(reason)) => endings.push((position, Ending::Done(reason))),
                Err(error) => endings.push((position, Ending::Failed(error))),
            }
        }
        self.pace.learn(tokens, started.elapsed());
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
        let ending = sequence.advance(&rows, self.chunk, self.tokenizer.as_ref(), &self.queue.metrics);
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
            let youngest = self.live.last().map(|sequence| sequence.times.arrived);
            if self
                .embedding
                .as_ref()
                .is_some_and(|text| text.is_running() && Some(text.job.arrived) > youngest)
            {
                self.take_memory_of_embedding();
                continue;
            }
            let Some(youngest) = self.live.pop() else { return Plan::default() };
            self.model.close(youngest.id);
            if self.holds_no_memory() {
                let error = self.cache_full();
                self.leave(youngest, Ending::Failed(error));
                return Plan::default();
            }
            self.queue.metrics.preempted();
            self.joining.push_front(youngest);
            self.queue.holds(self.held());
        }
    }

    fn chosen(&self) -> Plan {
        let mut room = self.chunk;
        let mut fits = |sequence: &Sequence| {
            if !sequence.is_reading() {
                return true;
            }
            let chunk = sequence.chunk_len(self.chunk);
            // Once one chunk does not fit, later ones wait too: a short prompt never overtakes a long one.
            let fits = chunk <= room;
            room = if fits { room - chunk } else { 0 };
            fits
        };
        let positions: Vec<_> = (0..self.live.len()).filter(|&position| fits(&self.live[position])).collect();
        let pending = positions.iter().map(|&position| self.live[position].pending(self.chunk));
        Plan { pending: pending.collect(), positions }
    }

    fn feeds<'a>(&self, plan: &'a Plan) -> Vec<Feed<'a>> {
        let feed = |(&position, token_ids): (&usize, &'a Vec<u32>)| {
            let sequence = &self.live[position];
            Feed { sequence: sequence.id, token_ids, wanted: sequence.wanted(self.chunk) }
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
        let chunk = self.chunk;
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
        self.queue.holds(self.held());
        let (how, event) = match ending {
            Ending::Done(finish_reason) => {
                let usage = sequence.usage();
                (Finished::Reason(finish_reason), Some(Event::Done { finish_reason, usage }))
            }
            Ending::Failed(error) => (Finished::Error, Some(Event::Failed { error })),
            Ending::Abandoned => (Finished::Abort, None),
        };
        self.queue.metrics.finished(how, sequence.usage(), sequence.times);
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

    /// Reads a part of the text that is embedded, where there is memory for all of it.
    fn embed(&mut self) {
        let Some(open) = self.embedding.as_ref().map(|text| text.sequence) else { return };
        let Some(sequence) = open.or_else(|| self.begin_embedding()) else { return };
        let Some(text) = &mut self.embedding else { return };
        let token_ids = text.pending(self.pace.tokens());
        let (tokens, feed) = (token_ids.len(), Feed { sequence, token_ids, wanted: token_ids.len() });
        if !self.model.fits(&[feed]) {
            if self.live.is_empty() {
                let error = self.cache_full();
                self.embedded(Some(Err(error)));
            }
            return;
        }
        let started = Instant::now();
        let states = self.model.hidden_states(feed);
        self.pace.learn(tokens, started.elapsed());
        self.queue.metrics.fed(tokens);
        let read = states.and_then(|states| {
            text.add(tokens, &states).map_err(|message| failed(self.model.as_ref(), message))
        });
        match read {
            Ok(None) => self.queue.metrics.stepped(self.model.cache()),
            Ok(Some(mean)) => self.embedded(Some(Ok(mean))),
            Err(error) => self.embedded(Some(Err(error))),
        }
    }

    /// Opens the text that is embedded, unless it has to wait for memory.
    fn begin_embedding(&mut self) -> Option<SequenceId> {
        let text = self.embedding.as_ref()?;
        let sequence = self.model.open(&[]).sequence;
        let fits = self.has_room(sequence, text.pending(usize::MAX));
        self.embedding.as_mut()?.begin(fits.then_some(sequence), &self.queue.metrics);
        self.queue.holds(self.held());
        if fits {
            return Some(sequence);
        }
        self.model.close(sequence);
        if self.live.is_empty() {
            let error = self.cache_full();
            self.embedded(Some(Err(error)));
        }
        None
    }

    /// Gives the memory of the text that is embedded to answers that came before it.
    fn take_memory_of_embedding(&mut self) {
        if let Some(text) = &mut self.embedding {
            if let Some(sequence) = text.start_over() {
                self.model.close(sequence);
            }
            self.queue.metrics.preempted();
            self.queue.holds(self.held());
        }
    }

    /// Ends the text that is embedded, and tells its caller last; none where the caller has gone away.
    fn embedded(&mut self, result: Option<Result<Vec<f32>, Error>>) {
        let Some(mut text) = self.embedding.take() else { return };
        if let Some(sequence) = text.sequence {
            self.model.close(sequence);
        }
        self.queue.metrics.stepped(self.model.cache());
        self.queue.holds(self.held());
        let how = match &result {
            Some(Ok(_)) => {
                text.end();
                self.queue.metrics.embedded(text.usage());
                Finished::Reason(FinishReason::Stop)
            }
            Some(Err(_)) => Finished::Error,
            None => Finished::Abort,
        };
        self.queue.metrics.finished(how, text.usage(), text.times);
        if let Some(result) = result {
            text.job.sink.send(result);
        }
    }

    /// Tells everybody who still waits that nothing more will come.
    fn fail_all(&mut self) {
        let joining = self.work.admitted.drain(..).map(|request| (request.sink, request.arrived));
        let live = self.live.drain(..).chain(self.joining.drain(..));
        let live = live.map(|sequence| (sequence.sink, sequence.times.arrived));
        for (sink, arrived) in joining.chain(live) {
            self.queue.metrics.finished(Finished::Abort, Usage::default(), Times::new(arrived));
            sink.send(Event::Failed { error: self.queue.why_stopped() });
        }
        for job in self.work.scoring.drain(..) {
            job.sink.send(Err(self.queue.why_stopped()));
        }
        let embedding = self.embedding.take().map(|text| text.job).or_else(|| self.work.embedding.take());
        if let Some(job) = embedding {
            self.queue.metrics.finished(Finished::Abort, Usage::default(), Times::new(job.arrived));
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
