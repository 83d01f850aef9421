//! The training loop.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nexa_core::event::{Cancel, Event, EventSink};
use nexa_model::{Batch, ChatTokenizer, Checkpoint, Decoder, Weights};
use serde::{Deserialize, Serialize};

use crate::data::{self, Sample, Stream};
use crate::metrics::{Log, Row, Timing};
use crate::optimizer::{self, Moments};
use crate::schedule::learning_rate;
use crate::state::{Progress, State};
use crate::workers::Workers;
use crate::{Config, Error};

/// The state of the run, replaced every `save_steps`.
const STATE_FILE: &str = "state.safetensors";
/// Losses, learning rates and norms.
const METRICS_FILE: &str = "metrics.jsonl";
/// When the rows of metrics came.
const TIMING_FILE: &str = "timing.jsonl";

/// The files that training reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// SFT data: one JSON object with `messages` a line.
    pub train: PathBuf,
    /// Validation data of the same form.
    pub validation: Option<PathBuf>,
    /// A folder with a tokenizer.
    pub tokenizer: PathBuf,
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
    /// Mean loss of the validation data at the end, in nats a trained token.
    pub validation_loss: Option<f64>,
    /// Seconds of training and validation, earlier attempts included.
    pub seconds: f64,
    /// Whether `max_time_s` ended the run before its last step.
    pub ended_by_time: bool,
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

/// Trains a model and writes it to `output`.
///
/// `workspace` receives the state, `metrics.jsonl` and `timing.jsonl`. When it holds a state of the same config and
/// data, training goes on from there; the result is the same as if it had never stopped.
///
/// # Errors
/// Fails on an impossible config, on data that cannot be read or trained on, when the loss stops being a number, and
/// with [`Error::Interrupted`] when `cancel` asks to stop; the state is saved then.
pub fn train(
    config: &Config,
    inputs: &Inputs,
    workspace: &Path,
    output: &Path,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<Outcome, Error> {
    config.check()?;
    let tokenizer = ChatTokenizer::load(&inputs.tokenizer)?;
    let decoder_config = config.decoder(&tokenizer)?;
    let samples = data::load(&inputs.train, config, &tokenizer, events)?;
    let (samples, validation) = match &inputs.validation {
        Some(path) => (samples, data::load(path, config, &tokenizer, events)?),
        None => data::split(samples, config),
    };

    fs_err::create_dir_all(workspace)?;
    let fingerprint = fingerprint(config, &decoder_config.to_json(), &[&samples, &validation]);
    let state_path = workspace.join(STATE_FILE);
    let state = match State::load(&state_path, &decoder_config, &fingerprint)? {
        Some(state) => {
            events.emit(Event::info(format!("going on after step {}", state.progress.step)));
            state
        }
        None => {
            let weights = Weights::random(&decoder_config, config.seed)?;
            let moments = Moments::zeros(&weights);
            State { weights, moments, progress: Progress { fingerprint, ..Progress::default() } }
        }
    };
    let run = Run {
        config,
        events,
        cancel,
        total_steps: total_steps(config, samples.len()),
        stream: Stream::new(samples.len(), config.seed),
        samples,
        validation,
        workers: Workers::new(&state.weights, config.gradient_accumulation_steps)?,
        metrics: Log::open(&workspace.join(METRICS_FILE), state.progress.metrics_bytes)?,
        timing: Log::open(&workspace.join(TIMING_FILE), state.progress.timing_bytes)?,
        state,
        state_path,
        clock: Clock { earlier: 0.0, started: Instant::now(), row_tokens: 0, row_seconds: 0.0 },
    };
    let (outcome, weights) = run.finish()?;
    Checkpoint::save(output, &weights, &tokenizer)?;
    Ok(outcome)
}

/// Counts the steps of a whole run.
fn total_steps(config: &Config, samples: usize) -> u64 {
    let per_step = config.samples_per_step() as f64;
    let steps = (config.num_epochs * samples as f64 / per_step).ceil().max(1.0) as u64;
    config.max_steps.unwrap_or(steps)
}

/// Hashes what decides the result, so that a state is never used for another run.
///
/// Keys that only say how long and how often (`max_time_s`, `save_steps`) may change between attempts.
fn fingerprint(config: &Config, decoder: &str, sets: &[&Vec<Sample>]) -> String {
    let reproducible = Config { max_time_s: None, save_steps: 1, ..config.clone() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{reproducible:?}").as_bytes());
    hasher.update(decoder.as_bytes());
    for samples in sets {
        hasher.update(&(samples.len() as u64).to_le_bytes());
        for sample in *samples {
            hasher.update(&(sample.token_ids.len() as u64).to_le_bytes());
            for (id, trained) in sample.token_ids.iter().zip(&sample.trained) {
                hasher.update(&(id << 1 | u32::from(*trained)).to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// How long training has taken; what it knows never reaches `metrics.jsonl`.
struct Clock {
    /// Seconds of earlier attempts.
    earlier: f64,
    started: Instant,
    /// Tokens and seconds at the last row.
    row_tokens: u64,
    row_seconds: f64,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.earlier + self.started.elapsed().as_secs_f64()
    }
}

/// A run in memory.
struct Run<'a> {
    config: &'a Config,
    events: &'a dyn EventSink,
    cancel: &'a Cancel,
    total_steps: u64,
    samples: Vec<Sample>,
    validation: Vec<Sample>,
    stream: Stream,
    workers: Workers,
    metrics: Log,
    timing: Log,
    state: State,
    state_path: PathBuf,
    clock: Clock,
}

impl Run<'_> {
    /// Does what is left of the run and hands the weights over.
    fn finish(mut self) -> Result<(Outcome, Weights), Error> {
        self.clock.earlier = self.state.progress.seconds;
        self.clock.row_seconds = self.state.progress.seconds;
        self.clock.row_tokens = self.state.progress.tokens;
        let mut ended_by_time = false;
        while self.state.progress.step < self.total_steps {
            if self.cancel.is_cancelled() {
                self.save()?;
                return Err(Error::Interrupted { step: self.state.progress.step });
            }
            if self.config.max_time_s.is_some_and(|limit| self.clock.seconds() >= limit) {
                ended_by_time = true;
                break;
            }
            self.step()?;
            let step = self.state.progress.step;
            let is_last = step == self.total_steps;
            if self.config.eval_steps > 0 && step.is_multiple_of(self.config.eval_steps) && !is_last {
                self.validate()?;
            }
            if step.is_multiple_of(self.config.save_steps) && !is_last {
                self.save()?;
            }
        }
        let step = self.state.progress.step;
        if self.state.progress.validation.is_none_or(|(validated, _)| validated != step) {
            self.validate()?;
        }
        self.save()?;
        let progress = &self.state.progress;
        let outcome = Outcome {
            steps: progress.step,
            epochs: self.epoch(),
            tokens: progress.tokens,
            trained_tokens: progress.trained_tokens,
            parameters: self.state.weights.count(),
            first_loss: progress.first_loss.unwrap_or(f64::NAN),
            last_loss: progress.last_loss.unwrap_or(f64::NAN),
            validation_loss: progress.validation.map(|(_, loss)| loss),
            seconds: progress.seconds,
            ended_by_time,
        };
        Ok((outcome, self.state.weights))
    }

    /// Moves the weights once.
    fn step(&mut self) -> Result<(), Error> {
        let step = self.state.progress.step;
        let batches = self.batches(step);
        let trained: usize = batches.iter().map(Batch::trained_tokens).sum();

        // Losses and gradients are sums over tokens, so that a micro-batch weighs as much as it has trained tokens.
        let mut loss_sum = 0.0;
        let mut gradients: Vec<Vec<f32>> = Vec::new();
        for (loss, new) in self.workers.loss_and_gradients(&batches) {
            loss_sum += f64::from(loss);
            if gradients.is_empty() {
                gradients = new;
            } else {
                add(&mut gradients, &new);
            }
        }
        let loss = loss_sum / trained as f64;
        let grad_norm = optimizer::global_norm(&gradients) / trained as f64;
        for (quantity, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                let learning_rate = self.config.learning_rate;
                return Err(Error::NotFinite { step: step + 1, quantity, value, learning_rate });
            }
        }

        let limit = self.config.max_grad_norm;
        let clip = if limit > 0.0 && grad_norm > limit { limit / grad_norm } else { 1.0 };
        let rate = learning_rate(self.config, step, self.total_steps);
        let State { weights, moments, progress } = &mut self.state;
        optimizer::update(self.config, weights, moments, &gradients, clip / trained as f64, rate, step + 1);
        self.workers.set(weights);

        progress.step += 1;
        progress.tokens += batches.iter().map(Batch::tokens).sum::<usize>() as u64;
        progress.trained_tokens += trained as u64;
        progress.first_loss.get_or_insert(loss);
        progress.last_loss = Some(loss);
        progress.logged_loss += loss_sum;
        progress.logged_tokens += trained as u64;
        if progress.step == 1
            || progress.step == self.total_steps
            || progress.step.is_multiple_of(self.config.logging_steps)
        {
            self.log(rate, grad_norm)?;
        }
        self.emit_progress(loss);
        Ok(())
    }

    /// Assembles the micro-batches of a step.
    fn batches(&mut self, step: u64) -> Vec<Batch> {
        let per_step = self.config.samples_per_step() as u64;
        let picked: Vec<usize> =
            (step * per_step..(step + 1) * per_step).map(|at| self.stream.at(at)).collect();
        picked
            .chunks(self.config.micro_batch_size)
            .map(|picked| batch(picked.iter().map(|&i| &self.samples[i])))
            .collect()
    }

    fn epoch(&self) -> f64 {
        let seen = self.state.progress.step as f64 * self.config.samples_per_step() as f64;
        seen / self.samples.len() as f64
    }

    fn log(&mut self, learning_rate: f64, grad_norm: f64) -> Result<(), Error> {
        let epoch = self.epoch();
        let progress = &mut self.state.progress;
        let loss = progress.logged_loss / progress.logged_tokens as f64;
        let Progress { step, tokens, .. } = *progress;
        self.metrics.append(&Row::Train { step, epoch, loss, learning_rate, grad_norm, tokens })?;
        (progress.logged_loss, progress.logged_tokens) = (0.0, 0);

        let seconds = self.clock.seconds();
        let tokens_per_s = self.tokens_per_s();
        self.timing.append(&Timing { step, seconds, tokens_per_s })?;
        (self.clock.row_tokens, self.clock.row_seconds) = (tokens, seconds);
        Ok(())
    }

    /// The speed since the last row, or since the start where that is too short ago to tell.
    fn tokens_per_s(&self) -> f64 {
        let seconds = self.clock.seconds() - self.clock.row_seconds;
        (self.state.progress.tokens - self.clock.row_tokens) as f64 / seconds.max(1e-9)
    }

    fn emit_progress(&self, loss: f64) {
        let progress = &self.state.progress;
        let fresh = progress.tokens == self.clock.row_tokens;
        let speed =
            if fresh { progress.tokens as f64 / self.clock.seconds().max(1e-9) } else { self.tokens_per_s() };
        let note = format!("loss {loss:.3}  {} tokens/s", thousands(speed as u64));
        self.events.emit(Event::progress(progress.step, Some(self.total_steps), "steps", note));
    }

    /// Computes the loss of the validation data.
    fn validate(&mut self) -> Result<(), Error> {
        if self.validation.is_empty() {
            return Ok(());
        }
        // Without autodiff nothing is kept for a backward pass.
        let decoder = Decoder::new(&self.state.weights, &burn::tensor::Device::flex());
        let (mut loss, mut trained) = (0.0, 0);
        for samples in self.validation.chunks(self.config.micro_batch_size) {
            let batch = batch(samples);
            loss += f64::from(decoder.loss(&batch).into_scalar::<f32>());
            trained += batch.trained_tokens();
        }
        let (step, epoch, val_loss) = (self.state.progress.step, self.epoch(), loss / trained as f64);
        self.metrics.append(&Row::Validation { step, epoch, val_loss })?;
        self.state.progress.validation = Some((step, val_loss));
        self.events.emit(Event::info(format!("step {step}: validation loss {val_loss:.4}")));
        Ok(())
    }

    /// Makes the run durable: first the logs, then the state that says how long they are.
    fn save(&mut self) -> Result<(), Error> {
        self.state.progress.metrics_bytes = self.metrics.sync()?;
        self.state.progress.timing_bytes = self.timing.sync()?;
        self.state.progress.seconds = self.clock.seconds();
        self.state.save(&self.state_path)
    }
}

fn batch<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Batch {
    Batch::new(samples.into_iter().map(|sample| (sample.token_ids.as_slice(), sample.trained.as_slice())))
}

fn add(sums: &mut [Vec<f32>], new: &[Vec<f32>]) {
    for (sums, new) in sums.iter_mut().zip(new) {
        for (sum, value) in sums.iter_mut().zip(new) {
            *sum += value;
        }
    }
}

/// Writes a number with commas between thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
