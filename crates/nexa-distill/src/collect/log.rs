//! The log of answers: every one that was ever paid for, by the hash of what was asked.
//!
//! It belongs to the lab, not to a run, so that another run, project or gate never pays for the same answer. There is
//! one file for each teacher: `.nexa/cache/responses/<hash of the teacher>.jsonl`, only ever appended to. Whoever
//! collects from a teacher holds the lock of its file, so that two runs never ask for the same answer at once.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nexa_core::event::Event;
use nexa_core::files::{self, LineLog, Syncer};
use nexa_core::hash::ContentHash;
use nexa_core::lab::Lab;
use nexa_core::lm::FinishReason;
use nexa_core::run::{self, Lock};
use nexa_core::stage::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bill::{Bill, Cost};
use super::job::Job;
use crate::Result;
use crate::client::Answer;

/// How often it is looked whether another run has finished with the teacher.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct ResponseLog {
    answers: Answers,
    log: LineLog,
    syncer: Arc<Syncer>,
    /// Whether answers were appended that nobody was told to make durable.
    is_dirty: bool,
    run: String,
    paid: Vec<Bill>,
    _lock: Lock,
}

/// An answer as it came, with what it cost.
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) answer: Answer,
    pub(super) call: u64,
    pub(super) cost: Cost,
}

/// The answers of a teacher.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_key: HashMap<ContentHash, Answer>,
    /// Answers that ended by themselves, by the hash of the request without the length of its answer, with the length
    /// that they were asked under.
    complete: HashMap<ContentHash, BTreeMap<u64, ContentHash>>,
}

impl Answers {
    /// The answer to a request, if it was ever given: to the very request, else to one for a shorter answer that was
    /// not cut off, as a longer one would not have come out differently.
    pub(super) fn get(&self, job: &Job) -> Option<&Answer> {
        self.by_key.get(&job.key).or_else(|| {
            let lengths = self.complete.get(&job.request.question())?;
            let (_, key) = lengths.range(..=job.request.max_tokens).next_back()?;
            self.by_key.get(key)
        })
    }

    fn insert(&mut self, key: ContentHash, question: Option<Question>, answer: Answer) {
        let is_complete = answer.finish_reason == FinishReason::Stop;
        if let Some(Question { question, max_tokens }) = question.filter(|_| is_complete) {
            self.complete.entry(question).or_default().insert(max_tokens, key.clone());
        }
        self.by_key.insert(key, answer);
    }

    /// The answers that are there, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Answer> {
        self.by_key.values()
    }
}

/// Reads the answers of the teacher that `place` describes, for whoever only looks.
pub(super) fn read(lab: &Lab, place: &Value) -> Result<Answers> {
    let mut answers = Answers::default();
    for Line { key, question, answer, .. } in files::read_lines::<Line>(&path(lab, &name(place)))? {
        answers.insert(key, question, answer);
    }
    Ok(answers)
}

/// The name of a teacher's log.
fn name(place: &Value) -> String {
    ContentHash::of_json(place).as_str().trim_start_matches("blake3:").to_owned()
}

fn path(lab: &Lab, name: &str) -> PathBuf {
    folder(lab).join(format!("{name}.jsonl"))
}

/// The folder of the logs of all teachers.
pub(super) fn folder(lab: &Lab) -> PathBuf {
    lab.state_folder().join("cache/responses")
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: ContentHash,
    #[serde(flatten)]
    question: Option<Question>,
    #[serde(flatten)]
    answer: Answer,
    #[serde(flatten)]
    payment: Option<Payment>,
}

/// What was asked, but for the length of the answer; lines of earlier versions do not say.
#[derive(Serialize, Deserialize)]
struct Question {
    question: ContentHash,
    max_tokens: u64,
}

/// Which call of which run an answer was paid with; lines of earlier versions do not say.
#[derive(Serialize, Deserialize)]
struct Payment {
    run: String,
    call: u64,
    #[serde(flatten)]
    cost: Cost,
}

impl ResponseLog {
    /// Opens the log of the teacher that `place` describes, waiting while another run uses it.
    pub(super) fn open(context: &Context<'_>, place: &Value, teacher: &str) -> Result<Self> {
        let lab = context.services.lab;
        let name = name(place);
        let lock = wait_for(context, &format!("responses-{}", &name[..32]), teacher)?;
        let path = path(lab, &name);
        let log = LineLog::open(&path)?;
        // A run's folder is named for it.
        let run = context.workspace.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut answers = Answers::default();
        let mut paid = Vec::new();
        for Line { key, question, answer, payment } in files::read_lines::<Line>(&path)? {
            if let Some(Payment { call, cost, .. }) = payment.filter(|payment| payment.run == run) {
                paid.push(Bill { call, is_answered: true, usage: answer.usage, cost });
            }
            answers.insert(key, question, answer);
        }
        let syncer = Arc::new(log.syncer()?);
        Ok(Self { answers, log, syncer, is_dirty: false, run, paid, _lock: lock })
    }

    /// What this run had paid for when the log was opened.
    pub(super) fn paid(&self) -> &[Bill] {
        &self.paid
    }

    /// The answers that are there.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Keeps answers to requests. A process that is killed leaves them behind; a machine that crashes may lose those that
    /// were not [synced](Self::sync).
    pub(super) fn keep<'a>(&mut self, answers: impl IntoIterator<Item = (&'a Job, &'a Paid)>) -> Result<()> {
        for (job, Paid { answer, call, cost }) in answers {
            let payment = Some(Payment { run: self.run.clone(), call: *call, cost: *cost });
            let question = Question { question: job.request.question(), max_tokens: job.request.max_tokens };
            let line =
                Line { key: job.key.clone(), question: Some(question), answer: answer.clone(), payment };
            self.log.append(&line)?;
            self.answers.insert(line.key, line.question, line.answer);
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Makes the answers that are kept durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.is_dirty = false;
        Ok(self.log.sync()?)
    }

    /// What makes durable the answers that came since this was called last, if some did; on another thread, as the disk
    /// takes as long for it as a dozen calls do to begin.
    pub(super) fn take_unsynced(&mut self) -> Option<Arc<Syncer>> {
        std::mem::take(&mut self.is_dirty).then(|| Arc::clone(&self.syncer))
    }
}

fn wait_for(context: &Context<'_>, name: &str, teacher: &str) -> Result<Lock> {
    let mut told = false;
    loop {
        match run::lock(context.services.lab, name, &format!("the answers of `{teacher}`"), false) {
            Err(busy @ nexa_core::Error::Busy { .. }) => {
                context.check_cancel()?;
                if !told {
                    context.emit(Event::info(format!("{busy}; waiting for it")));
                    told = true;
                }
                std::thread::sleep(POLL);
            }
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{Request, Usage};

    fn job(max_tokens: u64) -> Job {
        Job::new(Request {
            messages: Vec::new(),
            sampling: Arc::default(),
            max_tokens,
            seed: 0,
            sample_index: 0,
            repeats: 0,
        })
    }

    fn insert(answers: &mut Answers, max_tokens: u64, text: &str, finish_reason: FinishReason) {
        let answer = Answer {
            text: text.to_owned(),
            finish_reason,
            model_id: "m".to_owned(),
            usage: Usage::default(),
            reasoning: None,
            logprobs: None,
            is_refusal: false,
        };
        let job = job(max_tokens);
        answers.insert(job.key, Some(Question { question: job.request.question(), max_tokens }), answer);
    }

    #[test]
    fn an_answer_that_was_not_cut_off_serves_greater_lengths() {
        let mut answers = Answers::default();
        insert(&mut answers, 10, "cut", FinishReason::Length);
        insert(&mut answers, 20, "whole", FinishReason::Stop);
        insert(&mut answers, 40, "another", FinishReason::Stop);
        let check = |max_tokens, expected: Option<&str>| {
            let found = answers.get(&job(max_tokens)).map(|answer| answer.text.as_str());
            assert_eq!(found, expected, "{max_tokens}");
        };
        check(10, Some("cut"));
        check(15, None);
        check(20, Some("whole"));
        check(30, Some("whole"));
        check(40, Some("another"));
        check(50, Some("another"));
    }

    #[test]
    fn lines_of_every_version_are_read() {
        let check = |line: &str, is_asked: bool, is_paid: bool| {
            let line: Line = serde_json::from_str(line).unwrap();
            assert_eq!((line.question.is_some(), line.payment.is_some()), (is_asked, is_paid));
            assert_eq!((line.answer.text.as_str(), line.answer.usage.prompt_tokens), ("hi", Some(3)));
        };
        let plain = r#""text":"hi","finish_reason":"stop","model_id":"m","prompt_tokens":3,"completion_tokens":4,"reported_usd":null"#;
        let paid = r#""run":"r","call":7,"usd":0.5,"at_most_usd":null"#;
        check(&format!(r#"{{"key":"blake3:00",{plain}}}"#), false, false);
        check(&format!(r#"{{"key":"blake3:00",{plain},{paid}}}"#), false, true);
        check(
            &format!(r#"{{"key":"blake3:00","question":"blake3:01","max_tokens":9,{plain},{paid}}}"#),
            true,
            true,
        );
    }
}
