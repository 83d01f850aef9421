//! Rows in files, whatever the format.
//!
//! Stages read and write rows through [`Tables`], so that only `nexa-data` knows Parquet. [`JsonLines`] is the plain
//! implementation that needs no library; it serves tests and the JSONL side of packaging.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::artifact::{Artifact, Column, Kind};
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

    /// Hands on every row of a table, one after the other; where the format allows it, no more than some rows are in
    /// memory at once.
    ///
    /// # Errors
    /// As [`Self::read`], and with the first error of `take`, which ends the reading.
    fn each(&self, path: &Path, take: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
        self.read(path)?.into_iter().try_for_each(take)
    }

    /// Writes a table to a path that does not exist yet or may be replaced.
    ///
    /// Every row is expected to have the columns of the first; a missing one is null.
    ///
    /// # Errors
    /// Fails with the path when the rows cannot be written in the format of the extension.
    fn write(&self, path: &Path, rows: &[Row]) -> Result<()>;

    /// The columns of a table whose format states them; of any other, nothing.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read as a table.
    fn schema(&self, path: &Path) -> Result<Vec<Column>> {
        let _ = path;
        Ok(Vec::new())
    }

    /// Goes through the rows of a table in their order, each with its position from 0. A format that holds columns apart
    /// reads the named ones alone; others may give rows whole.
    ///
    /// # Errors
    /// Fails as [`Tables::read`] does, and with what `visit` fails with.
    fn scan(
        &self,
        path: &Path,
        columns: &[&str],
        visit: &mut dyn FnMut(usize, Row) -> Result<()>,
    ) -> Result<()> {
        let _ = columns;
        let mut position = 0;
        self.each(path, &mut |row| {
            position += 1;
            visit(position - 1, row)
        })
    }

    /// Reads the rows at some positions, counted from 0, each with its position. Those behind the last row are left out.
    ///
    /// # Errors
    /// Fails as [`Tables::read`] does.
    fn rows_at(&self, path: &Path, positions: &BTreeSet<usize>) -> Result<Vec<(usize, Row)>> {
        let rows = self.read(path)?.into_iter().enumerate();
        Ok(rows.filter(|(position, _)| positions.contains(position)).collect())
    }

    /// Takes the name of a file apart where it is that of a table: stem and format. In an artifact the whole name may be
    /// the format; the stem is empty then.
    fn split_name<'n>(&self, name: &'n str) -> Option<(&'n str, &'static str)>;
}

/// The table that an artifact is about, by its name in the manifest: the one named for its format alone, else the first
/// that is not of rejects. Checkpoints and tokenizers are no data sets, whatever files they hold.
pub fn main_table<'a>(artifact: &'a Artifact, tables: &dyn Tables) -> Option<&'a str> {
    let names = artifact.manifest.files.iter().map(|file| file.name.as_str());
    main_table_of(artifact.manifest.kind, names, tables)
}

/// The main table among the names of an artifact's files.
pub(crate) fn main_table_of<'a>(
    kind: Kind,
    names: impl Iterator<Item = &'a str>,
    tables: &dyn Tables,
) -> Option<&'a str> {
    if kind.is_folder() {
        return None;
    }
    let found = names.filter_map(|name| Some((tables.split_name(name)?.0, name)));
    found.min_by_key(|(stem, _)| (!stem.is_empty(), *stem == "rejected")).map(|(_, name)| name)
}

/// The table of what the gates of an artifact rejected, by its name in the manifest, if they rejected something. What
/// failed before there were gates to ask is none of it.
pub fn rejected_table<'a>(artifact: &'a Artifact, tables: &dyn Tables) -> Option<&'a str> {
    table_beside(artifact, tables, "rejected")
}

/// The table of what the gates of an artifact measured, by its name in the manifest, if they kept that.
pub fn scores_table<'a>(artifact: &'a Artifact, tables: &dyn Tables) -> Option<&'a str> {
    table_beside(artifact, tables, "scores")
}

/// A table that stands beside the rows of filtered answers.
fn table_beside<'a>(artifact: &'a Artifact, tables: &dyn Tables, wanted: &str) -> Option<&'a str> {
    let mut names = artifact.manifest.files.iter().map(|file| file.name.as_str());
    let name = names.find(|name| tables.split_name(name).is_some_and(|(stem, _)| stem == wanted))?;
    (artifact.manifest.kind == Kind::Filtered).then_some(name)
}

/// What stands before an extension in the name of a file, if it has that extension: nothing where it is the whole name.
pub fn stem<'n>(name: &'n str, extension: &str) -> Option<&'n str> {
    let stem = name.strip_suffix(extension)?;
    if stem.is_empty() { Some(stem) } else { stem.strip_suffix('.') }
}

/// Tables as lines of JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonLines;

impl Tables for JsonLines {
    fn read(&self, path: &Path) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.each(path, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    fn each(&self, path: &Path, take: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
        let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| Error::io("read", path, e))?;
            if !line.trim().is_empty() {
                let row = serde_json::from_str(&line)
                    .map_err(|e| Error::malformed(path, format!("line {}: {e}", number + 1)))?;
                take(row)?;
            }
        }
        Ok(())
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

    fn split_name<'n>(&self, name: &'n str) -> Option<(&'n str, &'static str)> {
        Some((stem(name, "jsonl")?, "jsonl"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scanned_and_found_by_their_positions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let row = |n: u64| serde_json::json!({ "n": n }).as_object().cloned().unwrap_or_default();
        JsonLines.write(&path, &[row(5), row(6), row(7)]).unwrap();
        let mut seen = Vec::new();
        let mut see = |position, row| {
            seen.push((position, row));
            Ok(())
        };
        JsonLines.scan(&path, &["n"], &mut see).unwrap();
        assert_eq!(seen, [(0, row(5)), (1, row(6)), (2, row(7))]);
        let found = JsonLines.rows_at(&path, &BTreeSet::from([2, 0, 9])).unwrap();
        assert_eq!(found, [(0, row(5)), (2, row(7))]);
    }

    #[test]
    fn a_name_is_taken_apart_at_the_dot_before_its_format() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(JsonLines.split_name(name).map(|(stem, _)| stem), expected, "{name}");
        };
        check("jsonl", Some(""));
        check("train.jsonl", Some("train"));
        check("a.b.jsonl", Some("a.b"));
        check("notjsonl", None);
        check("train.jsonl.gz", None);
        check("", None);
    }
}
