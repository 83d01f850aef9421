//! A training run: what goes in, what comes out, and how a run begins or goes on.
//!
//! The loop itself is in [`steps`]. Beside it stand what it asks: [`plan`] for how long and how often, [`schedule`]
//! for the learning rate, [`batches`] for the data, [`workers`] for gradients, [`watchdog`] for whether the loss is
//! sound, [`best`] for which validation was the best, [`checkpoints`] for the models that are kept.

mod batches;
mod best;
mod checkpoints;
mod clock;
mod fingerprint;
mod flops;
mod metrics;
mod plan;
mod schedule;
mod steps;
mod watchdog;
mod workers;

use std::path::{Path, PathBuf};

use nexa_core::event::{Cancel, Event, EventSink, NoEvents};
use nexa_model::{ChatTokenizer, Checkpoint, Weights};
use serde::{Deserialize, Serialize};

use self::batches::Batches;
use self::checkpoints::Checkpoints;
use self::clock::Clock;
use self::flops::Flops;
use self::metrics::Log;
use self::plan::Plan;
use self::steps::Run;
use self::watchdog::Watchdog;
use self::workers::Workers;
use crate::state::{State, generations};
use crate::{Config, Error, Validation, data};

/// Losses, learning rates and norms: the same for every run of the same config and data.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";
/// When the rows of metrics came.
const TIMING_FILE: &str = "timing.jsonl";

/// The files that training reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// SFT data: one JSON object with `messages` a line.
    pub train: PathBuf,
    /// Validation data of the same form.
    pub validation: Option<PathBuf>,
    /// A folder with a tokenizer.
    pub tokenizer: PathBuf,
}

/// Where a run works, whom it tells and who may stop it.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// Receives the states, `checkpoints/`, `metrics.jsonl` and `timing.jsonl`, and survives kills.
    pub workspace: &'a Path,
    /// Receives the finished model.
    pub output: &'a Path,
    /// Where events go.
    pub events: &'a dyn EventSink,
    /// Asks the run to stop before its next step, with its state saved.
    pub cancel: &'a Cancel,
    /// Is called after every micro-batch of training, by the thread that computed it.
    pub after_micro_batch: &'a (dyn Fn() + Sync),
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every step was done.
    LastStep,
    /// `max_time_s` was over.
    Time,
    /// `early_stopping_patience` was.
    NoGain,
}

/// What training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Steps done.
    pub steps: u64,
    /// Passes over the data, a fraction.
    pub epochs: f64,
    /// Tokens seen.
    pub tokens: u64,
    /// Tokens seen that carry loss.
    pub trained_tokens: u64,
    /// Weights of the model, tied ones once.
    pub parameters: usize,
    /// Mean loss of the first step, in nats a trained token.
    pub first_loss: f64,
    /// Mean loss of the last step, in nats a trained token.
    pub last_loss: f64,
    /// Validation of the model that was written.
    pub validation: Option<Validation>,
    /// The best validation on the way or at the end.
    pub best: Option<Validation>,
    /// Seconds of training and validation, earlier attempts included.
    pub seconds: f64,
    /// Why it ended.
    pub end: End,
}

/// Writes the untrained model that [`train`] starts from, so that it can be evaluated as a baseline.
///
/// # Errors
/// Fails on an impossible config, an unreadable tokenizer or an unwritable folder.
pub fn initialise(config: &Config, tokenizer: &Path, output: &Path, seed: u64) -> Result<(), Error> {
    config.check()?;
    let tokenizer = ChatTokenizer::load(tokenizer)?;
    let weights = Weights::random(&config.decoder(&tokenizer)?, seed)?;
    Ok(Checkpoint::save(output, &weights, &tokenizer)?)
}

/// Trains a model and writes it to the session's output.
///
/// When the workspace holds a state of the same config and data, training goes on from there; the result is the same
/// as if it had never stopped.
///
/// # Errors
/// Fails on an impossible config, on data that cannot be read or trained on, when the loss explodes or stops being a
/// number, and with [`Error::Interrupted`] when the session is cancelled; the state is saved then.
pub fn train(config: &Config, inputs: &Inputs, session: &Session<'_>) -> Result<Outcome, Error> {
    let events = session.events;
    config.check()?;
    let tokenizer = ChatTokenizer::load(&inputs.tokenizer)?;
    let decoder_config = config.decoder(&tokenizer)?;
    let samples = data::load(&inputs.train, config, &tokenizer, events)?;
    let (samples, validation) = match &inputs.validation {
        Some(path) => (samples, data::load(path, config, &tokenizer, events)?),
        None => data::split(samples, config),
    };

    let fingerprint = fingerprint::of(config, &decoder_config.to_json(), &[&samples, &validation]);
    let weights = Weights::random(&decoder_config, config.seed)?;
    let mut state = State::new(config, weights, fingerprint)?;
    if let Some(stored) = generations::newest(session.workspace, events)? {
        state.restore(stored)?;
        events.emit(Event::info(format!("going on after step {}", state.progress.step)));
    }
    fs_err::create_dir_all(session.workspace)?;
    let mut batches = Batches::new(config, samples);
    let run = Run {
        config,
        session,
        plan: Plan::new(config, &mut batches),
        watchdog: Watchdog::new(config, decoder_config.vocab_size),
        flops: Flops::of(&state.weights),
        batches,
        validation,
        workers: Workers::new(&state.weights, config.gradient_accumulation_steps)?,
        checkpoints: Checkpoints::new(session.workspace, config, tokenizer, &state.progress),
        metrics: Log::open(&session.workspace.join(METRICS_FILE), state.progress.metrics_bytes)?,
        timing: Log::open(&session.workspace.join(TIMING_FILE), state.measured.timing_bytes)?,
        clock: Clock::new(&state),
        state,
    };
    run.finish()
}

impl<'a> Session<'a> {
    /// A session that nobody watches or stops.
    pub fn silent(workspace: &'a Path, output: &'a Path, cancel: &'a Cancel) -> Self {
        Self { workspace, output, events: &NoEvents, cancel, after_micro_batch: &|| {} }
    }
}
