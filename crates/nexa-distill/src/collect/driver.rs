//! Makes the calls: as many at once as may be, retries between new ones, until all are answered or something stops it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nexa_core::event::Event;
use nexa_core::stage::Context;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::job::Jobs;
use super::log::ResponseLog;
use super::money::Purse;
use super::{Config, retry};
use crate::client::{Answer, Client, Failure};
use crate::teacher::TeacherSpec;
use crate::{Error, Result};

/// How often it is looked whether the user wants to stop, or a retry is due.
const TICK: Duration = Duration::from_millis(25);
/// How long calls under way are waited for once the user wants to stop: they are being paid for.
const GRACE: Duration = Duration::from_secs(10);
/// A pause that a person should know of.
const WORTH_A_LINE: Duration = Duration::from_secs(10);

/// What became of each job.
#[derive(Debug)]
pub(super) struct Results {
    answers: BTreeMap<usize, Answer>,
    failures: BTreeMap<usize, Failure>,
    /// Jobs whose answer was there before this attempt.
    pub(super) reused: usize,
    /// Calls that were made again.
    pub(super) retries: u64,
}

impl Results {
    /// The answer to a job, or why there is none.
    pub(super) fn of(&self, job: usize) -> Result<&Answer, Failure> {
        match (self.answers.get(&job), self.failures.get(&job)) {
            (Some(answer), _) => Ok(answer),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err(Failure::Connection("was never sent".to_owned())),
        }
    }
}

/// A call that has ended.
struct Ended {
    job: usize,
    worst_case_usd: f64,
    result: Result<Answer, Failure>,
}

/// The state of a collection.
pub(super) struct Driver<'a> {
    context: &'a Context<'a>,
    config: &'a Config,
    teacher: &'a TeacherSpec,
    jobs: &'a Jobs,
    log: ResponseLog,
    purse: Purse,
    results: Results,
    /// Jobs that were not tried yet.
    fresh: VecDeque<usize>,
    /// Jobs that are to be tried again, by when.
    again: BinaryHeap<Reverse<(Instant, usize)>>,
    attempts: Vec<u32>,
    /// While the provider wants fewer calls, none is sent.
    paused_until: Instant,
    breaker: Breaker,
    /// Why no further call is sent.
    stop: Option<Error>,
}

impl<'a> Driver<'a> {
    /// Begins a collection with the answers that are there.
    pub(super) fn new(
        context: &'a Context<'a>,
        config: &'a Config,
        teacher: &'a TeacherSpec,
        jobs: &'a Jobs,
        log: ResponseLog,
        purse: Purse,
    ) -> Result<Self> {
        let mut answers = BTreeMap::new();
        let mut fresh = VecDeque::new();
        for (position, job) in jobs.all().iter().enumerate() {
            match log.get(&job.key) {
                Some(answer) => {
                    answers.insert(position, answer.clone());
                }
                None => fresh.push_back(position),
            }
        }
        let reused = answers.len();
        if reused > 0 {
            let total = jobs.all().len();
            context
                .emit(Event::info(format!("{reused} of {total} answers are there already and cost nothing")));
        }
        Ok(Self {
            context,
            config,
            teacher,
            jobs,
            log,
            purse,
            results: Results { answers, failures: BTreeMap::new(), reused, retries: 0 },
            fresh,
            again: BinaryHeap::new(),
            attempts: vec![0; jobs.all().len()],
            paused_until: Instant::now(),
            breaker: Breaker::default(),
            stop: None,
        })
    }

    /// Makes the calls.
    ///
    /// # Errors
    /// Fails when the user, the ceiling, the provider or a broken endpoint stops it; every answer is kept.
    pub(super) fn run(self, client: &Client) -> Result<Results> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::Start { what: "the HTTP client", message: e.to_string() })?;
        runtime.block_on(self.drive(client))
    }

    async fn drive(mut self, client: &Client) -> Result<Results> {
        let jobs = self.jobs;
        let mut in_flight = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        let mut deadline = None;
        self.tell();
        loop {
            if self.context.services.cancel.is_cancelled() && deadline.is_none() {
                self.stop = Some(nexa_core::Error::Interrupted.into());
                deadline = Some(Instant::now() + GRACE);
            }
            while in_flight.len() < self.config.max_concurrent_requests
                && let Some((job, worst_case_usd)) = self.next(in_flight.is_empty())
            {
                let request = &jobs.all()[job].request;
                in_flight.push(async move {
                    Ended { job, worst_case_usd, result: client.complete(request).await }
                });
            }
            let nothing_left = self.fresh.is_empty() && self.again.is_empty();
            if in_flight.is_empty() && (self.stop.is_some() || nothing_left) {
                break;
            }
            tokio::select! {
                Some(ended) = in_flight.next(), if !in_flight.is_empty() => {
                    // Whatever else has ended is kept with it, in one write.
                    let mut batch = vec![ended];
                    while let Some(Some(more)) = in_flight.next().now_or_never() {
                        batch.push(more);
                    }
                    self.settle(batch, client)?;
                }
                _ = tick.tick() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        break;
                    }
                }
            }
        }
        match self.stop {
            Some(error) => Err(error),
            None => Ok(self.results),
        }
    }

    /// The next job that may be sent now, with its worst case set aside.
    fn next(&mut self, nothing_in_flight: bool) -> Option<(usize, f64)> {
        let now = Instant::now();
        if self.stop.is_some() || now < self.paused_until {
            return None;
        }
        let due = self.again.peek().filter(|Reverse((when, _))| *when <= now).map(|Reverse((_, job))| *job);
        let job = due.or_else(|| self.fresh.front().copied())?;
        let worst_case_usd = self.purse.worst_case(&self.jobs.all()[job].request);
        if !self.purse.allows(worst_case_usd) {
            // Calls under way may turn out cheaper than their worst case; only then is it certain.
            if nothing_in_flight {
                let (done, total) = (self.results.answers.len(), self.jobs.all().len());
                self.stop = Some(self.purse.exceeded(worst_case_usd, done, total));
            }
            return None;
        }
        if due.is_some() {
            self.again.pop();
        } else {
            self.fresh.pop_front();
        }
        self.purse.promise(worst_case_usd);
        Some((job, worst_case_usd))
    }

    /// Keeps the answers of a batch and decides about its failures.
    fn settle(&mut self, batch: Vec<Ended>, client: &Client) -> Result<()> {
        let mut answered = Vec::new();
        for Ended { job, worst_case_usd, result } in batch {
            self.purse.release(worst_case_usd);
            match result {
                Ok(answer) => {
                    self.breaker.note(false);
                    answered.push((job, worst_case_usd, answer));
                }
                Err(failure) => self.failed(job, failure, client),
            }
        }
        if answered.is_empty() {
            return Ok(());
        }
        // The charge is written first: a crash in between may lose an answer, never the fact that it was paid.
        for entry in self.purse.charge(answered.iter().map(|(_, worst, answer)| (answer, *worst))) {
            self.context.spend(&entry)?;
        }
        let key = |job: usize| self.jobs.all()[job].key.clone();
        self.log.keep(answered.iter().map(|(job, _, answer)| (key(*job), answer.clone())).collect())?;
        self.results.answers.extend(answered.into_iter().map(|(job, _, answer)| (job, answer)));
        self.tell();
        Ok(())
    }

    fn failed(&mut self, job: usize, failure: Failure, client: &Client) {
        let endpoint = || client.endpoint().base_url.clone();
        let teacher = || self.teacher.to_string();
        let message = failure.message().to_owned();
        let stop = match &failure {
            Failure::Auth(_) => Some(Error::KeyRefused {
                teacher: teacher(),
                endpoint: endpoint(),
                message: message.clone(),
                variable: client.endpoint().provider.key_variable(),
            }),
            Failure::NoCredit(_) => {
                Some(Error::NoCredit { teacher: teacher(), endpoint: endpoint(), message: message.clone() })
            }
            Failure::NotFound(_) => Some(Error::UnknownModel {
                teacher: teacher(),
                endpoint: endpoint(),
                message: message.clone(),
            }),
            Failure::Server(_) | Failure::Connection(_) => {
                self.breaker.note(true);
                self.breaker.tripped().map(|(failed, attempts)| Error::EndpointDown {
                    endpoint: endpoint(),
                    failed,
                    attempts,
                    message: message.clone(),
                })
            }
            Failure::RateLimited { .. } | Failure::Malformed(_) | Failure::BadRequest(_) => None,
        };
        if self.stop.is_none() {
            self.stop = stop;
        }
        self.attempts[job] += 1;
        let attempt = self.attempts[job];
        match retry::delay(&failure, self.jobs.all()[job].key.as_str(), attempt) {
            Some(wait) if attempt <= self.config.max_retries => {
                let when = Instant::now() + wait;
                if matches!(failure, Failure::RateLimited { .. }) {
                    self.paused_until = self.paused_until.max(when);
                    if wait >= WORTH_A_LINE {
                        let seconds = wait.as_secs();
                        self.context.emit(Event::info(format!("{} asks to wait {seconds} s", endpoint())));
                    }
                }
                self.again.push(Reverse((when, job)));
                self.results.retries += 1;
            }
            _ => {
                self.results.failures.insert(job, failure);
            }
        }
    }

    fn tell(&self) {
        let (done, total) = (self.results.answers.len() as u64, self.jobs.all().len() as u64);
        let retries = match self.results.retries {
            0 => String::new(),
            1 => "1 retry, ".to_owned(),
            more => format!("{more} retries, "),
        };
        let note = format!("{retries}{}", self.purse.note());
        self.context.emit(Event::progress(done, Some(total), "answers", note));
    }
}
