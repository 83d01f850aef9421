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

/// So many steps are measured at least, where the run has them, and for at least so many seconds: their sum evens out what
/// else the machine does.
const LEAST_STEPS: u64 = 4;
const LEAST_SECONDS: f64 = 3.0;
/// So many steps are measured at most.
const MOST_STEPS: u64 = 32;
/// Bytes that are written to see how fast the disk is.
const WRITTEN: usize = 16 << 20;

/// The time of a run on this machine, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// Of those, how many were measured.
    pub measured_steps: u64,
    /// The mean step of the run, as estimated from those that were measured.
    pub step: f64,
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

/// Does some steps of the run, and scales their time by the operations of the whole run. What the optimizer of the state
/// remembers is worth nothing afterwards.
pub(super) fn measure(config: &Config, state: &mut State, parts: &Parts<'_>) -> Result<Time, Error> {
    let Parts { work, course, cache, .. } = *parts;
    let measured = Measured::of(config, state, parts);
    let flops = Flops::of(&state.model);
    let of = |size: Size| measured.passes * size.flops(&flops) / measured.size.flops(&flops);
    let update = measured.updates / measured.steps as f64 * course.total as f64;
    let training = of(work.run) + update;
    let on_the_way = (1..=course.total).filter(|&step| course.validates_after(step)).count();
    let validation = of(work.validation) * forward_share(config) * (on_the_way + 1) as f64;
    let saves = (1..=course.total).filter(|&step| course.saves_after(step)).count() + 1;
    let moments: usize = state.optimizer.state().map(|(_, values)| values.len()).sum();
    let kept = if config.save_total_limit > 0 { saves } else { 0 };
    let numbers =
        saves * (state.model.trained_count() + moments) + (kept + 1) * state.model.weights().count();
    let saving = (numbers * size_of::<f32>()) as f64 * seconds_per_byte(cache)?;
    Ok(Time {
        measured_steps: measured.steps,
        step: training / course.total.max(1) as f64,
        training,
        validation,
        saving,
        total: training + validation + saving,
    })
}

/// Steps that were done to see how long they take.
struct Measured {
    steps: u64,
    /// What they computed.
    size: Size,
    /// Seconds of their forward and backward passes.
    passes: f64,
    /// Seconds of their updates.
    updates: f64,
}

impl Measured {
    /// Does steps from the whole run, no two alike, so that each needs other amounts of memory than the one before, as
    /// in training. The first one, with the longest micro-batch, wakes the threads and touches the memory; it does not
    /// count where there are others.
    fn of(config: &Config, state: &mut State, parts: &Parts<'_>) -> Self {
        let Parts { set, objective, workers, work, course, .. } = *parts;
        let mut order = set.order(config);
        let mut measured = Self { steps: 0, size: Size::default(), passes: 0.0, updates: 0.0 };
        for (index, step) in spread(work.longest_step, course.total).enumerate() {
            let picked = order.step(step);
            let size = picked.iter().flatten().map(|&sample| Size::of(set, sample));
            let size = size.fold(Size::default(), Size::plus);
            let micro_batches: Vec<MicroBatch> =
                picked.into_iter().map(|samples| MicroBatch::new(set, samples)).collect();
            let terms: u64 = micro_batches.iter().map(|micro_batch| objective.terms(micro_batch)).sum();
            let decoder = state.model.decoder(config);
            let started = Instant::now();
            let gradients = workers.sums(&decoder, objective, &micro_batches, &|| {}).gradients;
            let passes = started.elapsed().as_secs_f64();
            drop(decoder);
            let State { model, optimizer, .. } = &mut *state;
            // A rate of zero does all the work and moves nothing.
            let step = Step { number: 1, learning_rate: 0.0, scale: 1.0 / terms.max(1) as f64 };
            optimizer.update_all(model.values_mut(), gradients, &step);
            if index == 0 && course.total > 1 {
                continue;
            }
            measured.steps += 1;
            measured.size = measured.size.plus(size);
            measured.passes += passes;
            measured.updates += started.elapsed().as_secs_f64() - passes;
            if measured.steps >= LEAST_STEPS && measured.passes + measured.updates >= LEAST_SECONDS {
                break;
            }
        }
        measured
    }
}

/// The first step to be done, and then steps that lie apart, of which any number from the beginning stands for all.
fn spread(first: u64, total: u64) -> impl Iterator<Item = u64> {
    // The fractional parts of the multiples of the golden ratio fill the unit interval evenly, however many are taken.
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let others = (1..=MOST_STEPS).map(move |index| (index as f64 * GOLDEN).fract());
    std::iter::once(first).chain(others.map(move |share| (share * total as f64) as u64))
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
