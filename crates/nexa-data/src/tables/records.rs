//! Rows one at a time, each with the line that it stands on, so that a bad one can be named.

use std::path::{Path, PathBuf};

use nexa_core::table::Row;
use nexa_core::{Error, Result};

use super::csv::CsvRows;
use super::format::Format;
use super::jsonl::Lines;
use super::parquet::{BATCH_ROWS, ParquetRows};

/// What stands on one line of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The line, or in Parquet the row, from 1.
    pub line: u64,
    /// The row, or why the line holds none.
    pub content: Result<Row, String>,
    /// The line as it stands; nothing in Parquet, which has no lines.
    pub raw: Vec<u8>,
}

/// Reads a table row by row, in memory that does not grow with the file.
pub struct Records {
    path: PathBuf,
    source: Box<dyn Iterator<Item = Result<Record>> + Send>,
}

impl Records {
    /// Opens a table.
    ///
    /// # Errors
    /// Fails with the path when the name is not that of a table, or the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_at(path, 0)
    }

    /// Opens a table behind its first `skip` rows.
    ///
    /// # Errors
    /// As [`Records::open`].
    pub fn open_at(path: &Path, skip: usize) -> Result<Self> {
        let source: Box<dyn Iterator<Item = Result<Record>> + Send> = match Format::of(path)? {
            Format::Parquet => Box::new(ParquetRows::open(path, skip)?),
            Format::JsonLines(compression) => Box::new(Lines::open(path, compression)?.skip(skip)),
            Format::Csv(compression) => Box::new(CsvRows::open(path, compression)?.skip(skip)),
        };
        Ok(Self::new(path, source))
    }

    pub(super) fn new(path: &Path, source: Box<dyn Iterator<Item = Result<Record>> + Send>) -> Self {
        Self { path: path.to_owned(), source }
    }

    /// The rows alone; a bad line is an error that names file and line.
    pub fn rows(self) -> impl Iterator<Item = Result<Row>> {
        let Self { path, source } = self;
        source.map(move |record| {
            let Record { line, content, .. } = record?;
            content.map_err(|reason| Error::malformed(&path, format!("line {line}: {reason}")))
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.source.next()
    }
}

/// Rows in batches of at most [`BATCH_ROWS`]; the first error ends the batch that it belongs to.
pub(crate) fn batches(mut rows: impl Iterator<Item = Result<Row>>) -> impl Iterator<Item = Result<Vec<Row>>> {
    std::iter::from_fn(move || {
        let batch: Result<Vec<Row>> = rows.by_ref().take(BATCH_ROWS).collect();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(batch),
        }
    })
}
