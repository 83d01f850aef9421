//! Tables of lines: JSON and CSV, plain or compressed.
//!
//! Types are those that stages would find, by looking at every row: see [`Schema`](crate::tables::Schema). A file is read
//! once for them and once for the rows, both times in as many pieces as the machine has threads where it is not compressed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use nexa_core::event::Cancel;

use super::piece::{self, Piece, TextFile};
use super::scratch::Scratch;
use crate::Result;

/// Batches that wait to be worked on.
const WAITING_BATCHES: usize = 2;

/// Rows that are read from files.
#[derive(Debug)]
pub(super) struct TextTable {
    schema: SchemaRef,
    pieces: Vec<Piece>,
    /// Kept where the files are copies that lie in it.
    scratch: Arc<Scratch>,
}

impl TextTable {
    /// Opens files as one table, with the columns of all of them.
    ///
    /// # Errors
    /// Fails with file and line where a line is no row, or where types clash.
    pub(super) fn open(files: &[TextFile], scratch: &Arc<Scratch>, cancel: &Cancel) -> Result<Self> {
        let pieces = piece::cut(files)?;
        let schema = match piece::schema_of_pieces(&pieces, cancel) {
            Ok(schema) => schema,
            Err(error) if cancel.is_cancelled() => return Err(error),
            // Only a reading from the beginning can tell the line.
            Err(_) => piece::schema_of_files(files, cancel)?,
        };
        let fields: Vec<_> = schema.to_arrow().fields().iter().map(|field| with_views(field)).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), pieces, scratch: Arc::clone(scratch) })
    }

    /// Plans to read some columns, in at most so many partitions.
    fn plan(
        &self,
        columns: Option<&Vec<usize>>,
        partitions: usize,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match columns {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let each = self.pieces.len().div_ceil(partitions.max(1)).max(1);
        // A query in one partition sees the rows in their order, so pieces that follow each other stay together.
        let partitions = self.pieces.chunks(each).map(|pieces| -> Arc<dyn PartitionStream> {
            let (schema, pieces) = (Arc::clone(&schema), pieces.to_vec());
            Arc::new(Partition { schema, pieces, _scratch: Arc::clone(&self.scratch) })
        });
        let partitions = partitions.collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
    }
}

impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // Spelled as what an `async fn` of that trait becomes.
    fn scan<'own, 'state, 'columns, 'filters, 'scan>(
        &'own self,
        state: &'state dyn Session,
        projection: Option<&'columns Vec<usize>>,
        _filters: &'filters [Expr],
        limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>, DataFusionError>> + Send + 'scan>>
    where
        'own: 'scan,
        'state: 'scan,
        'columns: 'scan,
        'filters: 'scan,
        Self: 'scan,
    {
        let plan = self.plan(projection, state.config().target_partitions(), limit);
        Box::pin(std::future::ready(plan))
    }
}

/// Texts as views, as Parquet is read too: sorts of other texts cannot go to disk where they have several keys.
fn with_views(field: &Field) -> FieldRef {
    let holds = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::List(inner) => DataType::List(with_views(inner)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| with_views(field)).collect()),
        other => other.clone(),
    };
    Arc::new(field.clone().with_data_type(holds))
}

/// Pieces that are read one after the other.
#[derive(Debug)]
struct Partition {
    schema: SchemaRef,
    pieces: Vec<Piece>,
    _scratch: Arc<Scratch>,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = context.session_config().batch_size();
        let (schema, pieces) = (Arc::clone(&self.schema), self.pieces.clone());
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&schema), WAITING_BATCHES);
        let sender = stream.tx();
        stream.spawn_blocking(move || {
            // A receiver that is gone wants no more.
            let mut send = |batch| sender.blocking_send(Ok(batch)).is_ok();
            for piece in &pieces {
                match piece.read(&schema, rows, &mut send) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return Err(DataFusionError::External(Box::new(error))),
                }
            }
            Ok(())
        });
        stream.build()
    }
}
