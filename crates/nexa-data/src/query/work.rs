//! The threads of queries, and waiting for them in a way that can be ended.

use std::future::Future;
use std::sync::Arc;

use nexa_core::Error;
use nexa_core::event::Cancel;
use nexa_core::machine::Host;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::Result;

/// Threads, and the wish to stop.
#[derive(Clone)]
pub(super) struct Work {
    runtime: Arc<Runtime>,
    cancel: Cancel,
    stopped: Arc<Notify>,
    /// Called by `cancel`, for as long as somebody holds it.
    _wake: Arc<dyn Fn() + Send + Sync>,
}

impl Work {
    /// Starts as many threads as the machine has.
    ///
    /// # Errors
    /// Fails when the system gives none.
    pub(super) fn start(cancel: Cancel) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(Host::current().threads)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|e| Error::io("start", "threads of a query", e))?;
        let stopped = Arc::new(Notify::new());
        let notified = Arc::clone(&stopped);
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || notified.notify_one());
        cancel.notify(&wake);
        Ok(Self { runtime: Arc::new(runtime), cancel, stopped, _wake: wake })
    }

    /// Waits for a piece of work, or until it should stop.
    ///
    /// # Errors
    /// Fails as the work does, or when it was interrupted.
    pub(super) fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.cancel.is_cancelled() {
            return Err(Error::Interrupted.into());
        }
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stopped.notified() => Err(Error::Interrupted.into()),
                done = work => done,
            }
        })
    }

    /// The wish to stop, for work that looks itself.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}
