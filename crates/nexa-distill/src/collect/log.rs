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

use crate::Result;
use crate::client::Answer;

/// How often it is looked whether another run has finished with the teacher.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct ResponseLog {
    answers: HashMap<ContentHash, Answer>,
    log: LineLog,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: ContentHash,
    #[serde(flatten)]
    answer: Answer,
}

impl ResponseLog {
    /// Opens the log of the teacher that `place` describes, waiting while another run uses it.
    pub(super) fn open(context: &Context<'_>, place: &Value, teacher: &str) -> Result<Self> {
        let lab = context.services.lab;
        let name = ContentHash::of_json(place).as_str().trim_start_matches("blake3:").to_owned();
        let lock = wait_for(context, &format!("responses-{}", &name[..32]), teacher)?;
        let path: PathBuf = lab.state_folder().join("cache/responses").join(format!("{name}.jsonl"));
        let log = LineLog::open(&path)?;
        let answers =
            files::read_lines::<Line>(&path)?.into_iter().map(|line| (line.key, line.answer)).collect();
        Ok(Self { answers, log, _lock: lock })
    }

    /// The answer to a request, if it was ever given.
    pub(super) fn get(&self, key: &ContentHash) -> Option<&Answer> {
        self.answers.get(key)
    }

    /// Keeps answers, durably.
    pub(super) fn keep(&mut self, answers: Vec<(ContentHash, Answer)>) -> Result<()> {
        for (key, answer) in answers {
            let line = Line { key, answer };
            self.log.append(&line)?;
            self.answers.insert(line.key, line.answer);
        }
        self.log.sync()?;
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
