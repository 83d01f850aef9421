//! How far a tracker has come: `trackers/<name>.cursor.json`.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use nexa_core::files;
use nexa_core::run::Status;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::spool::Position;

/// The version that is written. Every older one can be read.
const CURSOR_VERSION: u64 = 1;

/// What was delivered. Replaced atomically, after the delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Format version.
    cursor_version: u64,
    /// Where rows went.
    pub(super) destination: String,
    /// The tracker's name for the run.
    pub(super) remote: Option<String>,
    /// How far each log has been read.
    pub(super) read: BTreeMap<String, Position>,
    /// The last step sent of each metric: no step is sent twice, however often logs are read again.
    pub(super) sent: BTreeMap<String, u64>,
    /// The seconds of training of the last timed row.
    pub(super) seconds: f64,
    /// How the run ended, where that was delivered.
    pub(super) ended: Option<Status>,
}

impl Cursor {
    /// The beginning.
    pub(super) fn new(destination: String) -> Self {
        Self {
            cursor_version: CURSOR_VERSION,
            destination,
            remote: None,
            read: BTreeMap::new(),
            sent: BTreeMap::new(),
            seconds: 0.0,
            ended: None,
        }
    }

    /// Goes back to the beginning of the logs.
    pub(super) fn read_again(&mut self) {
        self.read.clear();
        self.seconds = 0.0;
    }

    /// Forgets that steps from `step` on were sent.
    pub(super) fn forget_from(&mut self, step: u64) {
        match step.checked_sub(1) {
            Some(last) => self.sent.values_mut().for_each(|sent| *sent = last.min(*sent)),
            None => self.sent.clear(),
        }
    }
}

/// The file of a cursor, which one process at a time may move.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    /// Holds the lock until it is dropped.
    _lock: File,
}

impl CursorFile {
    /// Takes the cursor of a tracker, and reads it where it is of this destination.
    pub(super) fn open(run_folder: &Path, name: &str, destination: &str) -> Result<(Self, Cursor), Failure> {
        let folder = run_folder.join("trackers");
        files::create_folder(&folder)?;
        let lock_path = folder.join(format!("{name}.lock"));
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| nexa_core::Error::io("open", &lock_path, e))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Failure::Unavailable("another process is delivering to it".to_owned())
            }
            TryLockError::Error(e) => nexa_core::Error::io("lock", &lock_path, e).into(),
        })?;

        Ok((Self { path: path(run_folder, name), _lock: lock }, load(run_folder, name, destination)?))
    }

    /// Makes a cursor durable.
    pub(super) fn save(&self, cursor: &Cursor) -> Result<(), Failure> {
        Ok(files::write_json(&self.path, cursor)?)
    }
}

/// Reads the cursor of a tracker; one of another destination counts for nothing.
pub(super) fn load(run_folder: &Path, name: &str, destination: &str) -> Result<Cursor, Failure> {
    let path = path(run_folder, name);
    let cursor = if path.exists() { Some(read(&path)?) } else { None };
    let ours = cursor.filter(|cursor| cursor.destination == destination);
    Ok(ours.unwrap_or_else(|| Cursor::new(destination.to_owned())))
}

fn path(run_folder: &Path, name: &str) -> PathBuf {
    run_folder.join("trackers").join(format!("{name}.cursor.json"))
}

fn read(path: &Path) -> Result<Cursor, Failure> {
    let refused = |problem: String| Failure::Refused(format!("{}: {problem}", path.display()));
    let value: serde_json::Value = files::read_json(path).map_err(|e| Failure::Refused(e.to_string()))?;
    match value.get("cursor_version").and_then(serde_json::Value::as_u64) {
        Some(1..=CURSOR_VERSION) => serde_json::from_value(value).map_err(|e| refused(e.to_string())),
        Some(newer) => Err(refused(format!("format version {newer} is newer than {CURSOR_VERSION}"))),
        None => Err(refused("key `cursor_version` is missing".to_owned())),
    }
}
