//! Files of lines in pieces: their rows as batches, and the types of these.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::SchemaRef;
use nexa_core::Error;
use nexa_core::event::Cancel;
use nexa_core::machine::Host;
use rayon::prelude::*;

use crate::Result;
use crate::tables::{Compression, Format, Lines, Record, Records, Schema, batches};

/// A piece of a file is no smaller.
const PIECE_BYTES: u64 = 1 << 20;
/// Lines after which the wish to stop is looked at.
const CANCEL_LINES: usize = 4096;

/// Takes a batch, and says whether further ones are wanted.
type Send<'a> = dyn FnMut(RecordBatch) -> bool + 'a;

/// A file of this machine with the name that messages give it.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    pub(super) shown: String,
    pub(super) format: Format,
}

/// A file, or a part of one.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    file: TextFile,
    part: Option<Range<u64>>,
}

impl Piece {
    /// Reads all rows; says whether more are wanted.
    ///
    /// # Errors
    /// Fails with the file when it cannot be read, or has changed since its types were found.
    pub(super) fn read(&self, schema: &SchemaRef, rows: usize, send: &mut Send<'_>) -> Result<bool> {
        if schema.fields().is_empty() {
            return self.count(schema, rows, send);
        }
        let decoder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows).build_decoder();
        let mut decoder = decoder.map_err(|e| self.file.malformed(e.to_string()))?;
        match self.file.format {
            Format::JsonLines(_) => {
                let mut lines = self.lines()?;
                loop {
                    let line = lines.next_line().map_err(|e| self.file.named(e))?;
                    if line.is_empty() {
                        break;
                    }
                    if !self.decode(&mut decoder, &line, send)? {
                        return Ok(false);
                    }
                }
            }
            _ => {
                for batch in batches(self.records()?.rows()) {
                    let batch = batch.map_err(|e| self.file.named(e))?;
                    decoder.serialize(&batch).map_err(|e| self.file.malformed(e.to_string()))?;
                    if !self.flush(&mut decoder, send)? {
                        return Ok(false);
                    }
                }
            }
        }
        self.flush(&mut decoder, send)
    }

    fn decode(&self, decoder: &mut Decoder, line: &[u8], send: &mut Send<'_>) -> Result<bool> {
        let mut rest = line;
        loop {
            let taken = decoder.decode(rest).map_err(|e| self.file.malformed(e.to_string()))?;
            rest = &rest[taken..];
            if rest.is_empty() {
                return Ok(true);
            }
            // The batch is full.
            if !self.flush(decoder, send)? {
                return Ok(false);
            }
        }
    }

    fn flush(&self, decoder: &mut Decoder, send: &mut Send<'_>) -> Result<bool> {
        Ok(decoder.flush().map_err(|e| self.file.malformed(e.to_string()))?.is_none_or(send))
    }

    /// Counts rows of which no column is wanted.
    fn count(&self, schema: &SchemaRef, rows: usize, send: &mut Send<'_>) -> Result<bool> {
        let mut is_row = self.each_row()?;
        loop {
            let mut count = 0;
            while count < rows && is_row()? {
                count += 1;
            }
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let batch = RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options);
            if !send(batch.map_err(|e| self.file.malformed(e.to_string()))?) {
                return Ok(false);
            }
            if count < rows {
                return Ok(true);
            }
        }
    }

    /// Says, each time that it is called, whether there is a further row.
    fn each_row(&self) -> Result<Box<dyn FnMut() -> Result<bool> + '_>> {
        Ok(match self.file.format {
            Format::JsonLines(_) => {
                let mut lines = self.lines()?;
                Box::new(move || Ok(!lines.next_line().map_err(|e| self.file.named(e))?.is_empty()))
            }
            _ => {
                let mut rows = self.records()?.rows();
                Box::new(move || Ok(rows.next().transpose().map_err(|e| self.file.named(e))?.is_some()))
            }
        })
    }

    /// The types of the rows.
    fn schema(&self, cancel: &Cancel) -> Result<Schema> {
        let mut schema = Schema::default();
        let records: Box<dyn Iterator<Item = nexa_core::Result<Record>>> = match self.file.format {
            Format::JsonLines(_) => Box::new(self.lines()?),
            _ => Box::new(self.records()?),
        };
        for (index, record) in records.enumerate() {
            if index % CANCEL_LINES == 0 && cancel.is_cancelled() {
                return Err(Error::Interrupted.into());
            }
            let row = record.map_err(|e| self.file.named(e))?.content;
            let observed = row.and_then(|row| schema.observe(&row).map_err(|e| e.to_string()));
            observed.map_err(|reason| self.file.malformed(reason))?;
        }
        Ok(schema)
    }

    fn lines(&self) -> Result<Lines> {
        let path = &self.file.path;
        let lines = match (&self.part, self.file.format) {
            (Some(part), _) => Lines::open_part(path, part.clone()),
            (None, Format::JsonLines(compression)) => Lines::open(path, compression),
            (None, _) => Lines::open(path, Compression::None),
        };
        lines.map_err(|e| self.file.named(e))
    }

    fn records(&self) -> Result<Records> {
        Records::open(&self.file.path).map_err(|e| self.file.named(e))
    }
}

impl TextFile {
    fn malformed(&self, message: String) -> crate::Error {
        Error::malformed(Path::new(&self.shown), message).into()
    }

    /// Has an error speak of the file by the name that it is known by.
    fn named(&self, error: Error) -> crate::Error {
        match error {
            Error::Malformed { message, .. } => self.malformed(message),
            Error::Io { action, source, .. } => Error::io(action, Path::new(&self.shown), source).into(),
            other => other.into(),
        }
    }
}

/// Cuts files that are not compressed into pieces, about as many as there are threads.
///
/// # Errors
/// Fails with the file that cannot be found.
pub(super) fn cut(files: &[TextFile]) -> Result<Vec<Piece>> {
    let threads = Host::current().threads.max(1) as u64;
    let mut pieces = Vec::new();
    for file in files {
        let path = &file.path;
        let bytes = std::fs::metadata(path).map_err(|e| file.named(Error::io("read", path, e)))?.len();
        let each = bytes.div_ceil(threads).max(PIECE_BYTES);
        if file.format == Format::JsonLines(Compression::None) && bytes > each {
            let parts = (0..bytes.div_ceil(each)).map(|number| number * each..bytes.min((number + 1) * each));
            pieces.extend(parts.map(|part| Piece { file: file.clone(), part: Some(part) }));
        } else {
            pieces.push(Piece { file: file.clone(), part: None });
        }
    }
    Ok(pieces)
}

/// The types of all rows, found in all pieces at the same time.
///
/// # Errors
/// Fails when a line is no row or types clash, without the line.
pub(super) fn schema_of_pieces(pieces: &[Piece], cancel: &Cancel) -> Result<Schema> {
    let found: Vec<Schema> = pieces.par_iter().map(|piece| piece.schema(cancel)).collect::<Result<_>>()?;
    let mut merged = Schema::default();
    for (piece, schema) in pieces.iter().zip(found) {
        merged.merge(schema).map_err(|conflict| piece.file.malformed(conflict.to_string()))?;
    }
    Ok(merged)
}

/// The types of all rows, found one after the other, so that the first that does not fit can be named.
///
/// # Errors
/// Fails with file and line when a line is no row or types clash.
pub(super) fn schema_of_files(files: &[TextFile], cancel: &Cancel) -> Result<Schema> {
    let mut schema = Schema::default();
    for file in files {
        for record in Records::open(&file.path).map_err(|e| file.named(e))? {
            let record = record.map_err(|e| file.named(e))?;
            if record.line % CANCEL_LINES as u64 == 0 && cancel.is_cancelled() {
                return Err(Error::Interrupted.into());
            }
            let observed = record.content.and_then(|row| schema.observe(&row).map_err(|e| e.to_string()));
            observed.map_err(|reason| file.malformed(format!("line {}: {reason}", record.line)))?;
        }
    }
    Ok(schema)
}
