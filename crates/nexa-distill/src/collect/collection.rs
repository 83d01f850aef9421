//! What has come of each call so far: answers are kept and paid for here, and judged, whoever fetched them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexa_core::event::Event;
use nexa_core::files::Syncer;
use nexa_core::stage::Context;

use super::Config;
use super::bill::Bill;
use super::estimate::Estimate;
use super::job::Job;
use super::latency::Latencies;
use super::log::{Paid, ResponseLog};
use super::money::Purse;
use super::policy::{Flaw, Policy, Verdict};
use crate::client::{Answer, Billed, Failure, Unanswered, Usage};
use crate::teacher::TeacherSpec;
use crate::{Error, Result};

/// How often the bills of answers are entered into the ledger: each time is a write to the disk that nothing waits for.
const ENTER_EVERY: Duration = Duration::from_secs(1);

/// How a job ended.
#[derive(Debug)]
enum End {
    Answered(Answer),
    /// It was answered, with nothing that can be used.
    Unusable(Flaw),
    Failed(Failure),
}

/// What is collected, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) config: &'a Config,
    pub(super) teacher: &'a TeacherSpec,
}

/// A call that has ended: its job, its number, and how.
pub(super) struct Ended {
    pub(super) job: usize,
    pub(super) call: u64,
    pub(super) result: Result<Answer, Unanswered>,
}

/// The state of a collection.
pub(super) struct Collection<'a> {
    pub(super) work: Work<'a>,
    pub(super) jobs: Vec<Job>,
    pub(super) purse: Purse,
    pub(super) estimate: Estimate,
    policy: Policy,
    log: ResponseLog,
    /// Bills of answers that the ledger does not hold yet; should they be lost, it is made up from the log.
    unentered: Vec<Bill>,
    entered: Instant,
    ends: Vec<Option<End>>,
    done: usize,
    /// Jobs whose answer was there before this attempt.
    pub(super) reused: usize,
    /// Calls that were made again.
    pub(super) retries: u64,
    /// How often each kind of failure was met, retried ones and flawed answers included.
    pub(super) failures: BTreeMap<&'static str, u64>,
    /// How long calls took that were answered.
    pub(super) latencies: Latencies,
}

impl<'a> Collection<'a> {
    /// Begins a collection with the answers that are there.
    pub(super) fn new(
        work: Work<'a>,
        jobs: Vec<Job>,
        policy: Policy,
        log: ResponseLog,
        purse: Purse,
    ) -> Self {
        let ends = jobs.iter().map(|_| None).collect();
        let mut collection = Self {
            work,
            jobs,
            purse,
            estimate: Estimate::default(),
            policy,
            log,
            unentered: Vec::new(),
            entered: Instant::now(),
            ends,
            done: 0,
            reused: 0,
            retries: 0,
            failures: BTreeMap::new(),
            latencies: Latencies::default(),
        };
        for job in 0..collection.jobs.len() {
            collection.reused += usize::from(collection.look_up(job));
        }
        let (reused, total) = (collection.reused, collection.jobs.len());
        if reused > 0 {
            let told = format!("{reused} of {total} answers are there already and cost nothing");
            work.context.emit(Event::info(told));
        }
        collection
    }

    /// The jobs that have not ended.
    pub(super) fn open(&self) -> Vec<usize> {
        (0..self.jobs.len()).filter(|&job| self.ends[job].is_none()).collect()
    }

    /// How many jobs have ended with an answer, usable or not.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// The answer of a job, or why it has none: a word and a sentence.
    pub(super) fn answer(&self, job: usize) -> Result<&Answer, (&'static str, String)> {
        match &self.ends[job] {
            Some(End::Answered(answer)) => Ok(answer),
            Some(End::Unusable(flaw)) => Err((flaw.kind(), flaw.to_string())),
            Some(End::Failed(failure)) => Err((failure.kind(), failure.message().to_owned())),
            None => Err(("connection", "was never sent".to_owned())),
        }
    }

    /// How often a job was asked again because its answer could not be used.
    pub(super) fn repeats(&self, job: usize) -> u32 {
        self.jobs[job].request.repeats
    }

    /// Whether a job was answered with nothing that can be used.
    pub(super) fn is_unusable(&self, job: usize) -> bool {
        matches!(self.ends[job], Some(End::Unusable(_)))
    }

    /// Ends a job, or brings it as far as the answers that are there lead: an answer that is not kept may lead to another
    /// request, whose answer may be there as well. Returns whether the job has ended.
    fn look_up(&mut self, job: usize) -> bool {
        while let Some(answer) = self.log.answers().get(&self.jobs[job]) {
            let request = &self.jobs[job].request;
            self.estimate.observe(request, &answer.usage);
            let (verdict, flaw) = self.policy.judge(request, answer);
            if let Some(kind) = flaw {
                *self.failures.entry(kind).or_default() += 1;
            }
            let end = match verdict {
                Verdict::Keep => End::Answered(answer.clone()),
                Verdict::Drop(flaw) => End::Unusable(flaw),
                Verdict::Ask(request) => {
                    self.jobs[job] = Job::new(*request);
                    continue;
                }
            };
            self.ends[job] = Some(end);
            self.done += 1;
            return true;
        }
        false
    }

    /// Keeps the answers of calls that have ended, charges what they cost, and returns the calls that have to be made
    /// again: those that failed, with why, and those whose answers lead to another request.
    pub(super) fn settle(&mut self, ended: Vec<Ended>) -> Result<Vec<(usize, Option<Failure>)>> {
        let mut again = Vec::new();
        let mut answered = Vec::new();
        let mut paid = Vec::new();
        let mut lost = Vec::new();
        for Ended { job, call, result } in ended {
            match result {
                Ok(answer) => {
                    let cost = self.purse.cost(call, &answer.usage);
                    paid.push(Bill { call, is_answered: true, usage: answer.usage, cost });
                    answered.push((job, Paid { answer, call, cost }));
                }
                Err(Unanswered { failure, billed }) => {
                    *self.failures.entry(failure.kind()).or_default() += 1;
                    again.push((job, Some(failure)));
                    let usage = match billed {
                        Billed::Nothing => {
                            self.purse.not_billed(call)?;
                            continue;
                        }
                        Billed::Stated(usage) => usage,
                        Billed::Unknown => Usage::default(),
                    };
                    let cost = self.purse.cost(call, &usage);
                    lost.push(Bill { call, is_answered: false, usage, cost });
                }
            }
        }
        // The answers come first, with what they cost: after a crash in between, the ledger is made up from them.
        self.log.keep(answered.iter().map(|(job, paid)| (&self.jobs[*job], paid)))?;
        self.purse.charge(&paid);
        self.unentered.extend(paid);
        self.charge(&lost)?;
        if self.entered.elapsed() >= ENTER_EVERY {
            self.enter()?;
        }
        for (job, _) in &answered {
            if !self.look_up(*job) {
                again.push((*job, None));
            }
        }
        if !answered.is_empty() {
            self.tell();
        }
        Ok(again)
    }

    /// Enters bills into the ledger that stand nowhere else.
    pub(super) fn charge(&mut self, bills: &[Bill]) -> Result<()> {
        for charge in self.purse.charge(bills) {
            self.work.context.charge(&charge)?;
        }
        Ok(())
    }

    /// What makes durable the answers that came since this was called last, if some did, for another thread to do.
    pub(super) fn take_unsynced(&mut self) -> Option<Arc<Syncer>> {
        self.log.take_unsynced()
    }

    /// Enters the bills of answers into the ledger, once the answers are durable: from then on they count.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.entered = Instant::now();
        self.log.sync()?;
        for charge in self.purse.entries(&std::mem::take(&mut self.unentered)) {
            self.work.context.charge(&charge)?;
        }
        Ok(())
    }

    /// Ends a job for good without an answer.
    pub(super) fn give_up(&mut self, job: usize, failure: Failure) {
        self.ends[job] = Some(End::Failed(failure));
    }

    /// Fails where a call is left that may be answered another time: what is made of these results would not be what
    /// the same work gives then.
    pub(super) fn require_settled(&self) -> Result<()> {
        let passing = |end: &Option<End>| match end {
            None => Some("was never sent".to_owned()),
            Some(End::Failed(failure)) if !failure.is_for_good() => {
                Some(format!("{}: {}", failure.kind(), failure.message()))
            }
            Some(_) => None,
        };
        let mut missing = self.ends.iter().filter_map(passing);
        let Some(first) = missing.next() else { return Ok(()) };
        Err(Error::Unanswered {
            teacher: self.work.teacher.to_string(),
            missing: 1 + missing.count(),
            total: self.jobs.len(),
            first,
        })
    }

    /// Tells how far the collection has come.
    pub(super) fn tell(&self) {
        let (done, total) = (self.done as u64, self.jobs.len() as u64);
        let retries = match self.retries {
            0 => String::new(),
            1 => "1 retry, ".to_owned(),
            more => format!("{more} retries, "),
        };
        let note = format!("{retries}{}", self.purse.note());
        self.work.context.emit(Event::progress(done, Some(total), "answers", note));
    }
}
