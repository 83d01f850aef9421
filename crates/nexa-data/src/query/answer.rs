//! What a statement came to: batches as they are made, never all at once.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};
use futures_util::StreamExt;
use nexa_core::files::AtomicFile;
use nexa_core::table::Row;

use super::data_query::DataQuery;
use super::failure::{failure, query};
use super::output::{OutputFormat, Sink};
use super::parquet::blame;
use super::session::Running;
use super::work::Work;
use crate::{Error, Result};

/// The answer of a statement.
///
/// Rows of one table that are only chosen and reshaped (SELECT, WHERE, LIMIT) come in the order of its files; all else is
/// in the order that ORDER BY asks for, and rows that it does not tell apart in any.
pub struct Answer {
    schema: SchemaRef,
    running: Running,
    work: Work,
    memory_limit: u64,
}

impl Answer {
    pub(super) fn new(running: Running, query: &DataQuery) -> Self {
        let schema = with_distinct_names(&running.stream.schema());
        Self { schema, running, work: query.work.clone(), memory_limit: query.memory_limit }
    }

    /// The names of the columns. Two of one name are told apart: `id`, `id_1`.
    pub fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    /// The rows, one after the other.
    pub fn rows(self) -> Rows {
        Rows { answer: self, rows: Vec::new().into_iter() }
    }

    /// Writes the answer and says how many rows it has.
    ///
    /// # Errors
    /// Fails when the query does, on a type that the format cannot hold, or with `name` when it cannot be written.
    pub fn write(mut self, out: impl Write + Send, format: OutputFormat, name: &Path) -> Result<u64> {
        let mut sink = Sink::begin(out, format, &self.schema, name)?;
        let mut rows = 0;
        while let Some(batch) = self.next_batch()? {
            rows += batch.num_rows() as u64;
            sink.append(&batch)?;
        }
        sink.finish()?;
        Ok(rows)
    }

    /// Writes the answer to a file that is whole or absent, and says how many rows it has.
    ///
    /// # Errors
    /// As [`Answer::write`], and where the file is there and may not be replaced.
    pub fn write_file(self, path: &Path, format: OutputFormat, replace: bool) -> Result<u64> {
        check_free(path, replace)?;
        let mut file = AtomicFile::create(path)?;
        let rows = self.write(&mut file, format, path)?;
        // It may have been made meanwhile.
        check_free(path, replace)?;
        file.commit()?;
        Ok(rows)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let next = self.running.stream.next();
        let batch = self.work.wait(async { next.await.transpose().map_err(failure) });
        let batch = batch.map_err(|error| blame(error.within(self.memory_limit), &self.running.columnar))?;
        let Some(batch) = batch else { return Ok(None) };
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        let named = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        Ok(Some(named.map_err(|e| query(e.to_string(), None))?))
    }
}

/// The rows of an answer.
pub struct Rows {
    answer: Answer,
    rows: std::vec::IntoIter<Row>,
}

impl Rows {
    /// The names of the columns, as in [`Answer::columns`].
    pub fn columns(&self) -> Vec<&str> {
        self.answer.columns()
    }

    /// Counts the rows that are left, up to about a limit; says whether that is all of them.
    ///
    /// # Errors
    /// Fails when the query does.
    pub fn count_rest(mut self, limit: u64) -> Result<(u64, bool)> {
        let mut count = self.rows.len() as u64;
        while count <= limit {
            match self.answer.next_batch()? {
                Some(batch) => count += batch.num_rows() as u64,
                None => return Ok((count, true)),
            }
        }
        Ok((count, false))
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.answer.next_batch().transpose()? {
                Ok(batch) => match crate::tables::rows_of(&batch) {
                    Ok(rows) => self.rows = rows.into_iter(),
                    Err(error) => return Some(Err(query(error.to_string(), None))),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn check_free(path: &Path, replace: bool) -> Result<()> {
    match !replace && path.exists() {
        true => Err(Error::OutputExists { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Numbers columns that have the name of an earlier one.
fn with_distinct_names(schema: &Schema) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let fields = schema.fields().iter().map(|field| -> Arc<Field> {
        let mut name = field.name().clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        match name == *field.name() {
            true => Arc::clone(field),
            false => Arc::new(field.as_ref().clone().with_name(name)),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
