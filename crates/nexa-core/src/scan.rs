//! What a walk over the lab's files found: what cannot be read is told beside the rest, not instead of it.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

/// What was found, and what could not be read.
#[derive(Debug)]
pub struct Scan<T> {
    /// What was found.
    pub found: Vec<T>,
    /// The files that could not be read.
    pub problems: Vec<Unreadable>,
}

impl<T> Scan<T> {
    /// A scan that has seen nothing yet.
    pub(crate) fn empty() -> Self {
        Self { found: Vec::new(), problems: Vec::new() }
    }

    /// Notes that a file could not be read.
    pub(crate) fn note(&mut self, path: &Path, error: Error) {
        self.problems.push(Unreadable { path: path.to_owned(), error });
    }

    /// All that was found, where everything could be read.
    ///
    /// # Errors
    /// Fails with the first problem.
    pub fn complete(self) -> Result<Vec<T>> {
        match self.problems.into_iter().next() {
            Some(problem) => Err(problem.error),
            None => Ok(self.found),
        }
    }
}

/// The paths in a folder, in the order of their names; a folder that is missing is empty.
///
/// # Errors
/// Fails with the path when the folder cannot be listed.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("list", folder, e);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
