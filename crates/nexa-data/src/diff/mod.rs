//! What differs between two tables, row by row: added, removed, changed; and in their columns.
//!
//! ```text
//! both ──(columns)──▶ what both have ──(before)──▶ digests ──(after)──▶ added, changed ──(before)──▶ removed, cells
//! ```
//!
//! Rows are known by a key, which must be unique on either side, or are compared as a whole and counted. What is held of
//! them are digests: 32 bytes a row of the older table, 16 a row that only the newer one has, and 8 a cell of so many
//! changed rows as are compared at a time. Only the rows that are shown are held themselves.
//!
//! A row has changed where a column differs that both tables have; that a column came or went is told once. Null is as
//! good as absent and `1.0` as `1`, so that the same rows in another format are the same.

mod columns;
mod compare;
mod digest;
mod whole;

use std::path::{Path, PathBuf};

use nexa_core::Error as CoreError;
use nexa_core::artifact::{Artifact, Column};
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::Value;

use crate::{Result, catalog};
use columns::Columns;

/// How rows are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Key {
    /// By `id`, else by the first column that is named like one.
    #[default]
    Found,
    /// By these columns together.
    Columns(Vec<String>),
    /// By nothing: a row is there so often, or it is not.
    WholeRow,
}

/// What is compared, and how much of it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options<'a> {
    /// The file of the artifacts, by its name in the manifest; by default the main table.
    pub file: Option<&'a str>,
    /// How rows are told apart.
    pub key: Key,
    /// Columns that are left out of the comparison, such as those that count lines.
    pub ignore: &'a [String],
    /// Rows of each kind that are shown.
    pub limit: usize,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// The older table.
    pub before: String,
    /// The newer one.
    pub after: String,
    /// The columns that tell rows apart; none where they are compared as a whole.
    pub key: Vec<String>,
    /// How many rows there are of each kind.
    pub rows: Counts,
    /// What differs in the columns.
    pub columns: SchemaDiff,
    /// The columns that both have and that differ in some row, with the number of these rows.
    pub changed_columns: Vec<ChangedColumn>,
    /// The first rows that only the newer table has.
    pub added: Vec<Row>,
    /// The first rows that only the older one has.
    pub removed: Vec<Row>,
    /// The first rows that both have and that differ.
    pub changed: Vec<ChangedRow>,
}

/// How many rows there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Only in the newer table.
    pub added: u64,
    /// Only in the older one.
    pub removed: u64,
    /// In both, with other cells.
    pub changed: u64,
    /// In both, with the same cells.
    pub unchanged: u64,
}

/// What differs in the columns of two tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SchemaDiff {
    /// Only in the newer table.
    pub added: Vec<Column>,
    /// Only in the older one.
    pub removed: Vec<Column>,
    /// In both, holding something else.
    pub retyped: Vec<Retyped>,
}

/// A column that holds something else than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retyped {
    /// The column.
    pub column: String,
    /// What it held.
    pub before: String,
    /// What it holds.
    pub after: String,
}

/// A column that differs in some rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedColumn {
    /// The column.
    pub column: String,
    /// In how many.
    pub rows: u64,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangedRow {
    /// The values that tell it apart.
    pub key: Row,
    /// What differs.
    pub cells: Vec<ChangedCell>,
}

/// A cell that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangedCell {
    /// Its column.
    pub column: String,
    /// What stood there.
    pub before: Value,
    /// What stands there.
    pub after: Value,
}

impl Diff {
    /// Whether something differs.
    pub fn is_empty(&self) -> bool {
        let Counts { added, removed, changed, .. } = self.rows;
        added + removed + changed == 0 && self.columns == SchemaDiff::default()
    }
}

/// Compares the tables of two artifacts.
///
/// # Errors
/// Fails when an artifact has no such table or one cannot be read, with the columns that there are when no key is found
/// or a named one is missing, and with the row when a key is there twice.
pub fn diff(before: &Artifact, after: &Artifact, options: &Options<'_>) -> Result<Diff> {
    let table = |artifact: &Artifact| -> Result<Table> {
        let path = catalog::table_path(artifact, options.file)?;
        Ok(Table { name: artifact.id().to_string(), path })
    };
    compare_tables(&Sides { before: table(before)?, after: table(after)? }, options)
}

/// A table, and what it is called.
struct Table {
    name: String,
    path: PathBuf,
}

/// Both tables.
struct Sides {
    before: Table,
    after: Table,
}

fn compare_tables(sides: &Sides, options: &Options<'_>) -> Result<Diff> {
    let before = Columns::of(&sides.before.path)?;
    let after = Columns::of(&sides.after.path)?;
    for name in options.ignore {
        before.require(name, &sides.before.path).or_else(|_| after.require(name, &sides.after.path))?;
    }
    let mut shared = before.shared(&after);
    shared.retain(|name| !options.ignore.contains(name));
    let key = match &options.key {
        Key::WholeRow => Vec::new(),
        Key::Columns(named) => {
            for name in named {
                before.require(name, &sides.before.path)?;
                after.require(name, &sides.after.path)?;
            }
            named.clone()
        }
        Key::Found => vec![columns::key(&shared).ok_or_else(|| no_key(&shared, &sides.after.path))?],
    };
    let mut diff = Diff {
        before: sides.before.name.clone(),
        after: sides.after.name.clone(),
        key,
        rows: Counts::default(),
        columns: before.diff(&after),
        changed_columns: Vec::new(),
        added: Vec::new(),
        removed: Vec::new(),
        changed: Vec::new(),
    };
    if diff.key.is_empty() {
        whole::compare(sides, &shared, options.limit, &mut diff)?;
    } else {
        compare::compare(sides, &shared, options.limit, &mut diff)?;
    }
    Ok(diff)
}

fn no_key(shared: &[String], place: &Path) -> CoreError {
    CoreError::NotFound {
        what: "column that tells rows apart in",
        name: place.display().to_string(),
        hint: Some(format!(
            "name some with `--key`, or compare rows as a whole with `--whole-rows`; both tables have: {}",
            shared.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests;
