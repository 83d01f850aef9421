//! `metrics.jsonl`, which is the same for every run of the same config, and `timing.jsonl`, which is not.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;

use crate::Error;

/// A row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    /// What a training step, or the steps since the last row, came to.
    Train {
        /// Steps done.
        step: u64,
        /// Passes over the data, a fraction.
        epoch: f64,
        /// Mean loss of the trained tokens since the last row, in nats.
        loss: f64,
        /// The learning rate of the last step.
        learning_rate: f64,
        /// The norm of the last step's gradients before clipping.
        grad_norm: f64,
        /// Tokens seen so far.
        tokens: u64,
        /// Tokens seen so far that carry loss.
        trained_tokens: u64,
        /// Share of the room for tokens in the last step that held none. Nothing is computed for it.
        padding_waste: f64,
        /// Share of the preferences since the last row that the model shares; present where there are preferences.
        #[serde(rename = "rewards/accuracies", skip_serializing_if = "Option::is_none")]
        reward_accuracy: Option<f64>,
    },
    /// What a validation came to.
    Validation {
        /// Steps done.
        step: u64,
        /// Passes over the data, a fraction.
        epoch: f64,
        /// Mean loss of the trained tokens of the validation data, in nats.
        val_loss: f64,
    },
}

/// A row of `timing.jsonl`.
#[derive(Debug, Serialize)]
pub(super) struct Timing {
    /// Steps done.
    pub(super) step: u64,
    /// Seconds of training so far, earlier attempts included.
    pub(super) seconds: f64,
    /// Tokens per second since the last row.
    pub(super) tokens_per_s: f64,
    /// Tokens that carry loss per second since the last row.
    pub(super) trained_tokens_per_s: f64,
    /// Model FLOPs utilisation: the operations of the model since the last row, as a share of what the machine does
    /// in that time in a plain product of matrices.
    pub(super) mfu: f64,
    /// Main memory of the process, where the system tells.
    pub(super) memory_bytes: Option<u64>,
    /// Seconds to the last step, at the speed since the last row.
    pub(super) seconds_left: f64,
}

/// A file of JSON lines that can be cut back to where a saved state knew it.
#[derive(Debug)]
pub(super) struct Log {
    file: fs_err::File,
    bytes: u64,
}

impl Log {
    /// Opens a file and drops what was written after its first `bytes`.
    ///
    /// # Errors
    /// Fails when the file is shorter than that or cannot be opened.
    pub(super) fn open(path: &Path, bytes: u64) -> Result<Self, Error> {
        let mut file =
            fs_err::OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        let found = file.metadata()?.len();
        if found < bytes {
            let problem = format!("has {found} bytes, the saved state knows of {bytes}");
            return Err(Error::State { path: path.to_owned(), problem });
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, bytes })
    }

    /// Appends a row.
    pub(super) fn append(&mut self, row: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_string(row).map_err(std::io::Error::from)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Makes what was appended durable and returns the length of the file.
    pub(super) fn sync(&mut self) -> Result<u64, Error> {
        self.file.sync_data()?;
        Ok(self.bytes)
    }
}
