//! Rows in files of Parquet, JSON Lines and CSV.
//!
//! JSON keeps rows as they are. Parquet gives every column one type, so there a missing value comes back as null, also
//! inside objects, and a column of integers and floats comes back as floats. Types that clash are an error.
//! CSV holds texts, of which types are guessed; see `csv`.

mod compression;
mod csv;
mod expand;
mod format;
mod jsonl;
mod parquet;
mod records;
mod schema;
mod text;
mod writer;

use std::collections::BTreeSet;
use std::path::Path;

use nexa_core::artifact::Column;
use nexa_core::table::{Row, Tables};
use nexa_core::{Error, Result};

pub(crate) use compression::Encoder;
pub(crate) use expand::{GLOB_CHARACTERS, GLOB_OPTIONS, bad_pattern, expand, no_tables};
pub use format::{Compression, Format};
pub(crate) use jsonl::{JsonLinesWriter, Lines};
use parquet::ParquetRows;
pub(crate) use parquet::{BATCH_ROWS, ParquetWriter, failed, properties, rows_of};
pub(crate) use records::batches;
pub use records::{Record, Records};
pub(crate) use schema::Schema;
pub use text::Texts;
pub(crate) use writer::RowWriter;

/// Tables in files, in the format that the end of the name says: see [`Format`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FileTables;

impl Tables for FileTables {
    fn read(&self, path: &Path) -> Result<Vec<Row>> {
        Records::open(path)?.rows().collect()
    }

    fn each(&self, path: &Path, take: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
        Records::open(path)?.rows().try_for_each(|row| take(row?))
    }

    fn write(&self, path: &Path, rows: &[Row]) -> Result<()> {
        match Format::of(path)? {
            Format::Parquet => {
                let schema = schema_of(path, rows)?;
                let mut writer = ParquetWriter::create(path, &schema)?;
                for batch in rows.chunks(BATCH_ROWS) {
                    writer.append(batch)?;
                }
                writer.finish()
            }
            Format::JsonLines(compression) => {
                let mut writer = JsonLinesWriter::create(path, compression)?;
                for row in rows {
                    writer.append(row)?;
                }
                writer.finish()
            }
            Format::Csv(compression) => csv::write(path, compression, rows),
        }
    }

    fn schema(&self, path: &Path) -> Result<Vec<Column>> {
        match Format::of(path)? {
            Format::Parquet => parquet::columns(path),
            Format::JsonLines(_) | Format::Csv(_) => Ok(Vec::new()),
        }
    }

    fn scan(
        &self,
        path: &Path,
        columns: &[&str],
        visit: &mut dyn FnMut(usize, Row) -> Result<()>,
    ) -> Result<()> {
        let records = match Format::of(path)? {
            Format::Parquet => Records::new(path, Box::new(ParquetRows::of_columns(path, columns)?)),
            Format::JsonLines(_) | Format::Csv(_) => Records::open(path)?,
        };
        records.rows().enumerate().try_for_each(|(position, row)| visit(position, row?))
    }

    fn rows_at(&self, path: &Path, positions: &BTreeSet<usize>) -> Result<Vec<(usize, Row)>> {
        if Format::of(path)? == Format::Parquet {
            let rows = Records::new(path, Box::new(ParquetRows::at(path, positions)?)).rows();
            return positions.iter().copied().zip(rows).map(|(position, row)| Ok((position, row?))).collect();
        }
        let end = positions.last().map_or(0, |last| last + 1);
        let rows = Records::open(path)?.rows().take(end).enumerate();
        let wanted = rows.filter(|(position, _)| positions.contains(position));
        wanted.map(|(position, row)| Ok((position, row?))).collect()
    }

    fn split_name<'n>(&self, name: &'n str) -> Option<(&'n str, &'static str)> {
        Format::split(name).map(|(stem, format)| (stem, format.extension()))
    }
}

/// The types of a table's columns where the file says them, without a look at its rows.
///
/// # Errors
/// Fails with the path when the file cannot be read.
pub(crate) fn stated_schema(path: &Path) -> Result<Option<Schema>> {
    match Format::of(path)? {
        Format::Parquet => Ok(Some(parquet::schema(path)?)),
        Format::JsonLines(_) | Format::Csv(_) => Ok(None),
    }
}

fn schema_of(path: &Path, rows: &[Row]) -> Result<Schema> {
    let mut schema = Schema::default();
    for (index, row) in rows.iter().enumerate() {
        schema
            .observe(row)
            .map_err(|conflict| Error::malformed(path, format!("row {}: {conflict}", index + 1)))?;
    }
    Ok(schema)
}

#[cfg(test)]
mod tests;
