//! Makes the calls: as many at once as the provider bears, retries between new ones, until all are answered or
//! something stops it.
//!
//! One task waits for whatever comes first: a call that ends, the moment at which the next may be sent, or the user's
//! wish to stop. Nothing is looked at in intervals. Calls are made on another thread, and answers become durable on a
//! third, so that the next call leaves as soon as one has ended.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nexa_core::event::Event;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::breaker::{Breaker, Effect, Gate};
use super::collection::{Collection, Ended};
use super::limits::{Limits, Ready, Ticket};
use super::retry;
use crate::client::{Answer, Billed, Client, Failure, Reply, Unanswered};
use crate::{Error, Result};

/// How long calls under way are waited for once the user wants to stop: they are being paid for.
const GRACE: Duration = Duration::from_secs(10);
/// A pause that a person should know of.
const WORTH_A_LINE: Duration = Duration::from_secs(10);

/// A collection that is being fetched call by call.
pub(super) struct Driver<'a, 'c> {
    collection: &'c mut Collection<'a>,
    client: Arc<Client>,
    limits: Limits,
    /// Jobs that were not tried yet.
    fresh: VecDeque<usize>,
    /// Jobs that are to be tried again, by when.
    again: BinaryHeap<Reverse<(Instant, usize)>>,
    attempts: Vec<u32>,
    tickets: HashMap<u64, Ticket>,
    breaker: Breaker,
    /// Answers on their way to the disk.
    saving: Option<JoinHandle<nexa_core::Result<()>>>,
    /// Why no further call is sent.
    stop: Option<Error>,
}

/// What can be done next.
enum Next {
    /// This job is sent, as the call of this number.
    Send(usize, u64),
    /// Nothing before this moment, where it is known.
    Wait(Option<Instant>),
}

impl<'a, 'c> Driver<'a, 'c> {
    /// Begins with the jobs of a collection that have not ended.
    pub(super) fn new(collection: &'c mut Collection<'a>, client: Arc<Client>) -> Self {
        let cool_down = Duration::from_secs_f64(collection.work.config.cool_down_s);
        Self {
            limits: Limits::new(collection.work.config, Instant::now()),
            fresh: collection.open().into(),
            again: BinaryHeap::new(),
            attempts: vec![0; collection.jobs.len()],
            tickets: HashMap::new(),
            breaker: Breaker::new(cool_down),
            saving: None,
            stop: None,
            collection,
            client,
        }
    }

    /// Makes the calls.
    ///
    /// # Errors
    /// Fails when the user, a ceiling, the provider or a broken endpoint stops it; every answer is kept.
    pub(super) async fn run(mut self) -> Result<()> {
        let cancel = self.collection.work.context.services.cancel;
        let wish = Arc::new(Notify::new());
        let wake: Arc<dyn Fn() + Send + Sync> = {
            let wish = Arc::clone(&wish);
            Arc::new(move || wish.notify_one())
        };
        cancel.notify(&wake);
        let mut in_flight = JoinSet::new();
        let mut deadline = None;
        self.collection.tell();
        loop {
            if cancel.is_cancelled() && deadline.is_none() {
                self.stop = Some(nexa_core::Error::Interrupted.into());
                deadline = Some(Instant::now() + GRACE);
            }
            let next = self.send(&mut in_flight)?;
            self.save();
            let nothing_left = self.fresh.is_empty() && self.again.is_empty();
            if in_flight.is_empty() && (self.stop.is_some() || nothing_left) {
                break;
            }
            let alarm = deadline.or(next);
            tokio::select! {
                Some(ended) = in_flight.join_next() => {
                    let mut batch = vec![come_to(ended)];
                    while let Some(more) = in_flight.try_join_next() {
                        batch.push(come_to(more));
                    }
                    self.settle(batch)?;
                }
                saved = saved(&mut self.saving), if self.saving.is_some() => saved?,
                () = until(alarm) => {
                    if deadline.is_some() {
                        break;
                    }
                }
                () = wish.notified() => {}
            }
        }
        // What is cut off here may be answered, and billed, all the same.
        drop(in_flight);
        if self.saving.is_some() {
            saved(&mut self.saving).await?;
        }
        let abandoned = self.collection.purse.abandoned();
        self.collection.charge(&abandoned)?;
        self.stop.map_or(Ok(()), Err)
    }

    /// Sends every call that can be sent now, and returns when the next one can, where that is known.
    fn send(&mut self, in_flight: &mut JoinSet<(usize, u64, Reply)>) -> Result<Option<Instant>> {
        let mut calls = Vec::new();
        let next = loop {
            match self.next(in_flight.len() + calls.len())? {
                Next::Send(job, call) => calls.push((job, call)),
                Next::Wait(next) => break next,
            }
        };
        // Before a call leaves, it is on disk what it may cost.
        self.collection.purse.sync()?;
        for (job, call) in calls {
            let body = self.collection.jobs[job].request.body(self.client.endpoint()).to_string();
            let client = Arc::clone(&self.client);
            in_flight.spawn(async move { (job, call, client.complete(body).await) });
        }
        Ok(next)
    }

    /// Begins to make durable what has been answered; what comes meanwhile has its turn afterwards.
    fn save(&mut self) {
        if self.saving.is_none()
            && let Some(syncer) = self.collection.take_unsynced()
        {
            self.saving = Some(tokio::task::spawn_blocking(move || syncer.sync()));
        }
    }

    /// What can be done next. For a job that is sent, the worst case is set aside.
    fn next(&mut self, in_flight: usize) -> Result<Next> {
        let now = Instant::now();
        let due = self.again.peek().map(|Reverse(due)| *due);
        let is_due = due.is_some_and(|(when, _)| when <= now);
        let candidate = due.filter(|_| is_due).map(|(_, job)| job).or_else(|| self.fresh.front().copied());
        let Some(job) = candidate.filter(|_| self.stop.is_none()) else {
            let when = due.filter(|_| self.stop.is_none()).map(|(when, _)| when);
            return Ok(Next::Wait(when));
        };
        match self.breaker.gate(now) {
            Gate::Now => {}
            Gate::At(when) => return Ok(Next::Wait(Some(when))),
            Gate::AfterProbe => return Ok(Next::Wait(None)),
        }
        let request = &self.collection.jobs[job].request;
        let tokens = self.collection.estimate.tokens(request);
        match self.limits.ready(now, in_flight, tokens) {
            Ready::Now => {}
            Ready::At(when) => return Ok(Next::Wait(Some(when))),
            Ready::AfterAnother => return Ok(Next::Wait(None)),
        }
        let worst_case = self.collection.purse.worst_case(request);
        if !self.collection.purse.allows(worst_case) {
            // Calls under way may turn out cheaper than their worst case; only then is it certain.
            if in_flight == 0 {
                let (done, total) = (self.collection.done(), self.collection.jobs.len());
                self.stop = Some(self.collection.purse.exceeded(worst_case, done, total));
            }
            return Ok(Next::Wait(None));
        }
        if is_due {
            self.again.pop();
        } else {
            self.fresh.pop_front();
        }
        let call = self.collection.purse.promise(worst_case)?;
        self.breaker.sent(call);
        self.tickets.insert(call, self.limits.send(now, tokens));
        Ok(Next::Send(job, call))
    }

    /// Takes in calls that have ended, and decides when those that must be made again are.
    fn settle(&mut self, batch: Vec<(usize, u64, Reply)>) -> Result<()> {
        let now = Instant::now();
        let mut ended = Vec::with_capacity(batch.len());
        for (job, call, Reply { result, quota }) in batch {
            if let Some(ticket) = self.tickets.remove(&call) {
                self.take_in(now, (job, call), ticket, &result);
            }
            self.limits.learn(now, &quota);
            if let Err(unanswered) = &result {
                self.consider_stopping(now, call, &unanswered.failure);
            }
            ended.push(Ended { job, call, result });
        }
        for (job, failure) in self.collection.settle(ended)? {
            match failure {
                // The answer leads to another request, which is new work.
                None => self.fresh.push_front(job),
                Some(failure) => self.failed(now, job, failure),
            }
        }
        Ok(())
    }

    /// Puts the limits right by how a call ended.
    fn take_in(
        &mut self,
        now: Instant,
        (job, call): (usize, u64),
        ticket: Ticket,
        result: &Result<Answer, Unanswered>,
    ) {
        let used = match result {
            Ok(answer) => answer.usage.tokens(),
            Err(unanswered) => match &unanswered.billed {
                Billed::Nothing => Some(0),
                Billed::Stated(usage) => usage.tokens(),
                Billed::Unknown => None,
            },
        };
        self.limits.end(now, ticket, used.map(|tokens| tokens as f64));
        match result {
            Ok(_) => {
                self.answered(call);
                self.collection.latencies.note(ticket.age(now));
                self.limits.succeed();
            }
            Err(unanswered) => {
                if let Failure::RateLimited { retry_after, .. } = &unanswered.failure {
                    self.answered(call);
                    let wait = self.wait(job, &unanswered.failure).unwrap_or_default();
                    self.limits.overload(now, ticket, wait, retry_after.is_some());
                }
            }
        }
    }

    /// How long a job waits after a failure, where it is worth another attempt.
    fn wait(&self, job: usize, failure: &Failure) -> Option<Duration> {
        retry::delay(failure, self.collection.jobs[job].key.as_str(), self.attempts[job] + 1)
    }

    fn failed(&mut self, now: Instant, job: usize, failure: Failure) {
        let wait = self.wait(job, &failure);
        self.attempts[job] += 1;
        match wait {
            Some(wait) if self.attempts[job] <= self.collection.work.config.max_retries => {
                if matches!(failure, Failure::RateLimited { .. }) && wait >= WORTH_A_LINE {
                    let told =
                        format!("{} asks to wait {} s", self.client.endpoint().base_url, wait.as_secs());
                    self.collection.work.context.emit(Event::info(told));
                }
                self.again.push(Reverse((now + wait, job)));
                self.collection.retries += 1;
            }
            _ => self.collection.give_up(job, failure),
        }
    }

    /// Notes that the endpoint answers.
    fn answered(&mut self, call: u64) {
        if self.breaker.answered(call) {
            let told = format!("{} answers again", self.client.endpoint().base_url);
            self.collection.work.context.emit(Event::info(told));
        }
    }

    /// Sends nothing more, or nothing for a while, where a failure says that it would be in vain.
    fn consider_stopping(&mut self, now: Instant, call: u64, failure: &Failure) {
        if let Some(error) = self.reason_to_stop(now, call, failure) {
            self.stop.get_or_insert(error);
        }
    }

    fn reason_to_stop(&mut self, now: Instant, call: u64, failure: &Failure) -> Option<Error> {
        let endpoint = self.client.endpoint().base_url.clone();
        let teacher = self.collection.work.teacher.to_string();
        let message = failure.message().to_owned();
        match failure {
            Failure::Auth(_) => {
                let variable = self.client.endpoint().provider.key_variable();
                Some(Error::KeyRefused { teacher, endpoint, message, variable })
            }
            Failure::NoCredit(_) => Some(Error::NoCredit { teacher, endpoint, message }),
            Failure::NotFound(_) => Some(Error::UnknownModel { teacher, endpoint, message }),
            Failure::Server(_)
            | Failure::Connection(_)
            | Failure::Timeout(_)
            | Failure::Malformed(_)
            | Failure::BadRequest(_) => match self.breaker.failed(call, now, !failure.is_for_good()) {
                Effect::None => None,
                Effect::Paused { failed, attempts } => {
                    let seconds = self.collection.work.config.cool_down_s;
                    self.collection.work.context.emit(Event::warning(format!(
                        "{failed} of the last {attempts} calls to {endpoint} failed ({message}); in {seconds} s one call \
                         decides whether to go on"
                    )));
                    None
                }
                Effect::Stopped { failed, attempts } => {
                    Some(Error::EndpointDown { endpoint, failed, attempts, message })
                }
            },
            Failure::RateLimited { .. } => None,
        }
    }
}

/// What a call came to. That none is stopped while it is waited for, but all with the set, leaves panics alone to pass on.
fn come_to(ended: Result<(usize, u64, Reply), JoinError>) -> (usize, u64, Reply) {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Waits for answers on their way to the disk; there must be some.
async fn saved(saving: &mut Option<JoinHandle<nexa_core::Result<()>>>) -> Result<()> {
    let Some(under_way) = saving else { return Ok(()) };
    let result = under_way.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    *saving = None;
    Ok(result?)
}

/// Waits until a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
