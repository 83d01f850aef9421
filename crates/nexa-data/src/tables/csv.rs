//! Comma-separated values with a header (RFC 4180), plain or compressed.
//!
//! Cells are text, so each column's type is found in a first reading of the whole file: where every cell that is not
//! empty is a number of JSON the column holds numbers, where every one is `true` or `false` it holds those, else texts. An
//! empty cell is null. What has no cell of its own, a list or an object, is written as JSON and read back as text.

use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};
use nexa_core::table::Row;
use nexa_core::{Error, Result};
use serde_json::{Number, Value};

use super::compression::{self, Encoder};
use super::format::Compression;
use super::records::Record;

type Reader = csv::Reader<Box<dyn BufRead + Send>>;

/// What all cells of a column are, in the order in which one makes way for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cells {
    Empty,
    Bools,
    Numbers,
    Texts,
}

impl Cells {
    /// The type of a column of this type with one more cell.
    fn with(self, cell: &str) -> Self {
        let own = match cell {
            "" => Self::Empty,
            "true" | "false" => Self::Bools,
            _ if number(cell).is_some() => Self::Numbers,
            _ => Self::Texts,
        };
        match (self, own) {
            (Self::Empty, other) | (other, Self::Empty) => other,
            (one, other) if one == other => one,
            _ => Self::Texts,
        }
    }

    fn value(self, cell: &str) -> Value {
        match self {
            _ if cell.is_empty() => Value::Null,
            Self::Bools => Value::Bool(cell == "true"),
            Self::Numbers => number(cell).map_or_else(|| cell.into(), Value::Number),
            Self::Empty | Self::Texts => cell.into(),
        }
    }
}

/// Reads a number as JSON writes it. `007`, `+1` and integers of more than 64 bits are texts: as numbers they would lose
/// something.
fn number(cell: &str) -> Option<Number> {
    let is_integer = cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let number: Number = serde_json::from_str(cell).ok()?;
    let is_kept = !is_integer || number.is_i64() || number.is_u64();
    (is_kept && !cell.starts_with(char::is_whitespace) && !cell.ends_with(char::is_whitespace))
        .then_some(number)
}

/// The rows of a file.
pub(super) struct CsvRows {
    path: PathBuf,
    reader: Reader,
    columns: Vec<(String, Cells)>,
    cells: ByteRecord,
    /// 1 where lines end in two characters: the parser then takes the second one for the beginning of the next row.
    behind: u64,
}

impl CsvRows {
    /// Opens a file and finds the types of its columns.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read, or its header names a column twice or not at all.
    pub(super) fn open(path: &Path, compression: Compression) -> Result<Self> {
        let mut reader = open(path, compression)?;
        let mut columns = columns(path, &mut reader)?;
        let mut cells = ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut cells) {
                Ok(false) => break,
                // What is wrong with a row is said when it is read.
                Err(error) if is_of_one_row(&error) => {}
                Err(error) => return Err(unreadable(path, &error)),
                Ok(true) => {
                    for ((_, kind), cell) in columns.iter_mut().zip(&cells) {
                        *kind = std::str::from_utf8(cell).map_or(Cells::Texts, |cell| kind.with(cell));
                    }
                }
            }
        }
        let behind = u64::from(ends_lines_in_two(path, compression)?);
        Ok(Self { path: path.to_owned(), reader: open(path, compression)?, columns, cells, behind })
    }

    fn row(&self) -> Result<Row, String> {
        let cell = |(name, kind): &(String, Cells), cell: &[u8]| {
            let text =
                std::str::from_utf8(cell).map_err(|_| format!("the cell of column `{name}` is not UTF-8"))?;
            Ok((name.clone(), kind.value(text)))
        };
        self.columns.iter().zip(&self.cells).map(|(column, text)| cell(column, text)).collect()
    }

    /// The row as it stands, quoted where it has to be.
    fn raw(&self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        // Memory takes everything.
        let _ = writer.write_byte_record(&self.cells);
        let mut raw = writer.into_inner().unwrap_or_default();
        raw.truncate(raw.trim_ascii_end().len());
        raw
    }
}

impl Iterator for CsvRows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let behind = self.behind;
        let line = |record: &ByteRecord, reader: &Reader| {
            behind + record.position().unwrap_or_else(|| reader.position()).line()
        };
        match self.reader.read_byte_record(&mut self.cells) {
            Ok(false) => None,
            Ok(true) => {
                let line = line(&self.cells, &self.reader);
                Some(Ok(Record { line, content: self.row(), raw: self.raw() }))
            }
            Err(error) if is_of_one_row(&error) => {
                let line = line(&self.cells, &self.reader);
                let (found, expected) = (self.cells.len(), self.columns.len());
                let content = Err(format!("{found} cells, but the header has {expected}"));
                Some(Ok(Record { line, content, raw: self.raw() }))
            }
            Err(error) => Some(Err(unreadable(&self.path, &error))),
        }
    }
}

fn open(path: &Path, compression: Compression) -> Result<Reader> {
    let bytes = compression::reader(path, compression).map_err(|e| Error::io("read", path, e))?;
    Ok(ReaderBuilder::new().from_reader(bytes))
}

/// Whether the first line ends in `\r\n`.
fn ends_lines_in_two(path: &Path, compression: Compression) -> Result<bool> {
    let first = || -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        compression::reader(path, compression)?.read_until(b'\n', &mut line)?;
        Ok(line)
    };
    Ok(first().map_err(|e| Error::io("read", path, e))?.ends_with(b"\r\n"))
}

/// Reads the header.
fn columns(path: &Path, reader: &mut Reader) -> Result<Vec<(String, Cells)>> {
    let header = reader.headers().map_err(|error| unreadable(path, &error))?;
    let mut columns: Vec<(String, Cells)> = Vec::new();
    for (index, name) in header.iter().enumerate() {
        if name.is_empty() {
            return Err(Error::malformed(path, format!("line 1: column {} has no name", index + 1)));
        }
        if columns.iter().any(|(earlier, _)| earlier == name) {
            return Err(Error::malformed(path, format!("line 1: two columns are named `{name}`")));
        }
        columns.push((name.to_owned(), Cells::Empty));
    }
    Ok(columns)
}

fn is_of_one_row(error: &csv::Error) -> bool {
    matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. })
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    Error::malformed(path, format!("line {line}: the file is damaged: {error}"))
}

/// Writes rows, with the columns of the first one and all that later ones add.
///
/// # Errors
/// Fails with the path when the file cannot be written.
pub(super) fn write(path: &Path, compression: Compression, rows: &[Row]) -> Result<()> {
    let mut columns: Vec<&String> = Vec::new();
    let mut known = std::collections::HashSet::new();
    columns.extend(rows.iter().flat_map(Row::keys).filter(|name| known.insert(name.as_str())));
    let written = || -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(BufWriter::new(Encoder::create(path, compression)?));
        if !columns.is_empty() {
            writer.write_record(&columns)?;
        }
        for row in rows {
            writer.write_record(columns.iter().map(|name| cell(row.get(*name))))?;
        }
        let mut bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        bytes.flush()?;
        bytes.into_inner().map_err(io::IntoInnerError::into_error)?.finish().map(drop)
    };
    written().map_err(|e| Error::io("write", path, e))
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(u64, Result<Value, String>)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let rows = CsvRows::open(&path, Compression::None)?;
        Ok(rows.map(|row| row.unwrap()).map(|row| (row.line, row.content.map(Value::Object))).collect())
    }

    #[test]
    fn a_column_has_the_type_of_all_its_cells() {
        let check = |cells: &[&str], expected: &[Value]| {
            let text = cells.iter().fold("id,x\n".to_owned(), |text, cell| format!("{text}a,{cell}\n"));
            let rows = read(text.as_bytes()).unwrap();
            let found: Vec<Value> = rows.into_iter().map(|(_, row)| row.unwrap()["x"].clone()).collect();
            assert_eq!(found, expected);
        };
        check(&["1", "-2.5", "", "1e3"], &[json!(1), json!(-2.5), json!(null), json!(1000.0)]);
        check(&["1", "007"], &[json!("1"), json!("007")]);
        check(&["18446744073709551616"], &[json!("18446744073709551616")]);
        check(&["true", "", "false"], &[json!(true), json!(null), json!(false)]);
        check(&["true", "1"], &[json!("true"), json!("1")]);
        check(&["\"a, \"\"b\"\"\nc\"", " 1"], &[json!("a, \"b\"\nc"), json!(" 1")]);
        check(&["", ""], &[json!(null), json!(null)]);
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_are_read() {
        let rows = read(b"\xef\xbb\xbfa,b\r\n1,2\r\n3\r\n\"x\ny\",z\r\n4,\xff\r\n5,6\r\n").unwrap();
        let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 6, 7]);
        let problems: Vec<_> = rows.iter().filter_map(|(_, row)| row.as_ref().err()).collect();
        assert_eq!(problems, ["1 cells, but the header has 2", "the cell of column `b` is not UTF-8"]);
        assert_eq!(rows[0].1, Ok(json!({"a": "1", "b": "2"})));
    }

    #[test]
    fn a_header_names_each_column_once() {
        let check = |text: &[u8], expected: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"a,b,a\n1,2,3\n", "line 1: two columns are named `a`");
        check(b"a,,c\n1,2,3\n", "line 1: column 2 has no name");
    }
}
