//! The folder in which a query keeps what does not fit into memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nexa_core::lab::Lab;
use nexa_core::{Error, files};

use crate::Result;

/// Where such folders lie, in the lab's own state.
const FOLDER: &str = "query";

/// A folder below `.nexa/query`, removed with all it holds once the query is over. What a killed process left is removed
/// by the next query: each folder has a lock file beside it, which its process holds.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Scratch {
    /// Makes a folder.
    ///
    /// # Errors
    /// Fails with the path when it cannot be made.
    pub(super) fn create(lab: &Lab) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let all = lab.state_folder().join(FOLDER);
        std::fs::create_dir_all(&all).map_err(|e| Error::io("create folder", &all, e))?;
        remove_abandoned(&all);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (folder, lock) = (all.join(&name), all.join(format!("{name}.lock")));
        let held = loop {
            let file = File::create(&lock).map_err(|e| Error::io("create", &lock, e))?;
            file.lock().map_err(|e| Error::io("lock", &lock, e))?;
            // Who came between the two lines has taken the file for an abandoned one.
            if lock.exists() {
                break file;
            }
        };
        files::remove(&folder)?;
        std::fs::create_dir(&folder).map_err(|e| Error::io("create folder", &folder, e))?;
        Ok(Self { folder, lock, _held: held })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next query.
        if files::remove(&self.folder).is_ok() {
            let _ = files::remove(&self.lock);
        }
    }
}

/// Removes the folders whose process is gone. Not being able to is no reason to refuse a query.
fn remove_abandoned(all: &Path) {
    let entries = std::fs::read_dir(all).into_iter().flatten().flatten();
    for lock in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "lock"))
    {
        // The lock is held until both are gone.
        let Ok(file) = File::open(&lock) else { continue };
        if file.try_lock().is_ok() && files::remove(&lock.with_extension("")).is_ok() {
            let _ = files::remove(&lock);
        }
    }
}
