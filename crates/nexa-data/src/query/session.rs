//! One statement: planned over the tables that it names, within its memory.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures_util::StreamExt;
use nexa_core::Error;
use nexa_core::machine::Host;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::address::{Address, Place};
use super::data_query::DataQuery;
use super::failure::{failure, query, refused};
use super::names::{Named, Names};
use super::piece::TextFile;
use super::s3::Request;
use super::scratch::Scratch;
use super::text::TextTable;
use super::{parquet, work::Work};
use crate::Result;
use crate::tables::{self, Format};

/// What stands for the lab in names of three parts; no project can be called so.
const LAB: &str = "_lab";
/// Memory that each sort sets aside for merging, unless the limit is small.
const MERGE_BYTES: u64 = 10 << 20;
/// The share of the limit that all of them together may set aside.
const MERGE_SHARE: u64 = 8;

/// Rows that are worked on at a time are no more than this, and no fewer than that.
const BATCH_ROWS: (u64, u64) = (8192, 256);
/// Each thread of a query has at least so much memory; where there is less, fewer work.
const THREAD_BYTES: u64 = 64 << 20;
/// A batch may have one row for so much memory of a thread: a spilled sort holds many batches at once.
const BYTES_PER_BATCH_ROW: u64 = 16 << 10;

/// A statement on its way to a plan.
pub(super) struct Session<'a> {
    query: &'a DataQuery,
    work: &'a Work,
    context: SessionContext,
    scratch: Arc<Scratch>,
    /// Objects that lie in `scratch`.
    fetched: Cell<usize>,
    /// The Parquet files of all tables.
    columnar: RefCell<Vec<Address>>,
}

/// A statement that runs.
pub(super) struct Running {
    pub(super) stream: SendableRecordBatchStream,
    /// What does not fit into memory lies in it.
    pub(super) _scratch: Arc<Scratch>,
    /// The Parquet files that are read.
    pub(super) columnar: Vec<Address>,
}

impl<'a> Session<'a> {
    /// Prepares memory and disk.
    ///
    /// # Errors
    /// Fails when the folder for what does not fit into memory cannot be made.
    pub(super) fn begin(query: &'a DataQuery) -> Result<Self> {
        let scratch = Arc::new(Scratch::create(&query.lab)?);
        let limit = query.memory_limit;
        let threads = (limit / THREAD_BYTES).clamp(1, Host::current().threads.max(1) as u64);
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![scratch.folder().to_owned()]))
            .with_max_temp_directory_size(u64::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(usize::try_from(limit).unwrap_or(usize::MAX))))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(failure)?;
        let (most, fewest) = BATCH_ROWS;
        let batch = (limit / threads / BYTES_PER_BATCH_ROW).clamp(fewest, most);
        let mut config = SessionConfig::new()
            .with_target_partitions(usize::try_from(threads).unwrap_or(1))
            .with_batch_size(usize::try_from(batch).unwrap_or(usize::MAX))
            .with_default_catalog_and_schema(LAB, &query.project);
        let merge = MERGE_BYTES.min(limit / MERGE_SHARE / threads);
        let options = config.options_mut();
        options.execution.sort_spill_reservation_bytes = usize::try_from(merge).unwrap_or(usize::MAX);
        options.execution.listing_table_ignore_subdirectory = false;
        let context = SessionContext::new_with_config_rt(config, runtime);
        Ok(Self {
            query,
            work: &query.work,
            context,
            scratch,
            fetched: Cell::new(0),
            columnar: RefCell::default(),
        })
    }

    /// Plans a statement and begins to run it.
    ///
    /// # Errors
    /// Fails when the statement is no query, names what is not there, or cannot be planned.
    pub(super) fn run(self, sql: &str) -> Result<Running> {
        let mut state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(failure)?;
        check_reads(&statement)?;
        for reference in state.resolve_table_references(&statement).map_err(failure)? {
            match self.open(&reference) {
                Ok(table) => self.register(&reference.resolve(LAB, &self.query.project), table)?,
                // Functions that make tables, such as `generate_series`, are known to the planner.
                Err(_) if state.table_functions().contains_key(reference.table()) => {}
                Err(error) => return Err(error),
            }
        }
        let stream = self.work.wait(async {
            let plan = state.statement_to_plan(statement).await.map_err(failure)?;
            let reads =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            reads.verify_plan(&plan).map_err(|_| reads_only())?;
            let plan = state.optimize(&plan).map_err(failure)?;
            if keeps_order(&plan) {
                state.config_mut().options_mut().execution.target_partitions = 1;
            }
            let planner = Arc::clone(state.query_planner());
            let plan = planner.create_physical_plan(&plan, &state).await.map_err(failure)?;
            execute_stream(plan, state.task_ctx()).map_err(failure)
        });
        let stream = stream.map_err(|error| error.within(self.query.memory_limit))?;
        Ok(Running { stream, _scratch: self.scratch, columnar: self.columnar.into_inner() })
    }

    fn register(&self, name: &ResolvedTableReference, table: Arc<dyn TableProvider>) -> Result<()> {
        let catalog = self.context.catalog(&name.catalog).unwrap_or_else(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            self.context.register_catalog(name.catalog.as_ref(), Arc::clone(&catalog));
            catalog
        });
        let schema = match catalog.schema(&name.schema) {
            Some(schema) => schema,
            None => {
                let schema = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&name.schema, schema).map_err(failure)?;
                catalog.schema(&name.schema).ok_or_else(|| query("a name is lost".to_owned(), None))?
            }
        };
        schema.register_table(name.table.to_string(), table).map(drop).map_err(failure)
    }

    /// Opens the table that a name means.
    fn open(&self, reference: &TableReference) -> Result<Arc<dyn TableProvider>> {
        let names = Names { lab: &self.query.lab, project: &self.query.project };
        let addresses = match names.find(reference)? {
            Named::Table(path) => vec![Address::of_file(&path)?],
            Named::Files(text) => self.expand(&text)?,
        };
        let is_parquet = |address: &Address| address.format == Format::Parquet;
        if addresses.iter().all(is_parquet) {
            let table = self.work.wait(parquet::open(&self.state(), &addresses));
            self.columnar.borrow_mut().extend(addresses);
            return table;
        }
        if let Some(other) = addresses.iter().find(|address| is_parquet(address)) {
            let message = format!("it is Parquet, but other files of {reference} are lines; name them apart");
            return Err(Error::malformed(other.shown.as_str(), message).into());
        }
        let files = self.fetch(addresses)?;
        Ok(Arc::new(TextTable::open(&files, &self.scratch, self.work.cancel())?))
    }

    fn state(&self) -> SessionState {
        self.context.state()
    }

    /// The files or objects that a path names.
    fn expand(&self, text: &str) -> Result<Vec<Address>> {
        if let Some(request) = Request::open(text, &self.query.environment)? {
            self.context.register_object_store(request.bucket.as_ref(), Arc::clone(&request.store));
            return self.work.wait(request.expand());
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let message = format!("`{scheme}://` is not understood; there are: files, s3://");
            return Err(Error::BadName { what: "file", name: text.to_owned(), message }.into());
        }
        let found = tables::expand(self.query.lab.root(), text, false)?;
        found.iter().map(|path| Address::of_file(path)).collect()
    }

    /// Brings objects of lines onto this machine, as they are read twice.
    fn fetch(&self, addresses: Vec<Address>) -> Result<Vec<TextFile>> {
        let fetched = addresses.into_iter().map(|address| {
            let path = match &address.place {
                Place::File(path) => path.clone(),
                Place::Object { store, meta, .. } => self.download(store.as_ref(), meta, &address)?,
            };
            Ok(TextFile { path, shown: address.shown, format: address.format })
        });
        fetched.collect()
    }

    fn download(&self, store: &dyn ObjectStore, meta: &ObjectMeta, address: &Address) -> Result<PathBuf> {
        let number = self.fetched.replace(self.fetched.get() + 1);
        let path = self.scratch.folder().join(format!("{number}.{}", address.format.extension()));
        self.work.wait(async {
            let refused = |error| refused(&address.shown, &error);
            let mut bytes = store.get(&meta.location).await.map_err(refused)?.into_stream();
            let failed = |error| Error::io("write", &path, error);
            let mut file = File::create(&path).map_err(failed)?;
            while let Some(some) = bytes.next().await {
                file.write_all(&some.map_err(refused)?).map_err(failed)?;
            }
            Ok(())
        })?;
        Ok(path)
    }
}

/// Refuses all statements but those that read.
fn check_reads(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::Query(_) | ast::Statement::ExplainTable { .. } => Ok(()),
            _ => Err(reads_only()),
        },
        Statement::Explain(explain) => check_reads(&explain.statement),
        _ => Err(reads_only()),
    }
}

fn reads_only() -> crate::Error {
    let hint =
        "a query begins with SELECT, WITH, VALUES, DESCRIBE or EXPLAIN; `--output FILE` keeps its answer";
    query("only statements that read are allowed".to_owned(), Some(hint.to_owned()))
}

/// Whether a plan hands on rows as they come, so that their order is kept where one thread does it.
fn keeps_order(plan: &LogicalPlan) -> bool {
    let hands_on = matches!(
        plan,
        LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_)
    );
    hands_on && plan.inputs().into_iter().all(keeps_order)
}
