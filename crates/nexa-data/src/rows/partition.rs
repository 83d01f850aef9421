//! Writes the rows that stay and, with the reason, those that do not.

use std::path::Path;

use nexa_core::Error;
use nexa_core::stage::Context;
use nexa_core::table::Row;

use crate::Result;
use crate::tables::{RowWriter, Schema};

/// The files of an artifact whose rows were sifted.
const KEPT_FILE: &str = "parquet";
const REJECTED_FILE: &str = "rejected.parquet";

/// The two tables of an artifact whose rows were sifted.
pub(crate) struct Partition {
    kept: RowWriter,
    rejected: RowWriter,
}

impl Partition {
    /// Begins both tables. `schema` has seen every row; `kept` and `rejected` are examples of the columns that are
    /// added to the rows of either.
    ///
    /// # Errors
    /// Fails with the path when a file cannot be made, or a column exists that an added one does not go with.
    pub(crate) fn create(context: &Context<'_>, schema: &Schema, kept: &Row, rejected: &Row) -> Result<Self> {
        Ok(Self {
            kept: create(&context.output.join(KEPT_FILE), schema, kept)?,
            rejected: create(&context.output.join(REJECTED_FILE), schema, rejected)?,
        })
    }

    /// Writes a row that stays.
    ///
    /// # Errors
    /// Fails with the path when it cannot be written.
    pub(crate) fn keep(&mut self, row: Row) -> Result<()> {
        Ok(self.kept.append(row)?)
    }

    /// Writes a row that does not stay, with what was added to it.
    ///
    /// # Errors
    /// As [`Partition::keep`].
    pub(crate) fn reject(&mut self, mut row: Row, added: Row) -> Result<()> {
        row.extend(added);
        Ok(self.rejected.append(row)?)
    }

    /// Ends both files; says how many rows stay and how many do not.
    ///
    /// # Errors
    /// As [`Partition::keep`].
    pub(crate) fn finish(self) -> Result<(u64, u64)> {
        Ok((self.kept.finish()?, self.rejected.finish()?))
    }
}

/// Writes a table whose columns are those of an example, also where there are no rows.
///
/// # Errors
/// Fails with the path when it cannot be written.
pub(crate) fn write_table(path: &Path, example: &Row, rows: Vec<Row>) -> Result<()> {
    let mut table = create(path, &Schema::default(), example)?;
    rows.into_iter().try_for_each(|row| table.append(row))?;
    table.finish()?;
    Ok(())
}

/// Begins a table whose columns are those of a schema and of an example row.
fn create(path: &Path, schema: &Schema, added: &Row) -> Result<RowWriter> {
    let mut schema = schema.clone();
    schema.observe(added).map_err(|conflict| Error::malformed(path, conflict.to_string()))?;
    Ok(RowWriter::create(path, &schema)?)
}
