//! Comparing rows that are told apart by a key.

use std::collections::{HashMap, HashSet};

use nexa_core::Error as CoreError;
use nexa_core::table::Row;
use serde_json::Value;

use super::digest::{self, Digest};
use super::{ChangedCell, ChangedColumn, ChangedRow, Diff, Sides, Table};
use crate::Result;
use crate::tables::Records;

/// Cells of changed rows that are held to be compared, 8 bytes each. Where there are more, the older table is read
/// again for each such lot.
const CELLS_AT_ONCE: usize = 1 << 24;

/// What is held of a row of the older table.
struct Known {
    key: Digest,
    content: Digest,
    is_seen: bool,
}

/// Rows of the older table, in the order of their keys.
struct Before(Vec<Known>);

/// Rows of the newer table that have changed, until the older one is read for their cells.
#[derive(Default)]
struct Lot {
    /// The position of each in [`Lot::cells`], in rows.
    at: HashMap<Digest, usize>,
    cells: Vec<u64>,
    /// The rows that are shown, by key.
    shown: HashMap<Digest, (usize, Row)>,
}

/// The comparison under way.
struct Comparison<'a> {
    sides: &'a Sides,
    key: Vec<&'a str>,
    /// The columns that both have, but for those of the key.
    columns: Vec<&'a str>,
    limit: usize,
    /// For each column, the rows in which it differs.
    differing: Vec<u64>,
    changed: Vec<(usize, ChangedRow)>,
}

/// Fills in rows, columns and examples.
pub(super) fn compare(sides: &Sides, shared: &[String], limit: usize, diff: &mut Diff) -> Result<()> {
    let key = diff.key.clone();
    let mut comparison = Comparison {
        sides,
        key: key.iter().map(String::as_str).collect(),
        columns: shared.iter().filter(|name| !key.contains(name)).map(String::as_str).collect(),
        limit,
        differing: Vec::new(),
        changed: Vec::new(),
    };
    comparison.differing = vec![0; comparison.columns.len()];
    let mut before = comparison.before()?;
    comparison.after(&mut before, diff)?;
    comparison.removed(&before, diff)?;
    let counted = comparison.columns.iter().zip(&comparison.differing).filter(|(_, rows)| **rows > 0);
    diff.changed_columns =
        counted.map(|(column, rows)| ChangedColumn { column: (*column).to_owned(), rows: *rows }).collect();
    diff.changed_columns.sort_by_key(|column| std::cmp::Reverse(column.rows));
    comparison.changed.sort_by_key(|(position, _)| *position);
    diff.changed = comparison.changed.into_iter().map(|(_, row)| row).collect();
    Ok(())
}

impl Comparison<'_> {
    /// Reads the older table to digests.
    fn before(&self) -> Result<Before> {
        let mut known = Vec::new();
        for row in Records::open(&self.sides.before.path)?.rows() {
            let row = row?;
            let (key, content) = (self.key_of(&row), self.content_of(&row));
            known.push(Known { key, content, is_seen: false });
        }
        known.sort_unstable_by_key(|row| row.key);
        let twice = known.windows(2).find(|pair| pair[0].key == pair[1].key).map(|pair| pair[0].key);
        match twice {
            Some(key) => Err(self.not_unique(&self.sides.before, key)?),
            None => Ok(Before(known)),
        }
    }

    /// Reads the newer table against it.
    fn after(&mut self, before: &mut Before, diff: &mut Diff) -> Result<()> {
        let mut new = HashSet::new();
        let mut lot = Lot::default();
        for row in Records::open(&self.sides.after.path)?.rows() {
            let row = row?;
            let key = self.key_of(&row);
            let Some(known) = before.find(key) else {
                if !new.insert(key) {
                    return Err(self.not_unique(&self.sides.after, key)?);
                }
                diff.rows.added += 1;
                if diff.added.len() < self.limit {
                    diff.added.push(row);
                }
                continue;
            };
            if std::mem::replace(&mut known.is_seen, true) {
                return Err(self.not_unique(&self.sides.after, key)?);
            }
            if known.content == self.content_of(&row) {
                diff.rows.unchanged += 1;
                continue;
            }
            let position = usize::try_from(diff.rows.changed).unwrap_or(usize::MAX);
            diff.rows.changed += 1;
            lot.at.insert(key, lot.at.len());
            lot.cells.extend(self.columns.iter().map(|column| digest::of_cell(row.get(*column))));
            if position < self.limit {
                lot.shown.insert(key, (position, row));
            }
            if lot.cells.len() >= CELLS_AT_ONCE {
                self.cells(std::mem::take(&mut lot))?;
            }
        }
        self.cells(lot)
    }

    /// Reads the older table for the cells of changed rows.
    fn cells(&mut self, mut lot: Lot) -> Result<()> {
        if lot.at.is_empty() {
            return Ok(());
        }
        let width = self.columns.len();
        for before in Records::open(&self.sides.before.path)?.rows() {
            let before = before?;
            let key = self.key_of(&before);
            let Some(at) = lot.at.get(&key) else { continue };
            let after = &lot.cells[at * width..(at + 1) * width];
            for ((column, differing), after) in self.columns.iter().zip(&mut self.differing).zip(after) {
                *differing += u64::from(digest::of_cell(before.get(*column)) != *after);
            }
            if let Some((position, after)) = lot.shown.remove(&key) {
                self.changed.push((position, self.changed_row(&before, &after)));
            }
        }
        Ok(())
    }

    fn changed_row(&self, before: &Row, after: &Row) -> ChangedRow {
        let cell = |row: &Row, column: &str| row.get(column).cloned().unwrap_or(Value::Null);
        let differs =
            |column: &&&str| digest::of_cell(before.get(**column)) != digest::of_cell(after.get(**column));
        let changed = |column: &&str| ChangedCell {
            column: (*column).to_owned(),
            before: cell(before, column),
            after: cell(after, column),
        };
        ChangedRow {
            key: self.key_row(after),
            cells: self.columns.iter().filter(differs).map(changed).collect(),
        }
    }

    /// Counts the rows that the newer table did not have, and reads the first of them.
    fn removed(&self, before: &Before, diff: &mut Diff) -> Result<()> {
        diff.rows.removed = before.0.iter().filter(|row| !row.is_seen).count() as u64;
        let wanted = self.limit.min(usize::try_from(diff.rows.removed).unwrap_or(usize::MAX));
        let mut rows = Records::open(&self.sides.before.path)?.rows();
        while diff.removed.len() < wanted {
            let Some(row) = rows.next() else { break };
            let row = row?;
            if before.get(self.key_of(&row)).is_some_and(|known| !known.is_seen) {
                diff.removed.push(row);
            }
        }
        Ok(())
    }

    /// Finds the first two rows of a key that is there twice, and says so.
    fn not_unique(&self, table: &Table, key: Digest) -> Result<crate::Error> {
        let mut lines = Vec::new();
        let mut named = String::new();
        for record in Records::open(&table.path)? {
            let record = record?;
            if let Ok(row) = &record.content
                && self.key_of(row) == key
            {
                let values: Vec<String> =
                    self.key_row(row).iter().map(|(name, value)| format!("{name} {value}")).collect();
                named = values.join(", ");
                lines.push(record.line);
                if lines.len() == 2 {
                    break;
                }
            }
        }
        let place = lines.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ");
        let message = format!(
            "rows {place} have the same key ({named}); name more columns with `--key`, or compare rows as a whole with \
             `--whole-rows`"
        );
        Ok(CoreError::malformed(&table.path, message).into())
    }

    fn key_of(&self, row: &Row) -> Digest {
        digest::of_columns(row, self.key.iter().copied())
    }

    fn content_of(&self, row: &Row) -> Digest {
        digest::of_columns(row, self.columns.iter().copied())
    }

    fn key_row(&self, row: &Row) -> Row {
        let cell = |name: &&str| ((*name).to_owned(), row.get(*name).cloned().unwrap_or(Value::Null));
        self.key.iter().map(cell).collect()
    }
}

impl Before {
    fn find(&mut self, key: Digest) -> Option<&mut Known> {
        let at = self.0.binary_search_by_key(&key, |row| row.key).ok()?;
        self.0.get_mut(at)
    }

    fn get(&self, key: Digest) -> Option<&Known> {
        let at = self.0.binary_search_by_key(&key, |row| row.key).ok()?;
        self.0.get(at)
    }
}
