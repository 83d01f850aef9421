//! What the lab holds, with a file that cannot be read reported beside the others rather than instead of them.

use std::path::Path;

use chrono::{DateTime, Utc};
use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::cost::{Ledger, Spend};
use nexa_core::lab::Lab;
use nexa_core::run::{self, RunId, RunRecord, Status};
use serde::Serialize;

use crate::Result;
use crate::format::Cost;

const MANIFEST_SUFFIX: &str = ".manifest.json";

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The file, relative to the lab.
    pub(crate) file: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl Problem {
    fn new(lab: &Lab, path: &Path, error: &dyn std::error::Error) -> Self {
        Self { file: lab.display_path(path), message: error.to_string() }
    }
}

/// What was found, and what could not be read.
#[derive(Debug)]
pub(crate) struct Scan<T> {
    pub(crate) found: Vec<T>,
    pub(crate) problems: Vec<Problem>,
}

/// How a run stands, a killed one told from one at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunStatus {
    Running,
    Killed,
    Finished,
    Failed,
    Interrupted,
}

impl RunStatus {
    /// Every status, in the order in which filters offer them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Running, Self::Finished, Self::Failed, Self::Interrupted, Self::Killed];

    /// How a run stands now.
    pub(crate) fn of(record: &RunRecord, lab: &Lab) -> Self {
        match record.status {
            Status::Running if record.is_alive(lab) => Self::Running,
            Status::Running => Self::Killed,
            Status::Finished => Self::Finished,
            Status::Failed => Self::Failed,
            Status::Interrupted => Self::Interrupted,
        }
    }

    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Killed => "killed",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run as a row of a table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    pub(crate) stage: String,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) status: RunStatus,
    pub(crate) started_at: DateTime<Utc>,
    /// Time of all its attempts; what a killed one took is not known until it is resumed.
    pub(crate) seconds: Option<f64>,
    pub(crate) cost: Cost,
    pub(crate) output: Option<ArtifactId>,
}

impl RunRow {
    /// The row of a run.
    pub(crate) fn new(record: &RunRecord, lab: &Lab, now: DateTime<Utc>) -> Self {
        let status = RunStatus::of(record, lab);
        Self {
            id: record.id.to_string(),
            stage: record.stage.clone(),
            project: record.project.clone(),
            name: record.name.clone(),
            status,
            started_at: record.started_at,
            seconds: seconds(record, status, now),
            cost: Cost::of_run(&spend(record, lab), matches!(status, RunStatus::Running | RunStatus::Killed)),
            output: record.output.clone(),
        }
    }
}

/// What a run cost; of an unclosed one, what its ledger says so far.
pub(crate) fn spend(record: &RunRecord, lab: &Lab) -> Spend {
    if record.status != Status::Running {
        return record.spend.clone();
    }
    // A ledger that cannot be read leaves what the record says, which is that nothing is known yet.
    Ledger::total(&run::folder(lab, &record.id)).unwrap_or_else(|_| record.spend.clone())
}

fn seconds(record: &RunRecord, status: RunStatus, now: DateTime<Utc>) -> Option<f64> {
    let mut total = None;
    for attempt in &record.attempts {
        let end = attempt.ended_at.or((status == RunStatus::Running).then_some(now));
        if let Some(end) = end {
            *total.get_or_insert(0.0) += (end - attempt.started_at).as_seconds_f64().max(0.0);
        }
    }
    total
}

/// The record of a run.
///
/// # Errors
/// Fails when there is no such run, or its record cannot be read.
pub(crate) fn run(lab: &Lab, id: &RunId) -> Result<RunRecord> {
    let folder = run::folder(lab, id);
    if !folder.join("run.json").is_file() {
        let hint = Some("`nexa runs list` shows what there is".to_owned());
        return Err(nexa_core::Error::NotFound { what: "run", name: id.to_string(), hint }.into());
    }
    Ok(RunRecord::read(&folder)?)
}

/// Every run, newest first.
///
/// # Errors
/// Fails when the folder of runs cannot be listed.
pub(crate) fn runs(lab: &Lab) -> Result<Scan<RunRecord>> {
    let mut scan = Scan { found: Vec::new(), problems: Vec::new() };
    for name in names(&lab.runs_folder())? {
        let folder = lab.runs_folder().join(&name);
        let file = folder.join("run.json");
        if file.is_file() {
            match RunRecord::read(&folder) {
                Ok(record) => scan.found.push(record),
                Err(error) => scan.problems.push(Problem::new(lab, &file, &error)),
            }
        }
    }
    scan.found.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(scan)
}

/// Every artifact of every project, in the order of kinds.
///
/// # Errors
/// Fails when a folder cannot be listed.
pub(crate) fn artifacts(lab: &Lab) -> Result<Scan<Artifact>> {
    let store = Store::new(lab);
    let mut scan = Scan { found: Vec::new(), problems: Vec::new() };
    for project in lab.projects()? {
        for kind in Kind::ALL {
            let folder = lab.root().join(kind.folder(&project));
            for name in names(&folder)? {
                let Some(stem) = name.strip_suffix(MANIFEST_SUFFIX) else { continue };
                match format!("{project}/{stem}").parse().and_then(|id| store.get(&id)) {
                    Ok(artifact) => scan.found.push(artifact),
                    Err(error) => scan.problems.push(Problem::new(lab, &folder.join(&name), &error)),
                }
            }
        }
    }
    Ok(scan)
}

/// The names in a folder, sorted; a folder that is missing is empty.
fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |e| nexa_core::Error::io("list", folder, e);
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e).into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
