//! JSON Lines: one object a line, plain or compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use nexa_core::table::Row;
use nexa_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::compression::{self, Encoder};
use super::format::Compression;
use super::records::Record;

/// The mark with which some editors begin a UTF-8 file.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file, each parsed on its own; blank ones are counted and left out.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    parse: fn(&[u8]) -> Result<Row, String>,
    /// Bytes up to the end of the last line that begins in the part of the file that is read, where it is not all of it.
    left: Option<u64>,
}

impl Lines {
    pub(crate) fn open(path: &Path, compression: Compression) -> Result<Self> {
        let reader = compression::reader(path, compression).map_err(|e| Error::io("read", path, e))?;
        Ok(Self { path: path.to_owned(), reader, line: 0, left: None, parse })
    }

    /// The same lines, read in another way than as JSON.
    pub(super) fn parsed_by(self, parse: fn(&[u8]) -> Result<Row, String>) -> Self {
        Self { parse, ..self }
    }

    /// Opens the lines that begin in a part of a file that is not compressed. They are counted from the part's beginning.
    pub(crate) fn open_part(path: &Path, part: Range<u64>) -> Result<Self> {
        let open = || -> io::Result<(BufReader<File>, u64)> {
            let mut reader = BufReader::new(File::open(path)?);
            // The line that the byte before belongs to is that of another part.
            let Some(before) = part.start.checked_sub(1) else { return Ok((reader, part.end)) };
            reader.seek(SeekFrom::Start(before))?;
            let passed = reader.skip_until(b'\n')? as u64;
            Ok((reader, part.end.saturating_sub(before + passed)))
        };
        let (reader, left) = open().map_err(|e| Error::io("read", path, e))?;
        Ok(Self { path: path.to_owned(), reader: Box::new(reader), line: 0, left: Some(left), parse })
    }

    /// Reads the next line that is not blank; an empty answer is the end.
    pub(crate) fn next_line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.left == Some(0) {
                return Ok(line);
            }
            let length = self.reader.read_until(b'\n', &mut line).map_err(|e| self.unreadable(e))?;
            self.left = self.left.map(|left| left.saturating_sub(length as u64));
            self.line += 1;
            if self.line == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if length == 0 || !line.trim_ascii().is_empty() {
                line.truncate(line.trim_ascii_end().len());
                return Ok(line);
            }
        }
    }

    /// Says where reading broke off: a system error, or a damaged compressed stream.
    fn unreadable(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::Other => {
                Error::malformed(&self.path, format!("line {}: the file is damaged: {error}", self.line + 1))
            }
            _ => Error::io("read", &self.path, error),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(line) if line.is_empty() => None,
            Ok(raw) => Some(Ok(Record { line: self.line, content: (self.parse)(&raw), raw })),
            Err(error) => Some(Err(error)),
        }
    }
}

fn parse(line: &[u8]) -> Result<Row, String> {
    let text = std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(Value::Array(_)) => Err("a list, not an object".to_owned()),
        Ok(scalar) => Err(format!("{scalar}, not an object")),
        // The parser sees one line only, so its line number says nothing.
        Err(error) => {
            Err(format!("not JSON: {}", error.to_string().replace(" at line 1 column ", " at column ")))
        }
    }
}

/// Writes values as lines of JSON.
pub(crate) struct JsonLinesWriter {
    path: PathBuf,
    encoder: Encoder,
}

impl JsonLinesWriter {
    /// Begins a file, in place of one that may be there.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be made.
    pub(crate) fn create(path: &Path, compression: Compression) -> Result<Self> {
        let encoder = Encoder::create(path, compression).map_err(|e| Error::io("create", path, e))?;
        Ok(Self { path: path.to_owned(), encoder })
    }

    /// Appends one value.
    ///
    /// # Errors
    /// Fails with the path when the line cannot be written.
    pub(crate) fn append(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.encoder, value)
            .map_err(io::Error::from)
            .and_then(|()| self.encoder.write_all(b"\n"))
            .map_err(|e| Error::io("write", &self.path, e))
    }

    /// Ends the compressed stream and the file.
    ///
    /// # Errors
    /// Fails with the path when what is buffered cannot be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.encoder.finish().map(drop).map_err(|e| Error::io("write", &self.path, e))
    }
}
