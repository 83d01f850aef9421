//! One tracker following the logs of one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::run::Status;

use super::cursor::{self, Cursor, CursorFile};
use super::spool::{Line, Spool};
use super::{Failure, Row, RunFacts, Tracker};

/// Values that are delivered at once: MLflow takes 1,000 at most.
pub(super) const POINTS_AT_ONCE: usize = 900;

/// A tracker with its cursor and the logs that it follows.
pub(super) struct Follower {
    tracker: Box<dyn Tracker>,
    facts: RunFacts,
    run_folder: PathBuf,
    spool: Spool,
    /// What each log held when this attempt began.
    lengths: BTreeMap<String, u64>,
    attached: Option<(CursorFile, Cursor)>,
    /// Rows delivered by this follower.
    pub(super) delivered: u64,
    /// What a person should know, once.
    pub(super) note: Option<String>,
}

impl Follower {
    /// Follows the logs of a run's folder, which have been cut back where they will be.
    pub(super) fn new(tracker: Box<dyn Tracker>, run_folder: &Path, facts: &RunFacts) -> Self {
        let spool = Spool::new(run_folder);
        Self {
            tracker,
            facts: facts.clone(),
            run_folder: run_folder.to_owned(),
            lengths: spool.lengths(),
            spool,
            attached: None,
            delivered: 0,
            note: None,
        }
    }

    /// The word for the tracker.
    pub(super) fn name(&self) -> &'static str {
        self.tracker.name()
    }

    /// Lines of the logs that have not been delivered.
    pub(super) fn waiting(&self) -> u64 {
        waiting(&self.run_folder, self.name(), &self.tracker.destination())
    }

    /// Whether everything, the end of the run too, was delivered before.
    pub(super) fn is_done(&self, status: Status) -> bool {
        cursor::load(&self.run_folder, self.name(), &self.tracker.destination()).is_ok_and(|cursor| {
            cursor.ended == Some(status)
                && self.spool.waiting(&cursor) == 0
                && matches!(self.spool.was_rewritten(&cursor), Ok(false))
        })
    }

    /// Delivers the next rows and says whether there may be more.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        self.attach()?;
        let Some((file, cursor)) = &mut self.attached else { return Ok(false) };
        if self.spool.was_rewritten(cursor)? {
            rewind(self.tracker.as_mut(), cursor, 0)?;
            file.save(cursor)?;
        }
        let batch = self.spool.next(cursor, POINTS_AT_ONCE)?;
        if batch.read == cursor.read {
            return Ok(false);
        }
        let mut sent = cursor.sent.clone();
        let started_at_ms = self.facts.started_at.timestamp_millis();
        let rows: Vec<Row> =
            batch.lines.into_iter().filter_map(|line| unsent(line, started_at_ms, &mut sent)).collect();
        if !rows.is_empty() {
            self.tracker.rows(&rows)?;
            self.delivered += rows.len() as u64;
        }
        (cursor.read, cursor.seconds, cursor.sent) = (batch.read, batch.seconds, sent);
        file.save(cursor)?;
        Ok(true)
    }

    /// Says how the run ended, unless that is known already.
    pub(super) fn end(&mut self, status: Status) -> Result<(), Failure> {
        self.attach()?;
        let Some((file, cursor)) = &mut self.attached else { return Ok(()) };
        if cursor.ended != Some(status) {
            self.tracker.end(status)?;
            cursor.ended = Some(status);
            file.save(cursor)?;
        }
        Ok(())
    }

    /// Takes the cursor and opens the run, once.
    fn attach(&mut self) -> Result<(), Failure> {
        if self.attached.is_some() {
            return Ok(());
        }
        let destination = self.tracker.destination();
        let (file, mut cursor) = CursorFile::open(&self.run_folder, self.tracker.name(), &destination)?;
        let begun = self.tracker.begin(&self.facts, cursor.remote.as_deref())?;
        if cursor.remote.as_ref() == Some(&begun.remote) {
            let cut = self.spool.cut_at(&cursor, &self.lengths)?;
            // What an attempt delivered after its last saved cursor counts as not delivered.
            let last = cursor.sent.values().copied().max().unwrap_or(0);
            rewind(self.tracker.as_mut(), &mut cursor, cut.map_or(last, |cut| cut.min(last)))?;
        } else {
            cursor = Cursor::new(destination);
            cursor.remote = Some(begun.remote);
        }
        for (key, step) in begun.sent {
            let sent = cursor.sent.entry(key).or_default();
            *sent = step.max(*sent);
        }
        cursor.ended = None;
        file.save(&cursor)?;
        self.note = begun.note;
        self.attached = Some((file, cursor));
        Ok(())
    }
}

/// Counts the lines of a run's logs that a tracker has not been sent.
pub(super) fn waiting(run_folder: &Path, name: &str, destination: &str) -> u64 {
    let cursor = cursor::load(run_folder, name, destination);
    Spool::new(run_folder).waiting(&cursor.unwrap_or_else(|_| Cursor::new(destination.to_owned())))
}

/// Makes a tracker take back steps, as far as it can, and the cursor go where the rows to send are found.
fn rewind(tracker: &mut dyn Tracker, cursor: &mut Cursor, step: u64) -> Result<(), Failure> {
    if let Some(step) = tracker.rewind(step)? {
        cursor.forget_from(step);
    }
    cursor.read_again();
    Ok(())
}

/// What of a line has not been sent, and marks it as sent.
fn unsent(line: Line, started_at_ms: i64, sent: &mut BTreeMap<String, u64>) -> Option<Row> {
    let Line { step, seconds, values } = line;
    let fresh =
        |(key, value): &(String, f64)| value.is_finite() && sent.get(key).is_none_or(|&last| last < step);
    let values: Vec<_> = values.into_iter().filter(fresh).collect();
    sent.extend(values.iter().map(|(key, _)| (key.clone(), step)));
    // The milliseconds of a year need 35 of the 53 bits that a double keeps exactly.
    let time_ms = started_at_ms + (seconds * 1e3) as i64;
    (!values.is_empty()).then_some(Row { step, time_ms, values })
}
