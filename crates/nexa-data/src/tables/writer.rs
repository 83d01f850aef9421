//! A Parquet file that is written row by row.

use std::path::Path;

use nexa_core::Result;
use nexa_core::table::Row;

use super::parquet::{BATCH_ROWS, ParquetWriter};
use super::schema::Schema;

/// Writes rows as they come, and hands them on in batches.
pub(crate) struct RowWriter {
    writer: ParquetWriter,
    batch: Vec<Row>,
    rows: u64,
}

impl RowWriter {
    /// Begins a file, in place of one that may be there.
    ///
    /// # Errors
    /// As [`ParquetWriter::create`].
    pub(crate) fn create(path: &Path, schema: &Schema) -> Result<Self> {
        let writer = ParquetWriter::create(path, schema)?;
        Ok(Self { writer, batch: Vec::with_capacity(BATCH_ROWS), rows: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// As [`ParquetWriter::append`].
    pub(crate) fn append(&mut self, row: Row) -> Result<()> {
        self.rows += 1;
        self.batch.push(row);
        if self.batch.len() == BATCH_ROWS {
            self.writer.append(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Ends the file; says how many rows it has.
    ///
    /// # Errors
    /// As [`ParquetWriter::finish`].
    pub(crate) fn finish(mut self) -> Result<u64> {
        if !self.batch.is_empty() {
            self.writer.append(&self.batch)?;
        }
        self.writer.finish()?;
        Ok(self.rows)
    }
}
