//! The rows of a file, one after the other.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use nexa_core::columns::SPLIT;
use nexa_core::table::{Row, Tables};
use serde_json::Value;

use crate::Error;
use nexa_core::split::Split;

/// A row and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    /// The line of the file, from 1; of a table, the row.
    pub(super) line: usize,
    pub(super) row: Row,
}

impl Numbered {
    /// What a person finds the row by: its `id`, else the file and the line.
    pub(super) fn id(&self, path: &Path) -> String {
        match self.row.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => format!("{}:{}", path.file_name().unwrap_or_default().to_string_lossy(), self.line),
        }
    }

    /// Whether the row belongs to a side of its table. One that does not say is there to be trained on.
    fn belongs_to(&self, split: Split) -> bool {
        match self.row.get(SPLIT) {
            None | Some(Value::Null) => split == Split::Train,
            Some(side) => side == split.as_str(),
        }
    }

    /// An error about the row.
    pub(super) fn error(&self, path: &Path, problem: impl Into<String>) -> Error {
        Error::Sample { path: path.to_owned(), line: self.line, problem: problem.into() }
    }
}

/// Rows as they come.
type Rows = Box<dyn Iterator<Item = Result<Numbered, Error>>>;

/// Opens a file and passes over the rows that belong to another side of it, where one is asked for.
pub(super) fn open(path: &Path, split: Option<Split>, tables: &dyn Tables) -> Result<Rows, Error> {
    let rows = open_all(path, tables)?;
    let Some(split) = split else { return Ok(rows) };
    Ok(Box::new(rows.filter(move |row| row.as_ref().map_or(true, |row| row.belongs_to(split)))))
}

/// Opens a file: lines of JSON are read as they are asked for, other tables as a whole.
fn open_all(path: &Path, tables: &dyn Tables) -> Result<Rows, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.ends_with("jsonl") {
        let rows = tables.read(path)?.into_iter().enumerate();
        return Ok(Box::new(rows.map(|(index, row)| Ok(Numbered { line: index + 1, row }))));
    }
    let path: PathBuf = path.to_owned();
    let lines = BufReader::new(fs_err::File::open(&path)?).lines().enumerate();
    let rows = lines.filter_map(move |(index, line)| {
        let line = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => line,
            Err(error) => return Some(Err(error.into())),
        };
        let row = serde_json::from_str(&line).map_err(|error| {
            let problem = format!("not a JSON object: {error}");
            Error::Sample { path: path.clone(), line: index + 1, problem }
        });
        Some(row.map(|row| Numbered { line: index + 1, row }))
    });
    Ok(Box::new(rows))
}
