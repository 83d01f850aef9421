//! The first pass: each row is accepted, with its id and source, or rejected, with a reason.

use std::collections::HashMap;
use std::path::Path;

use nexa_core::columns::{ID, SOURCE_FILE};
use nexa_core::event::Event;
use nexa_core::stage::Context;
use nexa_core::table::Row;
use serde_json::Value;

use super::rejects::{Reject, Rejects};
use super::sources::Source;
use super::{Config, FileRows};
use crate::Result;
use crate::tables::{Compression, JsonLinesWriter, Record, Schema};

/// Rows between two looks at the cancel flag.
const ROWS_PER_TICK: u64 = 1024;

/// The pass under way.
pub(super) struct Scan<'a> {
    config: &'a Config,
    /// Where each id was first seen: the file's index and the line.
    ids: HashMap<String, (usize, u64)>,
    schema: Schema,
    spool: JsonLinesWriter,
}

/// What the pass found.
pub(super) struct Scanned {
    pub(super) schema: Schema,
    pub(super) rows_out: u64,
    pub(super) files: Vec<FileRows>,
}

impl<'a> Scan<'a> {
    /// Begins a pass that sets accepted rows aside in a file.
    pub(super) fn begin(config: &'a Config, spool: &Path) -> Result<Self> {
        let spool = JsonLinesWriter::create(spool, Compression::Zstd)?;
        Ok(Self { config, ids: HashMap::new(), schema: Schema::default(), spool })
    }

    pub(super) fn read(
        mut self,
        sources: &[Source],
        context: &Context<'_>,
        rejects: &mut Rejects,
    ) -> Result<Scanned> {
        let mut files = Vec::new();
        let (mut rows_in, mut rows_out) = (0, 0);
        for (index, source) in sources.iter().enumerate() {
            let mut rows = 0;
            context.check_cancel()?;
            let mut records = source.open()?;
            while self.config.limit.is_none_or(|limit| rows_out < limit)
                && let Some(record) = records.next()
            {
                let Record { line, content, raw } = record?;
                rows_in += 1;
                if rows_in % ROWS_PER_TICK == 0 {
                    context.check_cancel()?;
                    context.emit(Event::progress(rows_in, None, "rows", source.name.as_str()));
                }
                let accepted = match &content {
                    Ok(row) => self.accept(sources, index, line, row),
                    Err(reason) => Err(reason.clone()),
                };
                match accepted {
                    Ok(row) => {
                        self.spool.append(&row)?;
                        rows += 1;
                        rows_out += 1;
                    }
                    Err(reason) => {
                        let raw = match content {
                            Ok(row) if raw.is_empty() => Value::Object(row).to_string(),
                            _ => String::from_utf8_lossy(&raw).into_owned(),
                        };
                        let source_file = &source.name;
                        rejects.add(context, &Reject { source_file, line, reason: &reason, raw: &raw })?;
                    }
                }
            }
            files.push(FileRows { name: source.name.clone(), rows });
        }
        self.spool.finish()?;
        context.emit(Event::progress(rows_in, Some(rows_in), "rows", ""));
        Ok(Scanned { schema: self.schema, rows_out, files })
    }

    /// Turns a row of a file into a row of the data set, or says why it cannot be one.
    fn accept(&mut self, sources: &[Source], index: usize, line: u64, row: &Row) -> Result<Row, String> {
        for column in &self.config.required_columns {
            if row.get(column).is_none_or(Value::is_null) {
                return Err(format!("column `{column}` is required, but missing or null"));
            }
        }
        let source = &sources[index];
        let id = self.id(source, line, row)?;
        if let Some(&(first, first_line)) = self.ids.get(&id) {
            return Err(format!("id `{id}` is also that of {}:{first_line}", sources[first].name));
        }
        let mut accepted = Row::new();
        accepted.insert(ID.to_owned(), Value::String(id.clone()));
        for (column, value) in row {
            if column != ID && column != SOURCE_FILE {
                accepted.insert(column.clone(), value.clone());
            }
        }
        accepted.insert(SOURCE_FILE.to_owned(), Value::String(source.name.clone()));
        self.schema.observe(&accepted).map_err(|conflict| conflict.to_string())?;
        self.ids.insert(id, (index, line));
        Ok(accepted)
    }

    fn id(&self, source: &Source, line: u64, row: &Row) -> Result<String, String> {
        let named = self.config.id_column.as_deref();
        let column = named.unwrap_or(ID);
        if column != ID && row.contains_key(ID) {
            return Err(format!("column `{ID}` would be replaced by the id column `{column}`"));
        }
        match row.get(column) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            None | Some(Value::Null) if named.is_none() => Ok(format!("{}-{line}", source.stem)),
            None => Err(format!("id column `{column}` is missing")),
            Some(other) => Err(format!("id column `{column}` holds {other}, not a name or an integer")),
        }
    }
}
