//! Parquet: rows become Arrow batches of known types, compressed with Zstandard.
//!
//! The same rows give the same bytes: batches, row groups and properties are fixed, and no version is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_json::{ReaderBuilder, reader::Decoder};
use arrow_schema::{ArrowError, DataType};
use nexa_core::artifact::Column;
use nexa_core::table::Row;
use nexa_core::{Error, Result};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::records::Record;
use super::schema::Schema;

/// Rows that are converted at a time.
pub(crate) const BATCH_ROWS: usize = 1024;

/// A row group ends at whichever comes first; both bound the memory of writer and reader.
const ROW_GROUP_ROWS: usize = 128 * 1024;
const ROW_GROUP_BYTES: usize = 128 * 1024 * 1024;

/// Writes rows of a known schema.
pub(crate) struct ParquetWriter {
    path: PathBuf,
    decoder: Decoder,
    writer: ArrowWriter<File>,
}

impl ParquetWriter {
    /// Begins a file, in place of one that may be there.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be made, or with the column that Parquet cannot hold.
    pub(crate) fn create(path: &Path, schema: &Schema) -> Result<Self> {
        schema.check_storable().map_err(|message| Error::malformed(path, message))?;
        let schema = Arc::new(schema.to_arrow());
        let decoder = ReaderBuilder::new(Arc::clone(&schema))
            .with_batch_size(BATCH_ROWS)
            .with_strict_mode(true)
            .build_decoder()
            .map_err(|e| Error::malformed(path, e.to_string()))?;
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        let writer =
            ArrowWriter::try_new(file, schema, Some(properties())).map_err(|e| failed("write", path, e))?;
        Ok(Self { path: path.to_owned(), decoder, writer })
    }

    /// Appends a batch of at most [`BATCH_ROWS`] rows that the schema has observed.
    ///
    /// # Errors
    /// Fails with the path when the rows do not fit the schema or cannot be written.
    pub(crate) fn append(&mut self, rows: &[Row]) -> Result<()> {
        let unfit = |e: ArrowError| Error::malformed(&self.path, e.to_string());
        self.decoder.serialize(rows).map_err(unfit)?;
        if let Some(batch) = self.decoder.flush().map_err(unfit)? {
            self.writer.write(&batch).map_err(|e| failed("write", &self.path, e))?;
        }
        Ok(())
    }

    /// Ends the last row group and the file.
    ///
    /// # Errors
    /// Fails with the path when what is buffered cannot be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.writer.close().map(drop).map_err(|e| failed("write", &self.path, e))
    }
}

/// The types of a Parquet file of ours, as its footer says.
pub(super) fn schema(path: &Path) -> Result<Schema> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed("read", path, e))?;
    Ok(Schema::of_arrow(builder.schema()))
}

/// The columns that a Parquet file states.
///
/// # Errors
/// Fails with the path when the file cannot be read.
pub(super) fn columns(path: &Path) -> Result<Vec<Column>> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed("read", path, e))?;
    let column = |field: &arrow_schema::FieldRef| Column {
        name: field.name().clone(),
        holds: type_name(field.data_type()),
    };
    Ok(builder.schema().fields().iter().map(column).collect())
}

/// The word for a type, as it is for other formats; Arrow's own where these have none.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::List(_) | DataType::LargeList(_) => "list".to_owned(),
        DataType::Struct(_) => "object".to_owned(),
        other if other.is_integer() => "integer".to_owned(),
        other if other.is_floating() => "number".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// How every Parquet file is written.
pub(crate) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("nexa".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build()
}

/// The rows of a Parquet file, whatever its types: dates and the like become text.
pub(super) struct ParquetRows {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    rows: std::vec::IntoIter<Row>,
    line: u64,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, skip: usize) -> Result<Self> {
        Self::build(path, skip, |builder| builder.with_offset(skip))
    }

    /// Every row with some columns alone; those that the file lacks are left out.
    pub(super) fn of_columns(path: &Path, columns: &[&str]) -> Result<Self> {
        Self::build(path, 0, |builder| {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder.with_projection(mask)
        })
    }

    /// The rows at some positions.
    pub(super) fn at(path: &Path, positions: &BTreeSet<usize>) -> Result<Self> {
        Self::build(path, 0, |builder| {
            let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
            let ranges = positions.range(..total).map(|&position| position..position + 1);
            builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, total))
        })
    }

    fn build(
        path: &Path,
        skip: usize,
        choose: impl FnOnce(ParquetRecordBatchReaderBuilder<File>) -> ParquetRecordBatchReaderBuilder<File>,
    ) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| choose(builder).with_batch_size(BATCH_ROWS).build())
            .map_err(|e| failed("read", path, e))?;
        Ok(Self { path: path.to_owned(), batches, rows: Vec::new().into_iter(), line: skip as u64 })
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                self.line += 1;
                return Some(Ok(Record { line: self.line, content: Ok(row), raw: Vec::new() }));
            }
            match self.batches.next()?.and_then(|batch| rows_of(&batch)) {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(error) => {
                    let message = format!("behind row {}: {error}", self.line);
                    return Some(Err(Error::malformed(&self.path, message)));
                }
            }
        }
    }
}

/// The rows of a batch, whatever its types.
///
/// # Errors
/// Fails on a type that JSON cannot show.
pub(crate) fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    serde_json::Deserializer::from_slice(&writer.into_inner())
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|e| ArrowError::JsonError(e.to_string()))
}

/// Tells a failure of the disk from a file that is not what it should be.
pub(crate) fn failed(action: &'static str, path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => Error::io(action, path, *source),
            Err(source) => Error::malformed(path, source.to_string()),
        },
        other => Error::malformed(path, other.to_string()),
    }
}
