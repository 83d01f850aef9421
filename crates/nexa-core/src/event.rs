//! What a stage tells while it works. Stages emit, only the binary prints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// What is called once work should stop; it must be quick.
type Wake = dyn Fn() + Send + Sync;

/// A flag that asks long work to stop at its next safe point, set by Ctrl-C and SIGTERM.
#[derive(Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    wakes: Arc<Mutex<Vec<Weak<Wake>>>>,
}

impl Cancel {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.iter().filter_map(Weak::upgrade).for_each(|wake| wake());
    }

    /// Whether the work should stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// Has `wake` called when the work should stop, at once where it should already, for as long as somebody holds it.
    pub fn notify(&self, wake: &Arc<Wake>) {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.retain(|other| other.strong_count() > 0);
        wakes.push(Arc::downgrade(wake));
        if self.is_cancelled() {
            wake();
        }
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn whoever_still_waits_is_woken_once() {
        let cancel = Cancel::default();
        let woken = Arc::new(AtomicU32::new(0));
        let wake = || -> Arc<Wake> {
            let woken = Arc::clone(&woken);
            Arc::new(move || {
                woken.fetch_add(1, Ordering::SeqCst);
            })
        };
        let (waits, gone) = (wake(), wake());
        cancel.notify(&waits);
        cancel.notify(&gone);
        drop(gone);
        cancel.clone().cancel();
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        let late = wake();
        cancel.notify(&late);
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
