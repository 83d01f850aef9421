//! Makes the calls: as many at once as may be, retries between new ones, until all are answered or something stops it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nexa_core::event::Event;
use nexa_core::stage::Context;
use tokio::time::Instant;

use super::bill::Bill;
use super::breaker::Breaker;
use super::job::Jobs;
use super::log::{Paid, ResponseLog};
use super::money::Purse;
use super::{Config, retry};
use crate::client::{Answer, Billed, Client, Failure, Unanswered, Usage};
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

    /// Fails where a call is left that may be answered another time: what is made of these results would not be what
    /// the same work gives then.
    pub(super) fn require_settled(&self, teacher: &TeacherSpec) -> Result<()> {
        let mut passing = self.failures.values().filter(|failure| !failure.is_for_good());
        let Some(first) = passing.next() else { return Ok(()) };
        Err(Error::Unanswered {
            teacher: teacher.to_string(),
            missing: 1 + passing.count(),
            total: self.answers.len() + self.failures.len(),
            first: format!("{}: {}", first.kind(), first.message()),
        })
    }
}

/// What is to be collected, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) config: &'a Config,
    pub(super) teacher: &'a TeacherSpec,
    pub(super) jobs: &'a Jobs,
}

/// A call that has ended: its job, its number, and how.
struct Ended {
    job: usize,
    call: u64,
    result: Result<Answer, Unanswered>,
}

/// The state of a collection.
pub(super) struct Driver<'a> {
    work: Work<'a>,
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
    pub(super) fn new(work: Work<'a>, log: ResponseLog, purse: Purse) -> Self {
        let Work { context, jobs, .. } = work;
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
        Self {
            work,
            log,
            purse,
            results: Results { answers, failures: BTreeMap::new(), reused, retries: 0 },
            fresh,
            again: BinaryHeap::new(),
            attempts: vec![0; jobs.all().len()],
            paused_until: Instant::now(),
            breaker: Breaker::default(),
            stop: None,
        }
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
        let Work { context, config, jobs, .. } = self.work;
        let mut in_flight = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        let mut deadline = None;
        self.tell();
        loop {
            if context.services.cancel.is_cancelled() && deadline.is_none() {
                self.stop = Some(nexa_core::Error::Interrupted.into());
                deadline = Some(Instant::now() + GRACE);
            }
            while in_flight.len() < config.max_concurrent_requests
                && let Some((job, call)) = self.next(in_flight.is_empty())?
            {
                let request = &jobs.all()[job].request;
                in_flight.push(async move { Ended { job, call, result: client.complete(request).await } });
            }
            // A call is sent when it is first waited for, below. By then the promises of all new ones are durable.
            self.purse.sync()?;
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
        // What is cut off here may be answered, and billed, all the same.
        drop(in_flight);
        self.charge(&self.purse.abandoned())?;
        match self.stop {
            Some(error) => Err(error),
            None => Ok(self.results),
        }
    }

    /// The next job that may be sent now, and the number of its call, for which the worst case is set aside.
    fn next(&mut self, nothing_in_flight: bool) -> Result<Option<(usize, u64)>> {
        let now = Instant::now();
        if self.stop.is_some() || now < self.paused_until {
            return Ok(None);
        }
        let due = self.again.peek().filter(|Reverse((when, _))| *when <= now).map(|Reverse((_, job))| *job);
        let Some(job) = due.or_else(|| self.fresh.front().copied()) else { return Ok(None) };
        let jobs = self.work.jobs.all();
        let worst_case_usd = self.purse.worst_case(&jobs[job].request);
        if !self.purse.allows(worst_case_usd) {
            // Calls under way may turn out cheaper than their worst case; only then is it certain.
            if nothing_in_flight {
                self.stop = Some(self.purse.exceeded(worst_case_usd, self.results.answers.len(), jobs.len()));
            }
            return Ok(None);
        }
        if due.is_some() {
            self.again.pop();
        } else {
            self.fresh.pop_front();
        }
        Ok(Some((job, self.purse.promise(worst_case_usd)?)))
    }

    /// Keeps the answers of a batch, charges what it cost and decides about its failures.
    fn settle(&mut self, batch: Vec<Ended>, client: &Client) -> Result<()> {
        let mut answered = Vec::new();
        let mut bills = Vec::new();
        for Ended { job, call, result } in batch {
            match result {
                Ok(answer) => {
                    self.breaker.note(false);
                    let cost = self.purse.cost(call, &answer.usage);
                    bills.push(Bill { call, is_answered: true, usage: answer.usage, cost });
                    answered.push((job, Paid { answer, call, cost }));
                }
                Err(Unanswered { failure, billed }) => {
                    self.failed(job, failure, client);
                    let usage = match billed {
                        Billed::Nothing => {
                            self.purse.not_billed(call)?;
                            continue;
                        }
                        Billed::Stated(usage) => usage,
                        Billed::Unknown => Usage::default(),
                    };
                    let cost = self.purse.cost(call, &usage);
                    bills.push(Bill { call, is_answered: false, usage, cost });
                }
            }
        }
        // The answers come first, with what they cost: after a crash in between, the ledger is made up from them.
        let jobs = self.work.jobs.all();
        self.log.keep(answered.iter().map(|(job, paid)| (&jobs[*job].key, paid)))?;
        self.charge(&bills)?;
        if !answered.is_empty() {
            self.results.answers.extend(answered.into_iter().map(|(job, paid)| (job, paid.answer)));
            self.tell();
        }
        Ok(())
    }

    /// Enters bills into the ledger.
    fn charge(&mut self, bills: &[Bill]) -> Result<()> {
        for charge in self.purse.charge(bills) {
            self.work.context.charge(&charge)?;
        }
        Ok(())
    }

    fn failed(&mut self, job: usize, failure: Failure, client: &Client) {
        let endpoint = || client.endpoint().base_url.clone();
        let teacher = || self.work.teacher.to_string();
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
        match retry::delay(&failure, self.work.jobs.all()[job].key.as_str(), attempt) {
            Some(wait) if attempt <= self.work.config.max_retries => {
                let when = Instant::now() + wait;
                if matches!(failure, Failure::RateLimited { .. }) {
                    self.paused_until = self.paused_until.max(when);
                    if wait >= WORTH_A_LINE {
                        let seconds = wait.as_secs();
                        self.work
                            .context
                            .emit(Event::info(format!("{} asks to wait {seconds} s", endpoint())));
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
        let (done, total) = (self.results.answers.len() as u64, self.work.jobs.all().len() as u64);
        let retries = match self.results.retries {
            0 => String::new(),
            1 => "1 retry, ".to_owned(),
            more => format!("{more} retries, "),
        };
        let note = format!("{retries}{}", self.purse.note());
        self.work.context.emit(Event::progress(done, Some(total), "answers", note));
    }
}
