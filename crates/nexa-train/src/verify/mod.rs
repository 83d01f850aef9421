//! Proof that a run which is killed and resumed ends as one that was never disturbed.
//!
//! [`resume`] trains twice on the same config and data: once straight through, and once in a child process that is
//! killed at a random micro-batch and started again. [`compare_runs`] then holds weights, optimizer, progress and
//! metrics together, bit for bit. As a check that cannot fail proves nothing, a trial can also break what the resumed
//! run restores; then it must find a difference.

mod compare;
mod job;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::files;
use nexa_core::table::Tables;

pub use self::compare::{Comparison, compare_metrics, compare_runs};
pub use self::job::{Job, PAUSED};
use crate::state::{file, generations};
use crate::{Config, Error, Inputs, Session, train};

/// Steps between two saves of a trial.
const SAVE_STEPS: u64 = 2;
/// The fewest steps of a trial: two before the first save, and one to be killed in after it.
pub const LEAST_STEPS: u64 = SAVE_STEPS + 2;

/// What is to be tried.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// How the model is trained.
    pub config: &'a Config,
    /// On what.
    pub inputs: &'a Inputs,
    /// Reads data files that are not lines of JSON.
    pub tables: &'a dyn Tables,
    /// A folder for both runs; what is in it is removed.
    pub folder: &'a Path,
    /// Steps of each run, at least [`LEAST_STEPS`].
    pub steps: u64,
    /// Forgets the optimizer's state between the kill and the resumption, so that a difference must be found.
    pub breaks_restore: bool,
}

/// What a trial found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Steps of each run.
    pub steps: u64,
    /// Micro-batches that were done when the process was killed.
    pub killed_after: u64,
    /// How the two runs compare.
    pub comparison: Comparison,
}

/// Runs a trial. `launch` makes the command that reads a [`Job`] from a file, does it, and prints [`PAUSED`] on a line
/// of its own when the job pauses.
///
/// # Errors
/// Fails when a run cannot be done, and with [`Error::Child`] when the child does not pause or finish.
pub fn resume(
    trial: &Trial<'_>,
    launch: &dyn Fn(&Path) -> Command,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<Report, Error> {
    let config = bounded(trial);
    config.check()?;
    files::remove(trial.folder)?;
    let job = |name: &str| {
        let workspace = trial.folder.join(name);
        let output = workspace.join("output");
        files::create_folder(&output)?;
        let (config, inputs) = (config.clone(), trial.inputs.clone());
        Ok::<_, Error>(Job { config, inputs, workspace, output, pause_after: None })
    };
    let (straight, mut disturbed) = (job("straight")?, job("disturbed")?);
    let (workspace, output) = (&straight.workspace, &straight.output);
    train(
        &config,
        trial.inputs,
        &Session { events, ..Session::silent(workspace, output, cancel, trial.tables) },
    )?;

    let killed_after = kill_point(&config, trial.steps.max(LEAST_STEPS));
    events.emit(Event::info(format!("killing the second run after micro-batch {killed_after}")));
    disturbed.pause_after = Some(killed_after);
    kill_when_paused(launch(&disturbed.write(trial.folder)?))?;
    if trial.breaks_restore {
        forget_optimizer(&disturbed.workspace)?;
    }
    disturbed.pause_after = None;
    let path = disturbed.write(trial.folder)?;
    let status = launch(&path).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(Error::Child(format!("the resumed process ended with {status}")));
    }
    let comparison = compare_runs(&straight.workspace, &disturbed.workspace)?;
    Ok(Report { steps: trial.steps.max(LEAST_STEPS), killed_after, comparison })
}

/// The same training, cut to a few steps with a row of metrics each, and with validations, where there is something to
/// validate on, and saves between them.
fn bounded(trial: &Trial<'_>) -> Config {
    let Trial { config, inputs, .. } = *trial;
    let validates = !inputs.validation.is_empty() || config.val_set_size > 0.0;
    Config {
        max_steps: Some(trial.steps.max(LEAST_STEPS)),
        max_tokens: None,
        max_time_s: None,
        logging_steps: 1,
        eval_steps: validates.then_some(SAVE_STEPS + 1),
        load_best_model_at_end: validates && config.load_best_model_at_end,
        evals_per_epoch: None,
        save_steps: Some(SAVE_STEPS),
        saves_per_epoch: None,
        // A run that ends early has no moment left to be killed at.
        early_stopping_patience: None,
        ..config.clone()
    }
}

/// Draws the micro-batch after which the run is killed: after the first save and before the last step is done.
fn kill_point(config: &Config, steps: u64) -> u64 {
    let in_a_step = config.gradient_accumulation_steps as u64;
    let (first, last) = (SAVE_STEPS * in_a_step + 1, steps * in_a_step - 1);
    let hash = blake3::hash(format!("kill point of seed {}", config.seed).as_bytes());
    let draw = hash.as_bytes().iter().take(7).fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    first + draw % (last - first + 1)
}

/// Starts a process, waits until it says that it has paused, and kills it.
fn kill_when_paused(mut command: Command) -> Result<(), Error> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().map(BufReader::new);
    let has_paused = output.is_some_and(|output| output.lines().map_while(Result::ok).any(|l| l == PAUSED));
    // SIGKILL on Unix: nothing in the process can react to it.
    let killed = child.kill();
    let status = child.wait()?;
    if !has_paused {
        return Err(Error::Child(format!("it ended before it was killed, with {status}")));
    }
    Ok(killed?)
}

/// Sets the optimizer's part of every saved state to zero, as a program would leave it that forgets to restore it.
fn forget_optimizer(workspace: &Path) -> Result<(), Error> {
    for path in generations::paths(workspace)? {
        let stored = file::read(&path)?;
        let mut tensors = stored.tensors()?.copied();
        for (name, values) in &mut tensors {
            if !name.starts_with("weight.") {
                values.fill(0.0);
            }
        }
        let tensors = tensors.iter().map(|(name, values)| (name.clone(), values.as_slice()));
        file::write(&path, tensors.collect(), &stored.progress, &stored.measured)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kill_lies_between_the_first_save_and_the_end() {
        for gradient_accumulation_steps in [1, 4] {
            for seed in 0..100 {
                let config = Config { seed, gradient_accumulation_steps, ..Config::default() };
                let point = kill_point(&config, 6);
                let in_a_step = gradient_accumulation_steps as u64;
                assert!(point > 2 * in_a_step && point < 6 * in_a_step, "{point}");
            }
        }
    }
}
