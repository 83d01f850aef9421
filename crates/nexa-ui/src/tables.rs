//! The tables of artifacts, the last few of them kept in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use nexa_core::artifact::Artifact;
use nexa_core::hash::ContentHash;
use nexa_core::table::{Row, Tables, main_table};

use crate::Result;

/// How many tables are kept.
const CAPACITY: usize = 4;

/// Reads tables and remembers the last few by the hash of their content, which never goes stale.
pub(crate) struct TableCache {
    tables: Arc<dyn Tables>,
    kept: Mutex<VecDeque<(ContentHash, Arc<Vec<Row>>)>>,
}

impl TableCache {
    /// A cache over a reader.
    pub(crate) fn new(tables: Arc<dyn Tables>) -> Self {
        Self { tables, kept: Mutex::default() }
    }

    /// Whether a file of an artifact, by its name in the manifest, is a table.
    pub(crate) fn is_table(&self, name: &str) -> bool {
        self.tables.split_name(name).is_some()
    }

    /// The table that an artifact is about.
    pub(crate) fn main<'a>(&self, artifact: &'a Artifact) -> Option<&'a str> {
        main_table(artifact, self.tables.as_ref())
    }

    /// The reader itself.
    pub(crate) fn reader(&self) -> &dyn Tables {
        self.tables.as_ref()
    }

    /// The format of a file, by its name in the manifest: that of a table, else what follows the last point.
    pub(crate) fn format_of<'n>(&self, name: &'n str) -> &'n str {
        let ending = || name.rsplit_once('.').map_or(name, |(_, ending)| ending);
        self.tables.split_name(name).map_or_else(ending, |(_, format)| format)
    }

    /// The rows of a file of an artifact.
    ///
    /// # Errors
    /// Fails when the artifact has no such file or it cannot be read as a table.
    pub(crate) fn read(&self, artifact: &Artifact, name: &str) -> Result<Arc<Vec<Row>>> {
        let path = artifact.file(name)?;
        let hash = artifact.manifest.files.iter().find(|file| file.name == name).map(|file| &file.hash);
        if let Some(rows) = hash.and_then(|hash| self.recall(hash)) {
            return Ok(rows);
        }
        // Read outside the lock: two requests may both read a table, but none waits for another's.
        let rows = Arc::new(self.tables.read(&path)?);
        if let Some(hash) = hash {
            self.keep(hash.clone(), Arc::clone(&rows));
        }
        Ok(rows)
    }

    fn recall(&self, hash: &ContentHash) -> Option<Arc<Vec<Row>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let position = kept.iter().position(|(known, _)| known == hash)?;
        let entry = kept.remove(position)?;
        let rows = Arc::clone(&entry.1);
        kept.push_front(entry);
        Some(rows)
    }

    fn keep(&self, hash: ContentHash, rows: Arc<Vec<Row>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != hash);
        kept.push_front((hash, rows));
        kept.truncate(CAPACITY);
    }
}
