//! Rows in files, whatever the format.
//!
//! Stages read and write rows through [`Tables`], so that only `nexa-data` knows Parquet. [`JsonLines`] is the plain
//! implementation that needs no library; it serves tests and the JSONL side of packaging.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::{Error, Result};

/// One row: column names and JSON values, in the order of the columns.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// Reads and writes tables by file extension.
pub trait Tables: Send + Sync {
    /// Reads every row of a table.
    ///
    /// # Errors
    /// Fails with the path, and the line where there are lines, when the file cannot be read as a table.
    fn read(&self, path: &Path) -> Result<Vec<Row>>;

    /// Writes a table to a path that does not exist yet or may be replaced.
    ///
    /// Every row is expected to have the columns of the first; a missing one is null.
    ///
    /// # Errors
    /// Fails with the path when the rows cannot be written in the format of the extension.
    fn write(&self, path: &Path, rows: &[Row]) -> Result<()>;
}

/// Tables as lines of JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonLines;

impl Tables for JsonLines {
    fn read(&self, path: &Path) -> Result<Vec<Row>> {
        let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
        let mut rows = Vec::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| Error::io("read", path, e))?;
            if !line.trim().is_empty() {
                let row = serde_json::from_str(&line)
                    .map_err(|e| Error::malformed(path, format!("line {}: {e}", number + 1)))?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn write(&self, path: &Path, rows: &[Row]) -> Result<()> {
        let file = std::fs::File::create(path).map_err(|e| Error::io("create", path, e))?;
        let mut out = std::io::BufWriter::new(file);
        for row in rows {
            serde_json::to_writer(&mut out, row).map_err(|e| Error::io("write", path, e.into()))?;
            out.write_all(b"\n").map_err(|e| Error::io("write", path, e))?;
        }
        out.flush().map_err(|e| Error::io("write", path, e))
    }
}

/// Reads a column of a row as text.
///
/// # Errors
/// Fails with the place and the columns that there are, when the column is missing or holds something else.
pub fn text<'a>(row: &'a Row, column: &str, place: &Path) -> Result<&'a str> {
    match row.get(column) {
        Some(serde_json::Value::String(text)) => Ok(text),
        Some(other) => Err(Error::malformed(place, format!("column `{column}` holds {other}, not text"))),
        None => {
            let columns = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Error::malformed(place, format!("column `{column}` is missing; there are: {columns}")))
        }
    }
}
