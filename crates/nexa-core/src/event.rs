//! What a stage tells while it works. Stages emit, only the binary prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// Something that happened in a stage. Every event goes to `events.jsonl` of the run, and to the screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far long work has come.
    Progress {
        /// Units done, those of earlier attempts included.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// `rows`, `requests`, `steps`, …
        unit: String,
        /// What a person wants beside the bar, such as `loss 0.412  8,120 tokens/s`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
    },
    /// Something worth a line.
    Info {
        /// The line.
        message: String,
    },
    /// Something that a person should look at, though the work goes on.
    Warning {
        /// The line.
        message: String,
    },
}

impl Event {
    /// Makes an [`Event::Progress`].
    pub fn progress(done: u64, total: Option<u64>, unit: &str, note: impl Into<String>) -> Self {
        Self::Progress { done, total, unit: unit.to_owned(), note: note.into() }
    }

    /// Makes an [`Event::Info`].
    pub fn info(message: impl Into<String>) -> Self {
        Self::Info { message: message.into() }
    }

    /// Makes an [`Event::Warning`].
    pub fn warning(message: impl Into<String>) -> Self {
        Self::Warning { message: message.into() }
    }
}

/// Where events go. Implementations must be cheap: stages emit from hot loops.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _event: Event) {}
}

/// A flag that asks long work to stop at its next safe point, set by Ctrl-C and SIGTERM.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the work should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
