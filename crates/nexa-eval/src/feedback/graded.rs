//! Which answers of an evaluation feedback is about: those that are right or wrong.

use nexa_core::artifact::Artifact;

use crate::facts::summary;
use crate::task::Task;
use crate::{Error, Evaluation, Result};

/// The name in a feedback's manifest under which its tasks stand.
pub(super) const TASKS: &str = "tasks";

/// Whether the only task is the one over a held-out split.
pub(super) fn is_held_out(tasks: &[String]) -> bool {
    matches!(tasks, [only] if only == Task::ExactMatch.as_str())
}

/// Leaves an evaluation the graded answers of some tasks alone: those that are named, else those of the held-out split where
/// there are any, else all. The domains of tasks of the harness become `task` and `task/domain`. Returns the tasks.
///
/// # Errors
/// Fails where a task that is named graded no document as right or wrong, and where none did.
pub(super) fn keep(evaluation: &mut Evaluation, named: &[String]) -> Result<Vec<String>> {
    let mut graded: Vec<String> = Vec::new();
    for one in evaluation.predictions.iter().filter(|one| one.correct.is_some()) {
        if !graded.contains(&one.task) {
            graded.push(one.task.clone());
        }
    }
    let held_out = Task::ExactMatch.as_str().to_owned();
    let tasks = match named {
        [] if graded.contains(&held_out) => vec![held_out],
        [] => graded,
        named => {
            if let Some(missing) = named.iter().find(|name| !graded.contains(name)) {
                return Err(not_graded(evaluation, missing, &graded));
            }
            named.to_vec()
        }
    };
    if tasks.is_empty() {
        return Err(not_graded(evaluation, "any task", &tasks));
    }
    evaluation.predictions.retain(|one| one.correct.is_some() && tasks.contains(&one.task));
    for one in evaluation.predictions.iter_mut().filter(|one| one.task != Task::ExactMatch.as_str()) {
        one.domain = Some(match &one.domain {
            Some(domain) => format!("{}/{domain}", one.task),
            None => one.task.clone(),
        });
    }
    Ok(tasks)
}

/// The tasks that a feedback is about; one that an earlier version made is about the held-out split.
pub(super) fn of_feedback(feedback: &Artifact) -> Result<Vec<String>> {
    if !feedback.manifest.summary.contains_key(TASKS) {
        return Ok(vec![Task::ExactMatch.as_str().to_owned()]);
    }
    summary(feedback, TASKS)
}

fn not_graded(evaluation: &Evaluation, task: &str, graded: &[String]) -> Error {
    Error::NotGraded {
        evaluation: evaluation.id().to_string(),
        task: task.to_owned(),
        graded: graded.to_vec(),
    }
}
