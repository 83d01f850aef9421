//! What the lab holds, in the form of the pages: a file that cannot be read is reported beside the others.

use chrono::{DateTime, Utc};
use nexa_core::artifact::ArtifactId;
use nexa_core::lab::Lab;
use nexa_core::run::{Run, State};
use nexa_core::scan::Unreadable;
use serde::Serialize;

use crate::format::Cost;

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The file, relative to the lab.
    pub(crate) file: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// The problems of a scan, as pages show them.
pub(crate) fn problems(lab: &Lab, unreadable: &[Unreadable]) -> Vec<Problem> {
    let problem = |found: &Unreadable| Problem {
        file: lab.display_path(&found.path),
        message: found.error.to_string(),
    };
    unreadable.iter().map(problem).collect()
}

/// A run as a row of a table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    pub(crate) stage: String,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) status: State,
    pub(crate) started_at: DateTime<Utc>,
    /// Time of all its attempts; what a killed one took is not known until it is resumed.
    pub(crate) seconds: Option<f64>,
    pub(crate) cost: Cost,
    pub(crate) output: Option<ArtifactId>,
}

impl RunRow {
    /// The row of a run.
    pub(crate) fn new(run: &Run, now: DateTime<Utc>) -> Self {
        let record = &run.record;
        Self {
            id: record.id.to_string(),
            stage: record.stage.clone(),
            project: record.project.clone(),
            name: record.name.clone(),
            status: run.state,
            started_at: record.started_at,
            seconds: seconds(run, now),
            cost: Cost::of_run(&record.spend, run.state.is_open()),
            output: record.output.clone(),
        }
    }
}

fn seconds(run: &Run, now: DateTime<Utc>) -> Option<f64> {
    let mut total = None;
    for attempt in &run.record.attempts {
        let end = attempt.ended_at.or((run.state == State::Running).then_some(now));
        if let Some(end) = end {
            *total.get_or_insert(0.0) += (end - attempt.started_at).as_seconds_f64().max(0.0);
        }
    }
    total
}
