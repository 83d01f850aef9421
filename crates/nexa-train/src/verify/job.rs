//! A run as a file, which another process reads and does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nexa_core::event::{Cancel, EventSink};
use nexa_core::files;
use nexa_core::table::Tables;
use serde::{Deserialize, Serialize};

use crate::{Config, Error, Inputs, Outcome, Session, train};

/// What a process says when its job pauses.
pub const PAUSED: &str = "paused";

/// A run for another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// How the model is trained.
    pub config: Config,
    /// On what.
    pub inputs: Inputs,
    /// The run's workspace.
    pub workspace: PathBuf,
    /// Where the model goes.
    pub output: PathBuf,
    /// Stands still for ever when so many micro-batches are done.
    pub pause_after: Option<u64>,
}

impl Job {
    /// Reads a job.
    ///
    /// # Errors
    /// Fails when the file cannot be read or is no job.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(files::read_json(path)?)
    }

    /// Writes the job to a folder and returns its file.
    pub(super) fn write(&self, folder: &Path) -> Result<PathBuf, Error> {
        let path = folder.join("job.json");
        files::write_json(&path, self)?;
        Ok(path)
    }

    /// Does the job. Where it is to pause, `announce` is called, and it never returns.
    ///
    /// # Errors
    /// As [`train`].
    pub fn run(
        &self,
        announce: &(dyn Fn() + Sync),
        tables: &dyn Tables,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Outcome, Error> {
        let done = AtomicU64::new(0);
        let after_micro_batch = || {
            if Some(done.fetch_add(1, Ordering::SeqCst) + 1) == self.pause_after {
                announce();
                loop {
                    std::thread::park();
                }
            }
        };
        let session = Session {
            workspace: &self.workspace,
            output: &self.output,
            events,
            cancel,
            tables,
            environment: None,
            after_micro_batch: &after_micro_batch,
        };
        train(&self.config, &self.inputs, &session)
    }
}
