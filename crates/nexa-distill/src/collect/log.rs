//! The log of answers: every one that was ever paid for, by the hash of what was asked.
//!
//! It belongs to the lab, not to a run, so that another run, project or gate never pays for the same answer. There is
//! one file for each teacher: `.nexa/cache/responses/<hash of the teacher>.jsonl`, only ever appended to. Whoever
//! collects from a teacher holds the lock of its file, so that two runs never ask for the same answer at once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use nexa_core::event::Event;
use nexa_core::files::{self, LineLog};
use nexa_core::hash::ContentHash;
use nexa_core::run::{self, Lock};
use nexa_core::stage::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bill::{Bill, Cost};
use crate::Result;
use crate::client::Answer;

/// How often it is looked whether another run has finished with the teacher.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct ResponseLog {
    answers: HashMap<ContentHash, Answer>,
    log: LineLog,
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

#[derive(Serialize, Deserialize)]
struct Line {
    key: ContentHash,
    #[serde(flatten)]
    answer: Answer,
    #[serde(flatten)]
    payment: Option<Payment>,
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
        let name = ContentHash::of_json(place).as_str().trim_start_matches("blake3:").to_owned();
        let lock = wait_for(context, &format!("responses-{}", &name[..32]), teacher)?;
        let path: PathBuf = lab.state_folder().join("cache/responses").join(format!("{name}.jsonl"));
        let log = LineLog::open(&path)?;
        // A run's folder is named for it.
        let run = context.workspace.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut answers = HashMap::new();
        let mut paid = Vec::new();
        for Line { key, answer, payment } in files::read_lines::<Line>(&path)? {
            if let Some(Payment { call, cost, .. }) = payment.filter(|payment| payment.run == run) {
                paid.push(Bill { call, is_answered: true, usage: answer.usage, cost });
            }
            answers.insert(key, answer);
        }
        Ok(Self { answers, log, run, paid, _lock: lock })
    }

    /// What this run had paid for when the log was opened.
    pub(super) fn paid(&self) -> &[Bill] {
        &self.paid
    }

    /// The answer to a request, if it was ever given.
    pub(super) fn get(&self, key: &ContentHash) -> Option<&Answer> {
        self.answers.get(key)
    }

    /// Keeps answers to requests, durably.
    pub(super) fn keep<'a>(
        &mut self,
        answers: impl IntoIterator<Item = (&'a ContentHash, &'a Paid)>,
    ) -> Result<()> {
        let mut is_synced = true;
        for (key, Paid { answer, call, cost }) in answers {
            let payment = Some(Payment { run: self.run.clone(), call: *call, cost: *cost });
            let line = Line { key: key.clone(), answer: answer.clone(), payment };
            self.log.append(&line)?;
            self.answers.insert(line.key, line.answer);
            is_synced = false;
        }
        if !is_synced {
            self.log.sync()?;
        }
        Ok(())
    }
}

fn wait_for(context: &Context<'_>, name: &str, teacher: &str) -> Result<Lock> {
    let mut told = false;
    loop {
        match run::lock(context.services.lab, name, &format!("the answers of `{teacher}`"), false) {
            Err(busy @ nexa_core::Error::Busy { .. }) => {
                if context.services.cancel.is_cancelled() {
                    return Err(nexa_core::Error::Interrupted.into());
                }
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
