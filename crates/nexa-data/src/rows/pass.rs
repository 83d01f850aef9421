//! One reading of a table, in batches: a thread of its own parses the next one while the last one is worked on.

use std::sync::mpsc::sync_channel;

use nexa_core::event::Event;
use nexa_core::stage::Context;
use nexa_core::table::Row;

use super::Source;
use crate::Result;
use crate::tables::{Records, batches};

/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 2;

/// One reading of a table.
pub(crate) struct Pass<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) source: &'a Source,
    /// What a person is told that is going on.
    pub(crate) note: &'static str,
}

impl Pass<'_> {
    /// Calls `work` with every batch and the number of its first row, in order; says how many rows there were.
    ///
    /// # Errors
    /// Fails with file and line when the table cannot be read, with the first error of `work`, and when the user
    /// wants to stop.
    pub(crate) fn run(&self, mut work: impl FnMut(u64, Vec<Row>) -> Result<()>) -> Result<u64> {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let batches = batches(Records::open(&self.source.path)?.rows());
        let mut done = 0;
        std::thread::scope(|scope| {
            // Dropped at the end of this closure, which ends the reader below even where `work` failed.
            let receiver = receiver;
            scope.spawn(move || {
                for batch in batches {
                    let is_last = batch.is_err();
                    if sender.send(batch).is_err() || is_last {
                        return;
                    }
                }
            });
            for batch in &receiver {
                self.context.check_cancel()?;
                let batch = batch?;
                let first = done;
                done += batch.len() as u64;
                work(first, batch)?;
                self.context.emit(Event::progress(done, self.source.rows, "rows", self.note));
            }
            Ok(done)
        })
    }
}
