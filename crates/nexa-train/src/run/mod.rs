//! A training run: what goes in, what comes out, and how a run begins or goes on.
//!
//! [`prepare`] reads what a run begins with, and the loop itself is in [`steps`]. Beside it stand what it asks: [`plan`]
//! for how long and how often, [`schedule`] for the learning rate, [`batches`] for the data, [`workers`] for gradients,
//! [`watchdog`] for whether the loss is sound, [`best`] for which validation was the best, [`checkpoints`] for the models
//! that are kept, [`tracking`] for who is told.

mod batches;
mod best;
mod checkpoints;
mod clock;
mod fingerprint;
mod flops;
mod metrics;
mod plan;
mod prepare;
mod schedule;
mod steps;
mod tracking;
mod watchdog;
mod workers;

use std::path::{Path, PathBuf};

use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, EventSink, NoEvents};
use nexa_core::table::Tables;
use nexa_model::{ChatTokenizer, Checkpoint, Weights};
use serde::{Deserialize, Serialize};

use self::batches::Batches;
pub(crate) use self::batches::MicroBatch;
use self::checkpoints::Checkpoints;
use self::clock::Clock;
pub(crate) use self::clock::{peak_memory_bytes, resident_bytes};
pub(crate) use self::flops::{Flops, peak as peak_flops};
use self::metrics::Log;
pub(crate) use self::plan::Plan;
pub(crate) use self::prepare::{Prepared, prepare};
use self::steps::Run;
pub use self::tracking::tracking_of;
use self::watchdog::Watchdog;
pub(crate) use self::workers::Workers;
use crate::data::{DataFile, DatasetCounts};
use crate::state::{State, generations};
use crate::{Config, Error, Validation};

/// Losses, learning rates and norms: the same for every run of the same config and data.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";
/// When the rows of metrics came.
pub(crate) const TIMING_FILE: &str = "timing.jsonl";

/// The files that training reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The training data: a file of each data set.
    pub train: Vec<DataFile>,
    /// Validation data; none where it is to be taken from the training data, if at all.
    pub validation: Vec<DataFile>,
    /// A folder with a tokenizer; that of `base` where absent.
    pub tokenizer: Option<PathBuf>,
    /// The model to go on from; one of random weights where absent.
    pub base: Option<PathBuf>,
    /// What adapters call that model: where it lies in its lab, so that equal runs write equal files wherever the lab is.
    /// Its path where absent.
    pub base_name: Option<String>,
    /// The teacher of a distillation.
    pub teacher: Option<PathBuf>,
    /// Where tokenised data and what a reference model said are kept.
    pub cache: PathBuf,
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
    /// Reads data files that are not lines of JSON.
    pub tables: &'a dyn Tables,
    /// Where trackers find services and keys; without it, none follows the run.
    pub environment: Option<&'a Environment>,
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
    /// What each data set gives to an epoch.
    pub datasets: Vec<DatasetCounts>,
    /// Tokens seen.
    pub tokens: u64,
    /// Tokens seen that carry loss.
    pub trained_tokens: u64,
    /// Weights of the model, tied ones once.
    pub parameters: usize,
    /// Numbers that were trained: all weights, or those of the adapters.
    pub trained_parameters: usize,
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
    /// The numbers that products were computed in: `f32` or `bf16`.
    pub precision: String,
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
    let Prepared { config, tokenizer, set, validation, objective, model, fingerprint } =
        prepare(config, inputs, session.tables, events)?;
    let config = &config;
    let mut state = State::new(config, model, fingerprint)?;
    if let Some(stored) = generations::newest(session.workspace, events)? {
        state.restore(stored)?;
        events.emit(Event::info(format!("going on after step {}", state.progress.step)));
    }
    fs_err::create_dir_all(session.workspace)?;
    let mut batches = Batches::new(config, set);
    batches.tell(events);
    let metrics = Log::open(&session.workspace.join(METRICS_FILE), state.progress.metrics_bytes)?;
    let timing = Log::open(&session.workspace.join(TIMING_FILE), state.measured.timing_bytes)?;
    // They begin with what the logs hold, so the logs must have been cut back to the state.
    let trackers = tracking::start(config, session)?;
    let run = Run {
        config,
        session,
        trackers: trackers.as_ref(),
        plan: Plan::new(config, batches.order()),
        watchdog: Watchdog::new(config, state.model.weights().config().vocab_size),
        flops: Flops::of(&state.model),
        batches,
        objective,
        validation,
        workers: Workers::new(&state.model, config.gradient_accumulation_steps)?,
        checkpoints: Checkpoints::new(session.workspace, config, tokenizer, &state.progress),
        metrics,
        timing,
        clock: Clock::new(&state),
        state,
    };
    let result = run.finish();
    tracking::finish(trackers, &result);
    result
}

impl<'a> Session<'a> {
    /// A session that nobody watches or stops.
    pub fn silent(workspace: &'a Path, output: &'a Path, cancel: &'a Cancel, tables: &'a dyn Tables) -> Self {
        Self {
            workspace,
            output,
            events: &NoEvents,
            cancel,
            tables,
            environment: None,
            after_micro_batch: &|| {},
        }
    }
}
