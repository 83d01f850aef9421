//! How long a run takes on this machine.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::counts::{Size, Work};
use crate::data::Set;
use crate::objective::Objective;
use crate::optimizer::Step;
use crate::run::{Flops, MicroBatch, Plan, Workers};
use crate::state::State;
use crate::{Config, Error};

/// The step is done at least so often, and for at least so many seconds: its mean evens out what else the machine does.
const LEAST_STEPS: u32 = 2;
const LEAST_SECONDS: f64 = 2.0;
/// Bytes that are written to see how fast the disk is.
const WRITTEN: usize = 16 << 20;

/// The time of a run on this machine, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// The measured step, that with the longest micro-batch: the mean of several times.
    pub measured_step: f64,
    /// Steps.
    pub training: f64,
    /// Validations.
    pub validation: f64,
    /// Saved states and models.
    pub saving: f64,
    /// All of it.
    pub total: f64,
}

/// What time is measured with.
pub(super) struct Parts<'a> {
    pub(super) set: &'a Set,
    pub(super) objective: &'a Objective,
    pub(super) workers: &'a Workers,
    pub(super) work: &'a Work,
    pub(super) course: &'a Plan,
    /// A folder on the disk that a run writes to.
    pub(super) cache: &'a Path,
}

/// Does the step with the longest micro-batch, and scales its time by the operations of the whole run. What the
/// optimizer of the state remembers is worth nothing afterwards.
pub(super) fn measure(config: &Config, state: &mut State, parts: &Parts<'_>) -> Result<Time, Error> {
    let Parts { set, objective, workers, work, course, cache } = *parts;
    let picked = set.order(config).step(work.longest_step);
    let micro_batches: Vec<MicroBatch> =
        picked.into_iter().map(|samples| MicroBatch::new(set, samples)).collect();
    let terms: u64 = micro_batches.iter().map(|micro_batch| objective.terms(micro_batch)).sum();

    let (mut passes, mut update, mut tries) = (0.0, 0.0, 0);
    loop {
        let decoder = state.model.decoder(config);
        let started = Instant::now();
        let gradients = workers.sums(&decoder, objective, &micro_batches, &|| {}).gradients;
        let passed = started.elapsed().as_secs_f64();
        drop(decoder);
        let State { model, optimizer, .. } = &mut *state;
        // A rate of zero does all the work and moves nothing.
        let step = Step { number: 1, learning_rate: 0.0, scale: 1.0 / terms.max(1) as f64 };
        optimizer.update_all(model.values_mut(), gradients, &step);
        // The first step wakes the threads and touches the memory; it does not count.
        if tries > 0 {
            passes += passed;
            update += started.elapsed().as_secs_f64() - passed;
        }
        tries += 1;
        if tries > LEAST_STEPS && passes + update >= LEAST_SECONDS {
            break;
        }
    }
    let counted = f64::from(tries - 1);
    let (passes, update) = (passes / counted, update / counted);

    let flops = Flops::of(&state.model);
    let of = |size: Size| passes * size.flops(&flops) / work.step.flops(&flops);
    let training = of(work.run) + update * course.total as f64;
    let on_the_way = (1..=course.total).filter(|&step| course.validates_after(step)).count();
    let validation = of(work.validation) * forward_share(config) * (on_the_way + 1) as f64;
    let saves = (1..=course.total).filter(|&step| course.saves_after(step)).count() + 1;
    let moments: usize = state.optimizer.state().map(|(_, values)| values.len()).sum();
    let kept = if config.save_total_limit > 0 { saves } else { 0 };
    let numbers =
        saves * (state.model.trained_count() + moments) + (kept + 1) * state.model.weights().count();
    let saving = (numbers * size_of::<f32>()) as f64 * seconds_per_byte(cache)?;
    Ok(Time {
        measured_step: passes + update,
        training,
        validation,
        saving,
        total: training + validation + saving,
    })
}

/// The forward pass's share of a step. Each product of the forward pass is followed by one for its input and one for
/// its weight, of which the latter falls away where weights are frozen; recomputed blocks do the forward pass twice.
fn forward_share(config: &Config) -> f64 {
    let backward = if config.adapter.is_some() { 1.0 } else { 2.0 };
    let again = if config.gradient_checkpointing { 1.0 } else { 0.0 };
    1.0 / (1.0 + backward + again)
}

/// Measures how long a byte takes to be written durably.
fn seconds_per_byte(folder: &Path) -> Result<f64, Error> {
    let bytes: Vec<u8> = (0..WRITTEN).map(|index| (index % 251) as u8).collect();
    let started = Instant::now();
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(started.elapsed().as_secs_f64() / WRITTEN as f64)
}
