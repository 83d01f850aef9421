//! How answers are written: as CSV, JSON, JSON Lines and Parquet.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::writer::{EncoderOptions, JsonArray, LineDelimited, WriterBuilder, make_encoder};
use arrow_schema::{ArrowError, DataType, IntervalUnit, SchemaRef};
use nexa_core::Error;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::failure::query;
use crate::Result;
use crate::tables::{self, Compression, Encoder, Format};

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Comma-separated values with a header. Texts stand as they are, lists and objects as JSON, null is empty.
    Csv(Compression),
    /// One list of objects.
    Json,
    /// One object a line.
    JsonLines(Compression),
    /// Apache Parquet.
    Parquet,
}

impl OutputFormat {
    /// The format that the end of a file's name says, if it says one.
    pub fn of(path: &Path) -> Option<Self> {
        if path.extension().is_some_and(|extension| extension == "json") {
            return Some(Self::Json);
        }
        Some(match Format::of(path).ok()? {
            Format::Csv(compression) => Self::Csv(compression),
            Format::JsonLines(compression) => Self::JsonLines(compression),
            Format::Parquet => Self::Parquet,
        })
    }
}

/// Takes the batches of an answer and writes them.
pub(super) struct Sink<W: Write + Send> {
    name: PathBuf,
    writer: Writer<W>,
}

enum Writer<W: Write + Send> {
    Csv(Box<csv::Writer<Encoder<W>>>),
    Json(arrow_json::Writer<Encoder<W>, JsonArray>),
    JsonLines(arrow_json::Writer<Encoder<W>, LineDelimited>),
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> Sink<W> {
    /// Begins to write; `name` is what messages call the place.
    ///
    /// # Errors
    /// Fails when the place cannot be written, or the format cannot hold a column.
    pub(super) fn begin(out: W, format: OutputFormat, schema: &SchemaRef, name: &Path) -> Result<Self> {
        let encoder =
            |out, compression| Encoder::new(out, compression).map_err(|e| Error::io("write", name, e));
        let json = || WriterBuilder::new().with_explicit_nulls(true);
        let writer = match format {
            OutputFormat::Csv(compression) => {
                let mut writer = csv::Writer::from_writer(encoder(out, compression)?);
                let head = schema.fields().iter().map(|field| field.name());
                writer.write_record(head).map_err(|e| of_csv(e, name))?;
                Writer::Csv(Box::new(writer))
            }
            OutputFormat::Json => Writer::Json(json().build(encoder(out, Compression::None)?)),
            OutputFormat::JsonLines(compression) => {
                Writer::JsonLines(json().build(encoder(out, compression)?))
            }
            OutputFormat::Parquet => {
                check_storable(schema)?;
                // A reader that knows Arrow would else be given the types by which this query happened to run.
                let options = ArrowWriterOptions::new()
                    .with_properties(tables::properties())
                    .with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(out, Arc::clone(schema), options);
                let failed = |e| tables::failed("write", name, e);
                Writer::Parquet(Box::new(writer.map_err(failed)?))
            }
        };
        Ok(Self { name: name.to_owned(), writer })
    }

    /// Writes the next rows.
    ///
    /// # Errors
    /// Fails when the place cannot be written, or on a value that the format cannot hold.
    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let name = &self.name;
        match &mut self.writer {
            Writer::Csv(writer) => write_cells(writer, batch, name),
            Writer::Json(writer) => writer.write(batch).map_err(|e| of_arrow(e, name)),
            Writer::JsonLines(writer) => writer.write(batch).map_err(|e| of_arrow(e, name)),
            Writer::Parquet(writer) => {
                writer.write(batch).map_err(|e| tables::failed("write", name, e).into())
            }
        }
    }

    /// Writes what is buffered and what ends the format.
    ///
    /// # Errors
    /// Fails when the place cannot be written.
    pub(super) fn finish(self) -> Result<()> {
        let name = &self.name;
        let failed = |error| crate::Error::from(Error::io("write", name, error));
        let end = |encoder: Encoder<W>| encoder.finish().and_then(|mut out| out.flush()).map_err(failed);
        match self.writer {
            Writer::Csv(writer) => end(writer.into_inner().map_err(|e| failed(e.into_error()))?),
            Writer::Json(mut writer) => {
                writer.finish().map_err(|e| of_arrow(e, name))?;
                let mut encoder = writer.into_inner();
                encoder.write_all(b"\n").map_err(failed)?;
                end(encoder)
            }
            Writer::JsonLines(mut writer) => {
                writer.finish().map_err(|e| of_arrow(e, name))?;
                end(writer.into_inner())
            }
            Writer::Parquet(writer) => {
                let mut out = writer.into_inner().map_err(|e| tables::failed("write", name, e))?;
                out.flush().map_err(failed)
            }
        }
    }
}

/// Refuses intervals of months, days and fractions of a second, for which Parquet has no type, before anything is written.
fn check_storable(schema: &SchemaRef) -> Result<()> {
    fn is_interval(holds: &DataType) -> bool {
        match holds {
            DataType::Interval(IntervalUnit::MonthDayNano) => true,
            DataType::List(inner) => is_interval(inner.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| is_interval(field.data_type())),
            _ => false,
        }
    }
    match schema.fields().iter().find(|field| is_interval(field.data_type())) {
        None => Ok(()),
        Some(field) => {
            let message = format!("Parquet has no type for the interval in column `{}`", field.name());
            Err(query(message, Some("write it as text: `CAST(… AS VARCHAR)`".to_owned())))
        }
    }
}

/// Writes rows as cells: what JSON writes in quotes stands without them.
fn write_cells<W: Write>(writer: &mut csv::Writer<W>, batch: &RecordBatch, name: &Path) -> Result<()> {
    let options = EncoderOptions::default();
    let fields = batch.schema_ref().fields();
    let mut columns = fields
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| make_encoder(field, column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| of_arrow(e, name))?;
    let mut cell = Vec::new();
    for row in 0..batch.num_rows() {
        for column in &mut columns {
            cell.clear();
            if !column.is_null(row) {
                column.encode(row, &mut cell);
            }
            let written = match cell.first() {
                Some(b'"') => {
                    let text: String =
                        serde_json::from_slice(&cell).map_err(|e| query(e.to_string(), None))?;
                    writer.write_field(text)
                }
                _ => writer.write_field(&cell),
            };
            written.map_err(|e| of_csv(e, name))?;
        }
        writer.write_record(None::<&[u8]>).map_err(|e| of_csv(e, name))?;
    }
    Ok(())
}

fn of_csv(error: csv::Error, name: &Path) -> crate::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("write", name, source).into(),
        other => Error::io("write", name, io::Error::other(format!("{other:?}"))).into(),
    }
}

fn of_arrow(error: ArrowError, name: &Path) -> crate::Error {
    match error {
        ArrowError::IoError(_, source) => Error::io("write", name, source).into(),
        other => query(other.to_string(), None),
    }
}
