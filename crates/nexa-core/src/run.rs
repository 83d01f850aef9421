//! Runs: what was started, with which settings, how it ended and what it cost.

pub mod report;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactId, Parent};
use crate::cost::{Ledger, Spend};
use crate::hash::ContentHash;
use crate::lab::Lab;
use crate::machine::{Git, Host};
use crate::scan::{self, Scan};
use crate::{Error, Result, files};

/// The run record version that is written. Every older one can be read.
pub const RUN_VERSION: u64 = 1;

/// Names a run so that names sort by time and can be read: `20261124-153012-train-k3f9`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Makes a new id for a stage, from the time and four random letters or digits.
    pub fn new(stage: &str) -> Self {
        const ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
        let word = stage.rsplit('.').next().unwrap_or(stage);
        let mut random = rand::rng();
        let tail: String =
            (0..4).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
        Self(format!("{}-{word}-{tail}", Utc::now().format("%Y%m%d-%H%M%S")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::BadName {
                what: "run",
                name: text.to_owned(),
                message: "only letters, digits, `-` and `_` are allowed".to_owned(),
            })
        }
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is at work, or was killed: [`RunRecord::is_alive`] tells which.
    Running,
    /// It made its artifact.
    Finished,
    /// It ended with an error.
    Failed,
    /// The user stopped it; the same command goes on.
    Interrupted,
}

impl Status {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One process that worked on a run. A run that was killed and resumed has several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; for a killed one, when it last wrote something.
    pub ended_at: Option<DateTime<Utc>>,
    /// Its process id.
    pub pid: u32,
}

/// The record of a run: `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Format version of the record.
    pub run_version: u64,
    /// The run.
    pub id: RunId,
    /// The stage, such as `train`.
    pub stage: String,
    /// The project.
    pub project: String,
    /// The name of the artifact that it makes.
    pub name: String,
    /// Hash of everything that determines the result.
    pub key: ContentHash,
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// What went in.
    pub inputs: Vec<Parent>,
    /// What came out.
    pub output: Option<ArtifactId>,
    /// How it stands.
    pub status: Status,
    /// Why it ended: `finished`, or the error.
    pub exit_reason: Option<String>,
    /// When the first attempt began.
    pub started_at: DateTime<Utc>,
    /// When the last attempt ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The processes that worked on it.
    pub attempts: Vec<Attempt>,
    /// The machine of the last attempt.
    pub host: Host,
    /// `cpu`, `cuda:0`, …
    pub device: String,
    /// The lab's repository.
    pub git: Option<Git>,
    /// Version of the binary.
    pub nexa_version: String,
    /// What it cost so far.
    pub spend: Spend,
}

impl RunRecord {
    /// Reads the record in a run's folder.
    ///
    /// # Errors
    /// Fails when it cannot be read, is malformed, or is of a newer version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("run.json");
        let value: serde_json::Value = files::read_json(&path)?;
        let version = value
            .get("run_version")
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| Error::malformed(&path, "key `run_version` is missing"))?;
        if version > RUN_VERSION {
            return Err(Error::TooNew { path, found: version, supported: RUN_VERSION });
        }
        serde_path_to_error::deserialize(value)
            .map_err(|e| Error::malformed(&path, format!("key `{}`: {}", e.path(), e.inner())))
    }

    /// Writes the record to a run's folder, atomically.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_json(&folder.join("run.json"), self)
    }

    /// Whether a process still works on it: whoever does holds the lock of its work.
    pub fn is_alive(&self, lab: &Lab) -> bool {
        self.status == Status::Running && is_locked(lab, &work_name(&self.project, &self.name, &self.key))
    }
}

/// The folder of a run.
pub fn folder(lab: &Lab, id: &RunId) -> PathBuf {
    lab.runs_folder().join(id.as_str())
}

/// Every run of the lab, oldest first. Folders without a record are left out.
///
/// # Errors
/// Fails on a malformed record.
pub fn all(lab: &Lab) -> Result<Vec<RunRecord>> {
    let mut runs = Vec::new();
    for folder in scan::entries(&lab.runs_folder())? {
        if folder.join("run.json").is_file() {
            runs.push(RunRecord::read(&folder)?);
        }
    }
    // Ids hold whole seconds; runs of one second are told apart by the records.
    runs.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
    Ok(runs)
}

/// How a run stands now: a killed one told from one at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process works on it.
    Running,
    /// Its process is gone without a word.
    Killed,
    /// It made its artifact.
    Finished,
    /// It ended with an error.
    Failed,
    /// The user stopped it.
    Interrupted,
}

impl State {
    /// Every state, in the order in which filters offer them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Finished, Self::Failed, Self::Interrupted, Self::Killed];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Killed => "killed",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether no attempt has closed the record: what the run cost is known as far as its ledger tells.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Killed)
    }
}

/// A run as it stands now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its record. While it is open, `spend` is what its ledger tells so far.
    #[serde(flatten)]
    pub record: RunRecord,
    /// How it stands.
    pub state: State,
}

impl Run {
    /// Reads a run of the lab.
    ///
    /// # Errors
    /// Fails when there is no such run, or its record or ledger cannot be read.
    pub fn find(lab: &Lab, id: &RunId) -> Result<Self> {
        let folder = folder(lab, id);
        if !folder.join("run.json").is_file() {
            let hint = Some("`nexa runs list` shows what there is".to_owned());
            return Err(Error::NotFound { what: "run", name: id.to_string(), hint });
        }
        let mut run = Self::read(lab, &folder)?;
        run.count_ledger(&folder)?;
        Ok(run)
    }

    /// Reads a record and how the run stands.
    fn read(lab: &Lab, folder: &Path) -> Result<Self> {
        let record = RunRecord::read(folder)?;
        let is_alive = record.is_alive(lab);
        // It may have ended in between: a record is closed before the lock is released.
        let record =
            if record.status == Status::Running && !is_alive { RunRecord::read(folder)? } else { record };
        let state = match record.status {
            Status::Running if is_alive => State::Running,
            Status::Running => State::Killed,
            Status::Finished => State::Finished,
            Status::Failed => State::Failed,
            Status::Interrupted => State::Interrupted,
        };
        Ok(Self { record, state })
    }

    /// Brings the spend of an open run up to date. What its record calls unknown remains unknown.
    fn count_ledger(&mut self, folder: &Path) -> Result<()> {
        if self.state.is_open() {
            let told = Ledger::total(folder)?;
            let unknown = std::mem::take(&mut self.record.spend.unknown);
            self.record.spend = Spend { unknown, ..Spend::default() };
            self.record.spend.merge(&told);
        }
        Ok(())
    }
}

/// Every run of the lab, newest first, and the files that cannot be read. Folders without a record are left out; a run
/// whose ledger cannot be read is listed without what it tells.
///
/// # Errors
/// Fails when the folder of runs cannot be listed.
pub fn list(lab: &Lab) -> Result<Scan<Run>> {
    let mut scan = Scan::empty();
    for folder in scan::entries(&lab.runs_folder())? {
        let file = folder.join("run.json");
        if !file.is_file() {
            continue;
        }
        match Run::read(lab, &folder) {
            Ok(mut run) => {
                if let Err(error) = run.count_ledger(&folder) {
                    scan.note(&folder.join("ledger.jsonl"), error);
                }
                scan.found.push(run);
            }
            Err(error) => scan.note(&file, error),
        }
    }
    // Ids hold whole seconds; runs of one second are told apart by the records.
    scan.found.sort_by(|a, b| (b.record.started_at, &b.record.id).cmp(&(a.record.started_at, &a.record.id)));
    Ok(scan)
}

/// Names a piece of work, for its lock and for the pointer to its run: the same key may be wanted under two names.
pub(crate) fn work_name(project: &str, name: &str, key: &ContentHash) -> String {
    let hash = ContentHash::of_json(&serde_json::json!([project, name, key]));
    hash.as_str().trim_start_matches("blake3:").chars().take(32).collect()
}

/// The file that points from a piece of work to its unfinished run.
pub(crate) fn pointer_path(lab: &Lab, work: &str) -> PathBuf {
    lab.state_folder().join("active").join(format!("{work}.json"))
}

/// Whether the command that began a run goes on with it when it is given again.
pub(crate) fn is_resumable(lab: &Lab, record: &RunRecord) -> bool {
    pointer_path(lab, &work_name(&record.project, &record.name, &record.key)).is_file()
}

/// An exclusive lock on a name in the lab; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread is just starting shares the open file, and with it the
        // lock, until it runs its program. What cannot be unlocked is released when the file is closed.
        let _ = self.file.unlock();
    }
}

/// Takes a lock, waiting for it or failing when another process holds it.
///
/// # Errors
/// Fails with the holder's process id when it is taken and `wait` is false, or when the file cannot be opened.
pub fn lock(lab: &Lab, name: &str, what: &str, wait: bool) -> Result<Lock> {
    let folder = lab.state_folder().join("locks");
    files::create_folder(&folder)?;
    let path = folder.join(name);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io("open", &path, e))?;
    if wait {
        file.lock().map_err(|e| Error::io("lock", &path, e))?;
    } else {
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The holder may not have written its id yet; then it is simply not shown.
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.is_empty() { "(unknown)".to_owned() } else { pid };
                return Err(Error::Busy { what: what.to_owned(), pid });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
        }
    }
    let mut note = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    note().map_err(|e| Error::io("write", &path, e))?;
    Ok(Lock { file })
}

/// Tries to take a lock. Whoever only looks whether it is taken holds it for a moment ([`is_locked`]); that is waited
/// out.
fn try_lock(file: &File) -> std::result::Result<(), TryLockError> {
    const MOMENT: std::time::Duration = std::time::Duration::from_millis(5);
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(MOMENT),
            result => return result,
        }
    }
    file.try_lock()
}

/// Whether a process holds a lock.
fn is_locked(lab: &Lab, name: &str) -> bool {
    let path = lab.state_folder().join("locks").join(name);
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_although_a_child_still_shares_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), None).unwrap();
        let held = lock(&lab, "name", "the work", false).unwrap();
        // A process that is forked while the lock is held shares the open file until it runs another program.
        let shared = held.file.try_clone().unwrap();
        assert!(matches!(lock(&lab, "name", "the work", false), Err(Error::Busy { .. })));
        drop(held);
        assert!(lock(&lab, "name", "the work", false).is_ok());
        drop(shared);
    }

    #[test]
    fn who_only_looks_at_a_lock_keeps_nobody_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), None).unwrap();
        drop(lock(&lab, "name", "the work", false).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    is_locked(&lab, "name");
                }
            });
            let busy = (0..2000).filter(|_| lock(&lab, "name", "the work", false).is_err()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(busy, 0);
        });
    }
}
