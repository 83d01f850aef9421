//! The training loop.

use nexa_core::event::Event;
use nexa_core::format;

use super::batches::{Batches, MicroBatch, StepData};
use super::checkpoints::Checkpoints;
use super::clock::Clock;
use super::flops::{self, Flops};
use super::metrics::{Log, Row};
use super::plan::Plan;
use super::schedule::learning_rate;
use super::watchdog::Watchdog;
use super::workers::Workers;
use super::{End, Outcome, Session, best};
use crate::data::Set;
use crate::objective::Objective;
use crate::optimizer::{self, Step, global_norm};
use crate::state::{Progress, State, Validation, generations};
use crate::trackers::Trackers;
use crate::{Config, Error};

/// A run in memory.
pub(super) struct Run<'a> {
    pub(super) config: &'a Config,
    pub(super) session: &'a Session<'a>,
    pub(super) trackers: Option<&'a Trackers<'a>>,
    pub(super) plan: Plan,
    pub(super) watchdog: Watchdog,
    pub(super) flops: Flops,
    pub(super) batches: Batches,
    pub(super) objective: Objective,
    pub(super) validation: Validating,
    pub(super) workers: Workers,
    pub(super) checkpoints: Checkpoints,
    pub(super) metrics: Log,
    pub(super) timing: Log,
    pub(super) clock: Clock,
    pub(super) state: State,
}

/// What a model is validated with.
#[derive(Debug)]
pub(crate) struct Validating {
    /// The samples; none, where the model is not validated.
    pub(crate) set: Set,
    /// What is computed on them.
    pub(crate) objective: Objective,
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
                self.checkpoints.copy(best.step, self.session.output)?;
                validation = Some(best);
            }
            _ => self.checkpoints.write(self.session.output, &self.state.model)?,
        }
        let progress = &self.state.progress;
        Ok(Outcome {
            steps: progress.step,
            epochs: self.epoch(),
            datasets: self.batches.datasets(),
            tokens: progress.tokens,
            trained_tokens: progress.trained_tokens,
            parameters: self.state.model.weights().count(),
            trained_parameters: self.state.model.trained_count(),
            first_loss: progress.first_loss.unwrap_or(f64::NAN),
            last_loss: progress.last_loss.unwrap_or(f64::NAN),
            validation,
            best,
            seconds: self.state.measured.seconds,
            precision: self.state.model.placement().precision().to_owned(),
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
            // A state that may be on its way to an explosion is not the last good one.
            if self.plan.saves_after(step) && self.state.progress.above_threshold == 0 {
                self.save()?;
            }
        }
        Ok(End::LastStep)
    }

    /// Moves the weights once.
    fn step(&mut self) -> Result<(), Error> {
        let step = self.state.progress.step;
        let data = self.batches.step(step);
        // A step's sum is divided by what it is a sum over, trained tokens for most objectives, so that a micro-batch
        // weighs as much as it has of them.
        let terms: u64 = data.micro_batches.iter().map(|micro_batch| self.objective.terms(micro_batch)).sum();
        let decoder = self.state.model.decoder(self.config);
        let after_each = self.session.after_micro_batch;
        let sums = self.workers.sums(&decoder, &self.objective, &data.micro_batches, after_each);
        // While the decoder shares the weights, changing them would copy them.
        drop(decoder);
        let loss = sums.loss / terms as f64;
        let grad_norm = global_norm(sums.gradients.iter().map(|gradient| &**gradient)) / terms as f64;
        let learning_rate = learning_rate(self.config, &self.plan, step);
        if let Some(problem) = self.watchdog.observe(&mut self.state.progress, loss, grad_norm) {
            let error = self.diverged(problem, &data);
            // The curve shows the explosion. Whoever goes on from a saved state cuts this row off again.
            if loss.is_finite() && grad_norm.is_finite() {
                let progress = &mut self.state.progress;
                progress.step += 1;
                (progress.logged_loss, progress.logged_terms) = (sums.loss, terms);
                self.log(learning_rate, grad_norm, data.padding_waste)?;
            }
            return Err(error);
        }

        let clip = optimizer::clip(self.config.max_grad_norm, grad_norm);
        let State { model, optimizer, progress, .. } = &mut self.state;
        let update = Step { number: step + 1, learning_rate, scale: clip / terms as f64 };
        optimizer.update_all(model.values_mut(), sums.gradients, &update);

        progress.step += 1;
        progress.tokens += data.tokens();
        progress.trained_tokens += data.trained_tokens();
        progress.first_loss.get_or_insert(loss);
        progress.last_loss = Some(loss);
        progress.logged_loss += sums.loss;
        progress.logged_terms += terms;
        progress.logged_shared += sums.shared_preferences;
        self.clock.count(self.flops.step(&data));
        self.report(loss);
        let step = self.state.progress.step;
        if step == 1 || step == self.plan.total || step.is_multiple_of(self.config.logging_steps) {
            self.log(learning_rate, grad_norm, data.padding_waste)?;
        }
        Ok(())
    }

    /// What is said about a step whose loss is not sound.
    fn diverged(&self, problem: String, data: &StepData) -> Error {
        let states = generations::paths(self.session.workspace).unwrap_or_default();
        Error::Diverged {
            step: self.state.progress.step + 1,
            problem,
            samples: self.batches.names(data),
            last_good: states.into_iter().next(),
        }
    }

    fn epoch(&self) -> f64 {
        self.state.progress.step as f64 / self.plan.steps_per_epoch
    }

    fn log(&mut self, learning_rate: f64, grad_norm: f64, padding_waste: f64) -> Result<(), Error> {
        let epoch = self.epoch();
        let progress = &mut self.state.progress;
        let terms = progress.logged_terms as f64;
        let loss = progress.logged_loss / terms;
        let is_preference = matches!(self.objective, Objective::Preference(_));
        let reward_accuracy = is_preference.then_some(progress.logged_shared as f64 / terms);
        (progress.logged_loss, progress.logged_terms, progress.logged_shared) = (0.0, 0, 0);
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
            reward_accuracy,
        })?;
        self.timing.append(&self.clock.row(
            &self.state.progress,
            self.plan.total,
            flops::peak(self.state.model.placement()),
        ))?;
        if let Some(trackers) = self.trackers {
            trackers.relay_events();
        }
        Ok(())
    }

    /// Tells how far the run is.
    fn report(&self, loss: f64) {
        let progress = &self.state.progress;
        let speed = format::count(self.clock.tokens_per_s(progress) as u64);
        let note = format!("loss {loss:.3}  {speed} tokens/s");
        self.session.events.emit(Event::progress(progress.step, Some(self.plan.total), "steps", note));
    }

    /// Computes the loss of the validation data, and keeps the model if it is the best so far.
    fn validate(&mut self) -> Result<(), Error> {
        let Validating { set, objective } = &self.validation;
        if set.is_empty() {
            return Ok(());
        }
        let decoder = self.state.model.decoder(self.config);
        let (mut sum, mut terms) = (0.0, 0);
        let all: Vec<usize> = (0..set.len()).collect();
        for samples in all.chunks(self.config.micro_batch_size) {
            let micro_batch = MicroBatch::new(set, samples.to_vec());
            sum += objective.loss(&decoder, &micro_batch);
            terms += objective.terms(&micro_batch);
        }
        drop(decoder);
        let (step, epoch, loss) = (self.state.progress.step, self.epoch(), sum / terms as f64);
        self.metrics.append(&Row::Validation { step, epoch, val_loss: loss })?;
        self.session.events.emit(Event::info(format!("step {step}: validation loss {loss:.4}")));
        let State { model, progress, .. } = &mut self.state;
        if best::record(self.config, progress, Validation { step, loss }) {
            self.checkpoints.keep(progress, model, true)?;
        }
        Ok(())
    }

    /// Keeps the model and makes the run durable.
    fn save(&mut self) -> Result<(), Error> {
        let State { model, progress, .. } = &mut self.state;
        self.checkpoints.keep(progress, model, false)?;
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
