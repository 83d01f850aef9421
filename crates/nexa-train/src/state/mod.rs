//! Everything that a run needs to go on after a kill: weights, optimizer, and where it stands in data and logs.
//!
//! [`file`] is the format, [`generations`] keeps the newest two on disk.

pub(crate) mod file;
pub(crate) mod generations;

use std::path::Path;

use nexa_model::Parameter;
use serde::{Deserialize, Serialize};

use self::file::Stored;
use crate::model::Model;
use crate::optimizer::{self, Optimizer};
use crate::{Config, Error};

/// A run between two steps.
#[derive(Debug)]
pub(crate) struct State {
    /// The model, of which what is trained belongs to the state.
    pub(crate) model: Model,
    /// The update rule with its moments.
    pub(crate) optimizer: Optimizer,
    /// Counters and sums.
    pub(crate) progress: Progress,
    /// What a clock or another attempt would give otherwise.
    pub(crate) measured: Measured,
}

/// The part of a state that is no tensor and that the config and the data determine. Floats are written so that they
/// are read back to the same bits.
///
/// The data need no more of a cursor than the step, and nothing else is random: every draw is keyed by the seed and
/// by what it is for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Says to which config and data the state belongs.
    pub(crate) fingerprint: String,
    /// Steps done.
    pub(crate) step: u64,
    /// Tokens seen.
    pub(crate) tokens: u64,
    /// Tokens seen that carry loss.
    pub(crate) trained_tokens: u64,
    /// Mean loss of the first step.
    pub(crate) first_loss: Option<f64>,
    /// Mean loss of the last step.
    pub(crate) last_loss: Option<f64>,
    /// The last validation.
    pub(crate) validation: Option<Validation>,
    /// The best validation.
    pub(crate) best: Option<Validation>,
    /// The loss of the last validation that was a gain.
    pub(crate) last_gain: Option<f64>,
    /// Validations since that one.
    pub(crate) without_gain: u64,
    /// Steps in a row whose loss was above the watchdog's threshold.
    pub(crate) above_threshold: u64,
    /// Steps whose checkpoints are kept, ascending.
    pub(crate) checkpoints: Vec<u64>,
    /// Summed loss since the last row of metrics.
    pub(crate) logged_loss: f64,
    /// What that loss is a sum over: trained tokens or preferences.
    pub(crate) logged_terms: u64,
    /// Preferences since the last row of metrics that the model shares.
    pub(crate) logged_shared: u64,
    /// Length of `metrics.jsonl`.
    pub(crate) metrics_bytes: u64,
}

/// A validation that was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps done before it.
    pub step: u64,
    /// Mean loss of the trained tokens of the validation data, in nats.
    pub loss: f64,
}

/// The part of a state that differs between two runs of the same config and data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Length of `timing.jsonl`.
    pub(crate) timing_bytes: u64,
    /// Seconds of training.
    pub(crate) seconds: f64,
}

impl State {
    /// The state of a run that has not begun.
    pub(crate) fn new(config: &Config, model: Model, fingerprint: String) -> Result<Self, Error> {
        Ok(Self {
            optimizer: Optimizer::new(config, &model.parameters())?,
            model,
            progress: Progress { fingerprint, ..Progress::default() },
            measured: Measured::default(),
        })
    }

    /// Writes the state to a file, durably.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let parameters = self.model.parameters();
        let tensors = parameters
            .iter()
            .zip(self.model.values())
            .map(|(parameter, values)| (weight_name(parameter), &**values))
            .chain(self.optimizer.state())
            .collect();
        file::write(path, tensors, &self.progress, &self.measured)
    }

    /// Takes over what a file holds.
    ///
    /// # Errors
    /// Fails when the file is of another run, or lacks a tensor.
    pub(crate) fn restore(&mut self, stored: Stored) -> Result<(), Error> {
        if stored.progress.fingerprint != self.progress.fingerprint {
            return Err(Error::OtherRun { path: stored.path });
        }
        let tensors = stored.tensors()?;
        let names: Vec<String> = self.model.parameters().iter().map(weight_name).collect();
        for (name, values) in names.iter().zip(self.model.values_mut()) {
            tensors.copy_into(name, values)?;
        }
        for (name, values) in self.optimizer.state_mut() {
            tensors.copy_into(&name, values)?;
        }
        self.progress = stored.progress;
        self.measured = stored.measured;
        Ok(())
    }
}

fn weight_name(parameter: &Parameter) -> String {
    format!("weight.{}", optimizer::name(parameter))
}
