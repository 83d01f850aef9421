//! Why another tool's numbers differ from ours: its samples held against those of an evaluation, item by item.
//!
//! | module | what it does |
//! |---|---|
//! | `samples` | reads `samples_<task>.jsonl`, theirs and ours |
//! | `pairs` | finds the items that are the same |
//! | `cause` | says what the first difference of two items is |
//! | `prompt` | what differs between two prompts |
//! | `report` | counts causes, and what each adds to the difference of a metric |
//! | `settings` | what the results beside their samples say of the run, against ours |
//!
//! What comes first explains what follows from it: of an item whose prompt differs, nothing is said of its answer. What no
//! text shows, such as a token before it or a context that is shorter, is told by the settings of both sides, as far as they
//! state them. Nothing is asked of any model.

mod cause;
mod pairs;
mod prompt;
mod report;
mod samples;
mod settings;

use std::path::Path;

use nexa_core::artifact::Artifact;

use crate::harness::samples_file;
use crate::{Error, Evaluation, Result};

pub use cause::Cause;
pub use report::{CauseFound, Effect, Example, MetricDifference, Reconciliation};
pub use settings::{Setting, SettingDifference};

use samples::Samples;

/// Explains how another tool's samples of a task differ from those of an evaluation. The task is told by the name of the file
/// where none is given, or is the only one of the evaluation.
///
/// # Errors
/// Fails with file and line where the samples are of another shape, with the file where the results beside them are, and where
/// the task was not evaluated or no item is the same.
pub fn reconcile(theirs: &Path, ours: &Evaluation, task: Option<&str>) -> Result<Reconciliation> {
    let task = task_of(theirs, ours, task)?;
    let their_samples = Samples::read(theirs)?;
    let our_samples = Samples::read(&our_file(&ours.artifact, &task)?)?;
    let pairs = pairs::pairs(&their_samples, &our_samples);
    if pairs.is_empty() {
        return Err(Error::Reconcile {
            path: theirs.to_owned(),
            message: format!(
                "none of its {} items is one of {} of task `{task}`",
                their_samples.count(),
                ours.id()
            ),
        });
    }
    let settings = settings::differences(theirs, ours, &task)?;
    Ok(report::report(task, ours.id(), (&their_samples, &our_samples), &pairs).with_settings(settings))
}

fn our_file(evaluation: &Artifact, task: &str) -> Result<std::path::PathBuf> {
    Ok(evaluation.file(&samples_file(task))?)
}

/// The task that samples are of.
fn task_of(theirs: &Path, ours: &Evaluation, named: Option<&str>) -> Result<String> {
    let known: Vec<&String> = ours.facts.questions.keys().collect();
    let wrong = |message: String| Error::Reconcile { path: theirs.to_owned(), message };
    let listed = || known.iter().map(|task| task.as_str()).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        return Err(wrong(format!("{} has no task of the harness to hold it against", ours.id())));
    }
    if let Some(named) = named {
        let is_known = known.iter().any(|task| *task == named);
        let message = || format!("{} did not evaluate `{named}`; it did: {}", ours.id(), listed());
        return is_known.then(|| named.to_owned()).ok_or_else(|| wrong(message()));
    }
    let stem = theirs.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_named = |task: &&&String| {
        let ours = samples_file(task);
        let ours = ours.trim_end_matches(".jsonl");
        stem == ours || stem.starts_with(&format!("{ours}_"))
    };
    match (known.iter().filter(is_named).max_by_key(|task| task.len()), known.as_slice()) {
        (Some(task), _) => Ok((**task).clone()),
        (None, [only]) if !stem.starts_with("samples_") => Ok((*only).clone()),
        _ => {
            Err(wrong(format!("its name tells no task that {} evaluated; name one: {}", ours.id(), listed())))
        }
    }
}
