//! The training loop.

use burn::tensor::Device;
use nexa_core::event::Event;
use nexa_model::{Batch, Decoder};

use super::batches::{Batches, StepData, batch};
use super::checkpoints::Checkpoints;
use super::clock::Clock;
use super::flops::{self, Flops};
use super::metrics::{Log, Row};
use super::plan::Plan;
use super::schedule::learning_rate;
use super::watchdog::Watchdog;
use super::workers::Workers;
use super::{End, Outcome, Session, best};
use crate::data::Sample;
use crate::optimizer::{Step, global_norm};
use crate::state::{Progress, State, Validation, generations};
use crate::{Config, Error};

/// A run in memory.
pub(super) struct Run<'a> {
    pub(super) config: &'a Config,
    pub(super) session: &'a Session<'a>,
    pub(super) plan: Plan,
    pub(super) watchdog: Watchdog,
    pub(super) flops: Flops,
    pub(super) batches: Batches,
    pub(super) validation: Vec<Sample>,
    pub(super) workers: Workers,
    pub(super) checkpoints: Checkpoints,
    pub(super) metrics: Log,
    pub(super) timing: Log,
    pub(super) clock: Clock,
    pub(super) state: State,
}

/// Loss and gradients of a whole step, summed over its trained tokens.
struct Sums {
    loss: f64,
    gradients: Vec<Vec<f32>>,
}

impl Run<'_> {
    /// Does what is left of the run and writes the model.
    pub(super) fn finish(mut self) -> Result<Outcome, Error> {
        let end = self.steps()?;
        let step = self.state.progress.step;
        if self.state.progress.validation.is_none_or(|validation| validation.step != step) {
            self.validate()?;
        }
        self.save()?;
        self.checkpoints.finished()?;

        let Progress { best, mut validation, .. } = self.state.progress;
        match best {
            Some(best) if self.config.load_best_model_at_end && best.step != step => {
                let text = format!("the model of step {} is the best and the result", best.step);
                self.session.events.emit(Event::info(text));
                self.checkpoints.write(self.session.output, &self.checkpoints.load(best.step)?)?;
                validation = Some(best);
            }
            _ => self.checkpoints.write(self.session.output, &self.state.weights)?,
        }
        let progress = &self.state.progress;
        Ok(Outcome {
            steps: progress.step,
            epochs: self.epoch(),
            tokens: progress.tokens,
            trained_tokens: progress.trained_tokens,
            parameters: self.state.weights.count(),
            first_loss: progress.first_loss.unwrap_or(f64::NAN),
            last_loss: progress.last_loss.unwrap_or(f64::NAN),
            validation,
            best,
            seconds: self.state.measured.seconds,
            end,
        })
    }

    /// Steps until there is a reason to end.
    fn steps(&mut self) -> Result<End, Error> {
        while self.state.progress.step < self.plan.total {
            if best::is_patience_over(self.config, &self.state.progress) {
                return Ok(End::NoGain);
            }
            if self.session.cancel.is_cancelled() {
                self.save_state()?;
                return Err(Error::Interrupted { step: self.state.progress.step });
            }
            if self.config.max_time_s.is_some_and(|limit| self.clock.seconds() >= limit) {
                return Ok(End::Time);
            }
            self.step()?;
            let step = self.state.progress.step;
            if self.plan.validates_after(step) {
                self.validate()?;
            }
            if self.plan.saves_after(step) {
                self.save()?;
            }
        }
        Ok(End::LastStep)
    }

    /// Moves the weights once.
    fn step(&mut self) -> Result<(), Error> {
        let step = self.state.progress.step;
        let data = self.batches.step(step);
        let trained = data.trained_tokens as f64;
        // Sums over tokens are divided by the trained tokens of the whole step, so that a micro-batch weighs as much
        // as it has of them.
        let sums = self.sums(&data);
        let loss = sums.loss / trained;
        let grad_norm = global_norm(sums.gradients.iter().map(Vec::as_slice)) / trained;
        if let Some(problem) = self.watchdog.observe(&mut self.state.progress, loss, grad_norm) {
            return Err(self.diverged(problem, &data));
        }

        let limit = self.config.max_grad_norm;
        let clip = if limit > 0.0 && grad_norm > limit { limit / grad_norm } else { 1.0 };
        let learning_rate = learning_rate(self.config, &self.plan, step);
        let State { weights, optimizer, progress, .. } = &mut self.state;
        let update = Step { number: step + 1, learning_rate, scale: clip / trained };
        for (index, (values, gradient)) in weights.values_mut().iter_mut().zip(sums.gradients).enumerate() {
            optimizer.update(index, values, &gradient, &update);
        }
        self.workers.set(weights);

        progress.step += 1;
        progress.tokens += data.tokens;
        progress.trained_tokens += data.trained_tokens;
        progress.first_loss.get_or_insert(loss);
        progress.last_loss = Some(loss);
        progress.logged_loss += sums.loss;
        progress.logged_tokens += data.trained_tokens;
        self.clock.count(self.flops.step(&data));
        self.report(loss);
        let step = self.state.progress.step;
        if step == 1 || step == self.plan.total || step.is_multiple_of(self.config.logging_steps) {
            self.log(learning_rate, grad_norm, data.padding_waste())?;
        }
        Ok(())
    }

    /// Computes the micro-batches of a step and adds them up in their order.
    fn sums(&self, data: &StepData) -> Sums {
        let mut sums = Sums { loss: 0.0, gradients: Vec::new() };
        let results = self.workers.loss_and_gradients(&data.micro_batches, self.session.after_micro_batch);
        for (loss, gradients) in results {
            sums.loss += f64::from(loss);
            if sums.gradients.is_empty() {
                sums.gradients = gradients;
                continue;
            }
            for (sums, gradients) in sums.gradients.iter_mut().zip(gradients) {
                for (sum, gradient) in sums.iter_mut().zip(gradients) {
                    *sum += gradient;
                }
            }
        }
        sums
    }

    /// What is said about a step whose loss is not sound.
    fn diverged(&self, problem: String, data: &StepData) -> Error {
        let states = generations::paths(self.session.workspace).unwrap_or_default();
        Error::Diverged {
            step: self.state.progress.step + 1,
            problem,
            samples: data.sample_ids.join(", "),
            last_good: states.into_iter().next(),
        }
    }

    fn epoch(&self) -> f64 {
        let seen = self.state.progress.step as f64 * self.config.samples_per_step() as f64;
        seen / self.batches.samples() as f64
    }

    fn log(&mut self, learning_rate: f64, grad_norm: f64, padding_waste: f64) -> Result<(), Error> {
        let epoch = self.epoch();
        let progress = &mut self.state.progress;
        let loss = progress.logged_loss / progress.logged_tokens as f64;
        (progress.logged_loss, progress.logged_tokens) = (0.0, 0);
        let Progress { step, tokens, trained_tokens, .. } = *progress;
        self.metrics.append(&Row::Train {
            step,
            epoch,
            loss,
            learning_rate,
            grad_norm,
            tokens,
            trained_tokens,
            padding_waste,
        })?;
        self.timing.append(&self.clock.row(&self.state.progress, self.plan.total, flops::peak()))
    }

    /// Tells how far the run is.
    fn report(&self, loss: f64) {
        let progress = &self.state.progress;
        let speed = thousands(self.clock.tokens_per_s(progress) as u64);
        let note = format!("loss {loss:.3}  {speed} tokens/s");
        self.session.events.emit(Event::progress(progress.step, Some(self.plan.total), "steps", note));
    }

    /// Computes the loss of the validation data, and keeps the model if it is the best so far.
    fn validate(&mut self) -> Result<(), Error> {
        if self.validation.is_empty() {
            return Ok(());
        }
        // Without autodiff nothing is kept for a backward pass.
        let decoder = Decoder::new(&self.state.weights, &Device::flex());
        let (mut sum, mut trained) = (0.0, 0);
        for samples in self.validation.chunks(self.config.micro_batch_size) {
            let batch: Batch = batch(samples);
            sum += f64::from(decoder.loss(&batch).into_scalar::<f32>());
            trained += batch.trained_tokens();
        }
        let (step, epoch, loss) = (self.state.progress.step, self.epoch(), sum / trained as f64);
        self.metrics.append(&Row::Validation { step, epoch, val_loss: loss })?;
        self.session.events.emit(Event::info(format!("step {step}: validation loss {loss:.4}")));
        let State { weights, progress, .. } = &mut self.state;
        if best::record(self.config, progress, Validation { step, loss }) {
            self.checkpoints.keep(progress, weights, true)?;
        }
        Ok(())
    }

    /// Keeps the model and makes the run durable.
    fn save(&mut self) -> Result<(), Error> {
        let State { weights, progress, .. } = &mut self.state;
        self.checkpoints.keep(progress, weights, false)?;
        self.save_state()
    }

    /// Makes the run durable: first the logs, then the state that says how long they are.
    fn save_state(&mut self) -> Result<(), Error> {
        self.state.progress.metrics_bytes = self.metrics.sync()?;
        self.state.measured.timing_bytes = self.timing.sync()?;
        self.state.measured.seconds = self.clock.seconds();
        generations::save(self.session.workspace, &self.state)?;
        self.checkpoints.saved(&self.state.progress)
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
