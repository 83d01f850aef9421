//! What a run will take, before it is begun: counts, memory and time.
//!
//! Counts follow from the configuration and the data, `counts`. Memory is summed up from what the decoder is known to
//! keep, `memory`, and is at least what some real steps took. Time is that of these steps, measured here and now, and
//! scaled by the floating-point operations of all, `time`.

mod counts;
mod memory;
mod time;

use nexa_core::event::EventSink;
use nexa_core::table::Tables;
use serde::Serialize;

pub use self::counts::Counts;
pub use self::memory::Memory;
pub use self::time::Time;
use crate::run::{Plan, Workers, peak_memory_bytes, prepare, resident_bytes};
use crate::state::State;
use crate::{Config, Error, Inputs};

/// What a run will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Numbers of the model, of the data and of the run.
    pub counts: Counts,
    /// Main memory at the run's fullest moment.
    pub memory: Memory,
    /// Time on this machine.
    pub time: Time,
}

/// Finds out what a run of a configuration would take. It prepares the run as training does, which fills the cache
/// that training reads, and does some steps that lead nowhere.
///
/// # Errors
/// Fails where the run would: on an impossible config, and on a model or data that cannot be read or trained on.
pub fn estimate(
    config: &Config,
    inputs: &Inputs,
    tables: &dyn Tables,
    events: &dyn EventSink,
) -> Result<Estimate, Error> {
    let prepared = prepare(config, inputs, tables, events)?;
    let config = &prepared.config.clone();
    let resident = resident_bytes();
    let mut order = prepared.set.order(config);
    let course = Plan::new(config, &mut order);
    let work = counts::Work::of(&prepared, &mut order, &course);
    let workers = Workers::new(&prepared.model, config.gradient_accumulation_steps)?;
    let mut state = State::new(config, prepared.model, String::new())?;
    let mut memory = Memory::of(config, inputs, &state, &work, workers.count())?;
    memory.add_program(resident);
    let counts = work.counts(&state.model, &course);
    let time = time::measure(
        config,
        &mut state,
        &time::Parts {
            set: &prepared.set,
            objective: &prepared.objective,
            workers: &workers,
            work: &work,
            course: &course,
            cache: &inputs.cache,
        },
    )?;
    memory.correct(peak_memory_bytes());
    Ok(Estimate { counts, memory, time })
}
