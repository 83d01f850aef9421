//! The engine's thread: the only one that touches the model.
//!
//! Each turn of its loop admits waiting requests, scores a batch of sequences if some wait, and makes one step of the
//! model over all live sequences: the last token of those that write, and as many chunks of prompts as fit into
//! `prefill_chunk` tokens, oldest first.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nexa_core::lm::{Error, Feed, FinishReason, LanguageModel, TokenScore, Tokenizer};

use super::metrics::Finished;
use super::queue::{Queue, Work};
use super::sequence::Sequence;
use super::{EngineConfig, Event};

/// Runs until the queue says that it is over. Every caller gets its last event, also when the model panics.
pub(super) fn run(model: Box<dyn LanguageModel>, config: EngineConfig, queue: Arc<Queue>) {
    let mut worker = Worker {
        tokenizer: model.tokenizer(),
        model,
        config,
        queue,
        work: Work::default(),
        live: Vec::new(),
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
}

impl Worker {
    fn work(&mut self) -> Result<(), Error> {
        self.warm_up()?;
        self.queue.warmed_up();
        while let Some(work) = self.queue.next_work(self.live.len()) {
            self.work = work;
            self.admit();
            self.score();
            self.drop_abandoned();
            self.step();
        }
        Ok(())
    }

    /// Makes one step before anybody waits for it: kernels are compiled and weights are paged in.
    fn warm_up(&mut self) -> Result<(), Error> {
        let sequence = self.model.open();
        let first = [self.tokenizer.prefix_token()];
        let result = self.model.step(&[Feed { sequence, token_ids: &first }]);
        self.model.close(sequence);
        result.map(drop)
    }

    fn admit(&mut self) {
        let context_length = self.model.info().context_length;
        while !self.work.admitted.is_empty() {
            let id = self.model.open();
            let Some(request) = self.work.admitted.pop_front() else { break };
            self.queue.metrics.admitted(request.arrived.elapsed());
            self.live.push(Sequence::new(id, request, Arc::clone(&self.tokenizer), context_length));
        }
    }

    fn drop_abandoned(&mut self) {
        let closed = |sequence: &Sequence| sequence.sink.is_closed();
        let gone =
            self.live.iter().enumerate().filter(|(_, s)| closed(s)).map(|(at, _)| (at, Ending::Abandoned));
        self.retire(gone.collect());
    }

    fn step(&mut self) {
        let planned = self.plan();
        if planned.is_empty() {
            return;
        }
        let rows = self.rows(&planned);
        let mut endings = Vec::new();
        for (position, row) in planned.into_iter().zip(rows) {
            match row.and_then(|logits| self.advance(position, &logits)) {
                Ok(None) => {}
                Ok(Some(reason)) => endings.push((position, Ending::Done(reason))),
                Err(error) => endings.push((position, Ending::Failed(error))),
            }
        }
        self.retire(endings);
    }

    /// Notes that the model has seen the pending tokens of a sequence, and chooses its next one if it is time.
    fn advance(&mut self, position: usize, logits: &[f32]) -> Result<Option<FinishReason>, Error> {
        let sequence = &mut self.live[position];
        if !sequence.feed(self.config.prefill_chunk) {
            return Ok(None);
        }
        let token_id = sequence
            .sample(logits)
            .ok_or_else(|| failed(self.model.as_ref(), "the logits hold no finite number".to_owned()))?;
        sequence.accept(token_id, self.tokenizer.stop_tokens(), &self.queue.metrics)
    }

    /// Chooses the sequences of this step: all that write, and those that read whose chunks fit, in order.
    fn plan(&self) -> Vec<usize> {
        let mut room = self.config.prefill_chunk;
        let mut fits = |sequence: &Sequence| {
            if !sequence.is_reading() {
                return true;
            }
            let chunk = sequence.pending(self.config.prefill_chunk).len();
            // Once one chunk does not fit, later ones wait too: a short prompt never overtakes a long one.
            let fits = chunk <= room;
            room = if fits { room - chunk } else { 0 };
            fits
        };
        (0..self.live.len()).filter(|&position| fits(&self.live[position])).collect()
    }

    /// The logits of the planned sequences. When a step fails, no sequence has grown: each is tried alone, so that only
    /// those fail that the model cannot feed.
    fn rows(&mut self, planned: &[usize]) -> Vec<Result<Vec<f32>, Error>> {
        let chunk = self.config.prefill_chunk;
        let feeds: Vec<Feed<'_>> = planned
            .iter()
            .map(|&position| &self.live[position])
            .map(|sequence| Feed { sequence: sequence.id, token_ids: sequence.pending(chunk) })
            .collect();
        match self.model.step(&feeds) {
            Ok(rows) => complete(self.model.as_ref(), rows, feeds.len()),
            Err(error) if feeds.len() == 1 => vec![Err(error)],
            Err(_) => feeds
                .iter()
                .flat_map(|feed| match self.model.step(&[*feed]) {
                    Ok(rows) => complete(self.model.as_ref(), rows, 1),
                    Err(error) => vec![Err(error)],
                })
                .collect(),
        }
    }

    /// Takes sequences, given by ascending position, out of the batch, and tells their callers last: who has the answer
    /// also sees the gauges without it.
    fn retire(&mut self, endings: Vec<(usize, Ending)>) {
        if endings.is_empty() {
            return;
        }
        self.queue.left(endings.len());
        for (position, ending) in endings.into_iter().rev() {
            let sequence = self.live.remove(position);
            self.model.close(sequence.id);
            let (how, event) = match ending {
                Ending::Done(finish_reason) => {
                    let usage = sequence.usage();
                    (Finished::Reason(finish_reason), Some(Event::Done { finish_reason, usage }))
                }
                Ending::Failed(error) => (Finished::Error, Some(Event::Failed { error })),
                Ending::Abandoned => (Finished::Abort, None),
            };
            self.queue.metrics.finished(how, sequence.arrived.elapsed());
            if let Some(event) = event {
                sequence.sink.send(event);
            }
        }
    }

    fn score(&mut self) {
        let jobs = &self.work.scoring;
        if jobs.is_empty() {
            return;
        }
        let sequences: Vec<&[u32]> = jobs.iter().map(|job| job.token_ids.as_slice()).collect();
        match score(self.model.as_mut(), &sequences) {
            Ok(scores) => {
                for (job, scores) in jobs.iter().zip(scores) {
                    job.sink.send(Ok(scores));
                }
            }
            // As with steps: only the sequences at fault fail.
            Err(_) => {
                for job in jobs {
                    let alone = score(self.model.as_mut(), &[&job.token_ids]);
                    job.sink.send(alone.map(|mut scores| scores.swap_remove(0)));
                }
            }
        }
        self.work.scoring.clear();
    }

    /// Tells everybody who still waits that nothing more will come.
    fn fail_all(&mut self) {
        let joining = self.work.admitted.drain(..).map(|request| (request.sink, request.arrived));
        let live = self.live.drain(..).map(|sequence| (sequence.sink, sequence.arrived));
        for (sink, arrived) in joining.chain(live) {
            self.queue.metrics.finished(Finished::Abort, arrived.elapsed());
            sink.send(Event::Failed { error: self.queue.why_stopped() });
        }
        for job in self.work.scoring.drain(..) {
            job.sink.send(Err(self.queue.why_stopped()));
        }
    }
}

/// The rows of a step. Where their number is wrong, nobody knows whose they are, and all fail.
fn complete(model: &dyn LanguageModel, rows: Vec<Vec<f32>>, feeds: usize) -> Vec<Result<Vec<f32>, Error>> {
    if rows.len() == feeds {
        return rows.into_iter().map(Ok).collect();
    }
    let message = format!("returned {} rows of logits, expected {feeds}", rows.len());
    (0..feeds).map(|_| Err(failed(model, message.clone()))).collect()
}

/// Scores, with their number checked.
fn score(model: &mut dyn LanguageModel, sequences: &[&[u32]]) -> Result<Vec<Vec<TokenScore>>, Error> {
    let scores = model.score(sequences)?;
    check_count(model, "lists of scores", scores.len(), sequences.len())?;
    for (scores, sequence) in scores.iter().zip(sequences) {
        check_count(model, "scores", scores.len(), sequence.len().saturating_sub(1))?;
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
