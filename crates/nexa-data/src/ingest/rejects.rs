//! The rows that were not accepted: shown, counted and kept.

use std::path::PathBuf;

use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::stage::Context;
use serde::Serialize;

use crate::Result;
use crate::tables::{Compression, JsonLinesWriter};

/// How many are shown one by one.
const SHOWN: u64 = 20;

/// A row that was not accepted, as the reject file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reject<'a> {
    pub(super) source_file: &'a str,
    pub(super) line: u64,
    pub(super) reason: &'a str,
    pub(super) raw: &'a str,
}

/// What was rejected in all.
pub(super) struct Rejected {
    pub(super) count: u64,
    /// File, line and reason of the first.
    pub(super) first: Option<String>,
}

/// Takes rejected rows; the file is made with the first of them.
pub(super) struct Rejects {
    path: PathBuf,
    writer: Option<JsonLinesWriter>,
    rejected: Rejected,
}

impl Rejects {
    /// Forgets what an earlier attempt rejected.
    pub(super) fn begin(path: PathBuf) -> Result<Self> {
        files::remove(&path)?;
        Ok(Self { path, writer: None, rejected: Rejected { count: 0, first: None } })
    }

    pub(super) fn add(&mut self, context: &Context<'_>, reject: &Reject<'_>) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(JsonLinesWriter::create(&self.path, Compression::None)?),
        };
        writer.append(reject)?;
        self.rejected.count += 1;
        if self.rejected.count <= SHOWN {
            let line = format!("{}:{}: {}", reject.source_file, reject.line, reject.reason);
            context.emit(Event::warning(line.clone()));
            self.rejected.first.get_or_insert(line);
        }
        Ok(())
    }

    pub(super) fn finish(self, context: &Context<'_>) -> Result<Rejected> {
        if let Some(writer) = self.writer {
            writer.finish()?;
        }
        if let Some(more) = self.rejected.count.checked_sub(SHOWN).filter(|&more| more > 0) {
            context.emit(Event::warning(format!(
                "{more} more rows were rejected; `rejected.jsonl` holds them all"
            )));
        }
        Ok(self.rejected)
    }
}
