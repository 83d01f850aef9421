//! The events of a run: shown, and kept in `events.jsonl`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::Result;
use crate::event::{Event, EventSink};
use crate::files::LineLog;

/// Shows events and keeps them in `events.jsonl`; of progress, one a second.
pub(super) struct RunEvents<'a> {
    shown: &'a dyn EventSink,
    kept: Mutex<(LineLog, Option<Instant>)>,
}

#[derive(Serialize)]
struct KeptEvent<'a> {
    time: DateTime<Utc>,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> RunEvents<'a> {
    /// Opens the events of a run's folder.
    pub(super) fn open(folder: &Path, shown: &'a dyn EventSink) -> Result<Self> {
        Ok(Self { shown, kept: Mutex::new((LineLog::open(&folder.join("events.jsonl"))?, None)) })
    }

    /// Keeps an event without showing it.
    pub(super) fn keep(&self, event: &Event) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.0.append(&KeptEvent { time: Utc::now(), event })
    }
}

impl EventSink for RunEvents<'_> {
    fn emit(&self, event: Event) {
        {
            let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let is_progress = matches!(event, Event::Progress { .. });
            let due = !is_progress || kept.1.is_none_or(|last| last.elapsed().as_secs() >= 1);
            if due {
                if is_progress {
                    kept.1 = Some(Instant::now());
                }
                // Events are a convenience: a log that cannot be written must not stop the work.
                let _ = kept.0.append(&KeptEvent { time: Utc::now(), event: &event });
            }
        }
        self.shown.emit(event);
    }
}
