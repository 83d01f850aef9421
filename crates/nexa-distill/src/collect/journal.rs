//! The calls of a run that are under way, on disk before they are sent: `calls.jsonl` in the run's folder.
//!
//! A process that is killed takes its calls with it, but not what they cost. The next attempt finds here which calls
//! were sent and how much each may have cost, and what became of them in the log of answers and in the ledger; what it
//! finds nowhere is lost, and charged as such.

use std::collections::BTreeMap;
use std::path::Path;

use nexa_core::files::{self, LineLog};
use serde::{Deserialize, Serialize};

use super::bill::AtMost;
use crate::Result;

/// What happened to a call.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// It is about to be sent.
    Sent {
        call: u64,
        /// Whom it goes to; lines of earlier versions do not say, when a run had one teacher.
        #[serde(default)]
        teacher: Option<String>,
        at_most_usd: Option<f64>,
        #[serde(default)]
        at_most_tokens: u64,
    },
    /// It ended without being charged.
    NotBilled { call: u64 },
}

/// Some calls in a row, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Calls {
    /// These calls and those up to another.
    pub(super) fn with(self, call: u64) -> Self {
        Self { last: self.last.max(call), ..self }
    }

    pub(super) fn contains(&self, call: u64) -> bool {
        (self.first..=self.last).contains(&call)
    }

    pub(super) fn numbers(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    log: LineLog,
    teacher: String,
    is_synced: bool,
}

/// What earlier attempts left in a journal.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Calls to the teacher of which the journal knows no end, with what each can come to.
    pub(super) open: BTreeMap<u64, AtMost>,
    /// The same of calls to the run's other teachers: a jury has one journal.
    pub(super) open_elsewhere: BTreeMap<u64, AtMost>,
    /// The highest number of a call.
    pub(super) last_call: u64,
}

impl Journal {
    /// Opens the journal of a run's folder for calls to a teacher.
    pub(super) fn open(run_folder: &Path, teacher: &str) -> Result<(Self, Left)> {
        let path = run_folder.join("calls.jsonl");
        let mut left = Left::default();
        for line in files::read_lines::<Line>(&path)? {
            match line {
                Line::Sent { call, teacher: asked, at_most_usd, at_most_tokens } => {
                    let is_here = asked.is_none_or(|asked| asked == teacher);
                    let open = if is_here { &mut left.open } else { &mut left.open_elsewhere };
                    open.insert(call, AtMost { usd: at_most_usd, tokens: at_most_tokens });
                    left.last_call = left.last_call.max(call);
                }
                Line::NotBilled { call } => {
                    left.open.remove(&call);
                    left.open_elsewhere.remove(&call);
                }
            }
        }
        Ok((Self { log: LineLog::open(&path)?, teacher: teacher.to_owned(), is_synced: true }, left))
    }

    /// Notes that a call is about to be sent; it may be sent after the next [`sync`](Self::sync).
    pub(super) fn sent(&mut self, call: u64, at_most: AtMost) -> Result<()> {
        self.is_synced = false;
        let AtMost { usd: at_most_usd, tokens: at_most_tokens } = at_most;
        let teacher = Some(self.teacher.clone());
        Ok(self.log.append(&Line::Sent { call, teacher, at_most_usd, at_most_tokens })?)
    }

    /// Notes that a call ended without being charged. If the note is lost, too much is assumed, never too little.
    pub(super) fn not_billed(&mut self, call: u64) -> Result<()> {
        Ok(self.log.append(&Line::NotBilled { call })?)
    }

    /// Makes every call noted so far durable, in one write for all of them.
    pub(super) fn sync(&mut self) -> Result<()> {
        if !self.is_synced {
            self.log.sync()?;
            self.is_synced = true;
        }
        Ok(())
    }
}
