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
use nexa_core::lm::Tokenizer as _;
use nexa_core::table::{JsonLines, Tables};
use nexa_model::{ChatTokenizer, Checkpoint, Weights};
use serde::{Deserialize, Serialize};

use self::batches::Batches;
pub(crate) use self::batches::MicroBatch;
use self::checkpoints::Checkpoints;
use self::clock::Clock;
pub(crate) use self::clock::peak_memory_bytes;
pub(crate) use self::flops::{Flops, peak as peak_flops};
use self::metrics::Log;
use self::plan::Plan;
use self::steps::{Run, Validating};
use self::watchdog::Watchdog;
use self::workers::Workers;
use crate::data::{Samples, Set, Source, load_tokenizer};
use crate::model::Model;
use crate::objective::{self, Objective, Sources};
use crate::state::{State, generations};
use crate::{Config, Error, Validation};

/// Losses, learning rates and norms: the same for every run of the same config and data.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";
/// When the rows of metrics came.
pub(crate) const TIMING_FILE: &str = "timing.jsonl";

/// The files that training reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// SFT data: one JSON object with `messages` a line.
    pub train: PathBuf,
    /// Validation data of the same form.
    pub validation: Option<PathBuf>,
    /// A folder with a tokenizer; that of `base` where absent.
    pub tokenizer: Option<PathBuf>,
    /// The model to go on from; one of random weights where absent.
    pub base: Option<PathBuf>,
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
    let (tokenizer, weights) = starting_point(config, inputs)?;
    let open = |path: &PathBuf| {
        let options = config.data_options(path);
        let source = Source { path, options: &options, tokenizer: &tokenizer, tables: session.tables };
        let cache = config.dataset_prepared_path.as_ref().unwrap_or(&inputs.cache);
        Samples::open(&source, cache, events).map(Set::new)
    };
    let set = open(&inputs.train)?;
    let (set, validation) = match &inputs.validation {
        Some(path) => (set, open(path)?),
        None => set.split(config),
    };
    if let Some(teacher) = &inputs.teacher {
        objective::check_vocabulary(&tokenizer, &ChatTokenizer::load(teacher)?)?;
    }

    let initial_hash = weights.content_hash();
    let sets = [set.fingerprint(), validation.fingerprint()];
    let teacher_hash = inputs.teacher.as_deref().map(hash_of_weights).transpose()?.unwrap_or_default();
    let parts = [
        &weights.config().to_json(),
        initial_hash.as_str(),
        sets[0].as_str(),
        sets[1].as_str(),
        &teacher_hash,
    ];
    let fingerprint = fingerprint::of(config, &parts);
    let model = Model::new(config, weights)?;
    let initial = model.decoder(config);
    let sources = Sources {
        initial: &initial,
        initial_hash: initial_hash.as_str(),
        teacher: inputs.teacher.as_deref(),
        cache: &inputs.cache,
        events,
    };
    let objective = Objective::new(config, &set, &sources)?;
    let validation =
        Validating { objective: Objective::new(config, &validation, &sources)?, set: validation };
    drop(initial);

    let mut state = State::new(config, model, fingerprint)?;
    if let Some(stored) = generations::newest(session.workspace, events)? {
        state.restore(stored)?;
        events.emit(Event::info(format!("going on after step {}", state.progress.step)));
    }
    fs_err::create_dir_all(session.workspace)?;
    let mut batches = Batches::new(config, set);
    let gradient_bytes = state.model.trained_count() * size_of::<f32>();
    let run = Run {
        config,
        session,
        plan: Plan::new(config, batches.order()),
        watchdog: Watchdog::new(config, state.model.weights().config().vocab_size),
        flops: Flops::of(&state.model),
        batches,
        objective,
        validation,
        workers: Workers::new(gradient_bytes, config.gradient_accumulation_steps)?,
        checkpoints: Checkpoints::new(session.workspace, config, tokenizer, &state.progress),
        metrics: Log::open(&session.workspace.join(METRICS_FILE), state.progress.metrics_bytes)?,
        timing: Log::open(&session.workspace.join(TIMING_FILE), state.measured.timing_bytes)?,
        clock: Clock::new(&state),
        state,
    };
    run.finish()
}

/// The tokenizer and the weights before the first step.
fn starting_point(config: &Config, inputs: &Inputs) -> Result<(ChatTokenizer, Weights), Error> {
    let folder = inputs.tokenizer.as_ref().or(inputs.base.as_ref()).ok_or_else(|| Error::Config {
        key: "model",
        problem: "needs a tokenizer: give one the role `tokenizer`, or a model to go on from the role `base`"
            .to_owned(),
    })?;
    let tokenizer = load_tokenizer(config, folder)?;
    let Some(base) = &inputs.base else {
        let weights = Weights::random(&config.decoder(&tokenizer)?, config.seed)?;
        return Ok((tokenizer, weights));
    };
    let weights = Checkpoint::load(base)?.weights;
    let decoder = weights.config();
    let fail = |key, problem: String| Err(Error::Config { key, problem });
    if tokenizer.vocab_size() > decoder.vocab_size {
        let (tokens, rows) = (tokenizer.vocab_size(), decoder.vocab_size);
        return fail("model", format!("has {rows} tokens, fewer than the {tokens} of the tokenizer"));
    }
    if config.sequence_len > decoder.max_position_embeddings {
        let (length, most) = (config.sequence_len, decoder.max_position_embeddings);
        return fail("sequence_len", format!("is {length}, more than the {most} positions of the model"));
    }
    Ok((tokenizer, weights))
}

fn hash_of_weights(folder: &Path) -> Result<String, Error> {
    Ok(Checkpoint::load(folder)?.weights_hash)
}

impl<'a> Session<'a> {
    /// A session that nobody watches or stops.
    pub fn silent(workspace: &'a Path, output: &'a Path, cancel: &'a Cancel) -> Self {
        Self { workspace, output, events: &NoEvents, cancel, tables: &JsonLines, after_micro_batch: &|| {} }
    }
}
