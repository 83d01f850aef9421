//! How a stage runs: the one door through which every artifact is made, from a pipeline or from a single command.
//!
//! [`execute`] computes the key of the work, skips it where an artifact of that key exists, otherwise opens or resumes
//! a run, hands the stage a workspace that survives kills and an empty draft, and commits the draft with its manifest.

mod events;
mod execute;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

pub use execute::{execute, existing, key, unfinished_run};

use crate::artifact::{Artifact, Counts, Kind};
use crate::cost::{Charge, Entry, Ledger};
use crate::env::Environment;
use crate::event::{Cancel, Event, EventSink};
use crate::lab::{Lab, Project};
use crate::table::Tables;
use crate::{Diagnose, Error, Result};

/// An error of any stage.
pub type StageError = Box<dyn Diagnose>;

impl<E: Diagnose> From<E> for StageError {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// One kind of work: inputs and a configuration in, one artifact out.
pub trait Stage: Send + Sync {
    /// The word for it in pipelines and records: `distill.collect`.
    fn name(&self) -> &'static str;

    /// The kind of artifact that it makes.
    fn kind(&self) -> Kind;

    /// Raised whenever the same inputs and configuration would give another result than before.
    fn code_version(&self) -> u32;

    /// The resolved configuration: everything that determines the result, and nothing else.
    fn config(&self) -> Value;

    /// The seed of every random choice.
    fn seed(&self) -> u64 {
        0
    }

    /// Files from outside the lab that it reads.
    fn outside_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Files that it reads because they belong to one of its inputs, such as the labels of reviewers.
    ///
    /// # Errors
    /// Fails when it cannot be told which files those are.
    fn files_beside(&self, inputs: &Inputs) -> Result<Vec<PathBuf>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The device that it computes on.
    fn device(&self) -> String {
        "cpu".to_owned()
    }

    /// Does the work: writes files into `context.output` and states facts through `context`.
    ///
    /// # Errors
    /// Whatever goes wrong; the draft is dropped then, the workspace is kept for the next attempt.
    fn run(&self, context: &Context<'_>) -> Result<(), StageError>;
}

/// Every file that a stage reads beside its inputs, in the order in which its key holds them.
///
/// # Errors
/// As [`Stage::files_beside`].
pub fn files_read(stage: &dyn Stage, inputs: &Inputs) -> Result<Vec<PathBuf>> {
    let mut paths = stage.outside_files();
    paths.extend(stage.files_beside(inputs)?);
    Ok(paths)
}

/// The inputs of a stage, by the role that each plays.
#[derive(Debug, Clone, Default)]
pub struct Inputs(BTreeMap<String, Artifact>);

impl Inputs {
    /// No inputs.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, role: &str, artifact: Artifact) -> Self {
        self.0.insert(role.to_owned(), artifact);
        self
    }

    /// The input of a role, if it was given.
    pub fn get(&self, role: &str) -> Option<&Artifact> {
        self.0.get(role)
    }

    /// The input of a role.
    ///
    /// # Errors
    /// Fails, naming those that were given, when there is none.
    pub fn require(&self, role: &str) -> Result<&Artifact> {
        self.0.get(role).ok_or_else(|| {
            let given = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::NotFound {
                what: "input",
                name: role.to_owned(),
                hint: Some(format!(
                    "the stage was given: {}",
                    if given.is_empty() { "nothing" } else { &given }
                )),
            }
        })
    }

    /// All inputs, by role.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Artifact)> {
        self.0.iter().map(|(role, artifact)| (role.as_str(), artifact))
    }
}

/// What the binary provides to stages.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// Variables and keys.
    pub environment: &'a Environment,
    /// Readers and writers of tables.
    pub tables: &'a dyn Tables,
    /// Where events are shown.
    pub events: &'a dyn EventSink,
    /// Whether the user wants to stop.
    pub cancel: &'a Cancel,
}

/// What a stage works with.
pub struct Context<'a> {
    /// What the binary provides. Its `events` go to the run's `events.jsonl` as well.
    pub services: Services<'a>,
    /// The project.
    pub project: &'a Project,
    /// The inputs; their content has been verified.
    pub inputs: &'a Inputs,
    /// The run's folder: kept between attempts, for whatever makes resuming possible, and for `metrics.jsonl`.
    pub workspace: &'a Path,
    /// The draft's folder: empty at the start of each attempt; its files become the artifact.
    pub output: &'a Path,
    facts: Mutex<Facts>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Facts {
    counts: Counts,
    summary: BTreeMap<String, Value>,
}

impl Context<'_> {
    /// States how many rows the artifact holds.
    pub fn set_rows(&self, rows: u64) {
        self.facts().counts.rows = Some(rows);
    }

    /// States how many tokens the artifact holds.
    pub fn set_tokens(&self, tokens: u64) {
        self.facts().counts.tokens = Some(tokens);
    }

    /// States a fact for the manifest's summary.
    ///
    /// # Errors
    /// Fails when the value cannot be JSON.
    pub fn state(&self, name: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|e| Error::malformed(self.output, format!("summary `{name}`: {e}")))?;
        self.facts().summary.insert(name.to_owned(), value);
        Ok(())
    }

    /// Records what was used and spent, durably. A resumed run's earlier entries are kept.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written.
    pub fn spend(&self, entry: &Entry) -> Result<()> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(entry)
    }

    /// Records what certain calls used and cost, as [`spend`](Self::spend) does.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written.
    pub fn charge(&self, charge: &Charge) -> Result<()> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).charge(charge)
    }

    /// Stops the work where the user wants to.
    ///
    /// # Errors
    /// Fails with [`Error::Interrupted`] then.
    pub fn check_cancel(&self) -> Result<()> {
        if self.services.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.services.events.emit(event);
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What is to be done.
pub struct Request<'a> {
    /// The project.
    pub project: &'a Project,
    /// The name of the artifact, without version.
    pub name: &'a str,
    /// The inputs.
    pub inputs: &'a Inputs,
    /// Makes a new version even where one of the same key exists, from the beginning.
    pub force: bool,
}

/// How a stage ended well.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An artifact of this key exists; nothing was done.
    UpToDate(Artifact),
    /// The artifact was made in this run.
    Made(Artifact),
}

impl Outcome {
    /// The artifact.
    pub fn artifact(&self) -> &Artifact {
        match self {
            Self::UpToDate(artifact) | Self::Made(artifact) => artifact,
        }
    }
}
