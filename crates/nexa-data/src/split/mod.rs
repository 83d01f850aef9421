//! `data.split`: every row to train, validation or test, and no group on two sides.
//!
//! A group is what rows have in common: the prompt that they were made from, the document that they were cut from, the
//! cluster of near-duplicates (`nexa data dedup remove=false` writes it). Several columns join: rows that are connected
//! through any of them are one group. Packaging splits by itself, as it also knows paraphrases; it takes this split over
//! with `split_column: split`.

mod assign;
mod config;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use nexa_core::artifact::Kind;
use nexa_core::columns::{GROUP, SPLIT};
use nexa_core::event::Event;
use nexa_core::split::Split as Side;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use nexa_core::{Error as CoreError, columns};
use serde_json::{Value, json};

pub use config::Config;

use crate::dedup::CLUSTER;
use crate::rows::{Pass, Source, Union, id_of, require_column};
use crate::tables::{ParquetWriter, Schema};
use crate::{Error, Result};
use assign::Group;

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "data.split";

/// The columns that join rows where none are named.
const KNOWN: [&str; 2] = [GROUP, CLUSTER];

/// The table of the artifact: its rows with their side.
const ROWS_FILE: &str = "parquet";

/// The stage: a table in, its rows with a column `split` out.
#[derive(Debug, Clone)]
pub struct Split {
    config: Config,
}

/// What the first pass found.
struct Grouped {
    schema: Schema,
    columns: Vec<String>,
    /// For each row, the number of its group.
    of_row: Vec<u32>,
    groups: Vec<Group>,
}

/// Rows that are joined as they come.
struct Joining<'a> {
    config: &'a Config,
    source: &'a Source,
    schema: Schema,
    columns: Vec<String>,
    /// The first row with each value of each column.
    first: HashMap<(usize, String), u32>,
    /// For each row, the rows that it is joined with by its columns.
    joined: Vec<(u32, u32)>,
    /// For each row, what its group may be named for, and its stratum.
    names: Vec<(String, Option<String>)>,
}

impl Split {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
        Ok(Self { config })
    }

    fn split(&self, context: &Context<'_>) -> Result<()> {
        let source = Source::of(context, NAME)?;
        let mut joining = Joining::begin(&self.config, &source);
        Pass { context, source: &source, note: "grouping" }
            .run(|first, batch| joining.take(first, &batch))?;
        let grouped = joining.finish()?;
        let sides = assign::assign(&self.config, &grouped.groups);
        let mut schema = grouped.schema.clone();
        let place = context.output.join(ROWS_FILE);
        let example = Row::from_iter([(SPLIT.to_owned(), json!(""))]);
        schema.observe(&example).map_err(|e| CoreError::malformed(&source.path, e.to_string()))?;
        let mut writer = ParquetWriter::create(&place, &schema)?;
        let rows = Pass { context, source: &source, note: "writing" }.run(|first, mut batch| {
            for (number, row) in (first..).zip(&mut batch) {
                let at = usize::try_from(number).expect("a table of more rows is refused");
                let side = sides[grouped.of_row[at] as usize];
                row.insert(SPLIT.to_owned(), json!(side.as_str()));
            }
            Ok(writer.append(&batch)?)
        })?;
        writer.finish()?;
        context.set_rows(rows);
        state(context, &grouped, &sides)
    }
}

impl<'a> Joining<'a> {
    fn begin(config: &'a Config, source: &'a Source) -> Self {
        Self {
            config,
            source,
            schema: Schema::default(),
            columns: Vec::new(),
            first: HashMap::new(),
            joined: Vec::new(),
            names: Vec::new(),
        }
    }

    fn take(&mut self, first: u64, batch: &[Row]) -> Result<()> {
        let place = &self.source.path;
        if let (0, Some(row)) = (first, batch.first()) {
            for column in self.config.group_columns.iter().chain(&self.config.stratify_column) {
                require_column(column, row, place)?;
            }
            self.columns = if self.config.group_columns.is_empty() {
                KNOWN.iter().filter(|name| row.contains_key(**name)).map(|&name| name.to_owned()).collect()
            } else {
                self.config.group_columns.clone()
            };
        }
        for (number, row) in (first..).zip(batch) {
            self.schema.observe(row).map_err(|e| CoreError::malformed(place, e.to_string()))?;
            let number = u32::try_from(number)
                .map_err(|_| Error::TooManyRows { place: place.clone(), max: u32::MAX })?;
            let mut name: Option<String> = None;
            for (at, column) in self.columns.iter().enumerate() {
                // A row without a value belongs to nothing by this column.
                let Some(value) = text(row, column) else { continue };
                let label = format!("{column}={value}");
                if name.as_ref().is_none_or(|name| label < *name) {
                    name = Some(label);
                }
                let earliest = *self.first.entry((at, value)).or_insert(number);
                if earliest != number {
                    self.joined.push((earliest, number));
                }
            }
            let name = match name {
                Some(name) => name,
                None => format!("{}={}", columns::ID, id_of(row, u64::from(number), place)?),
            };
            let stratum = self.config.stratify_column.as_deref().and_then(|column| text(row, column));
            self.names.push((name, stratum));
        }
        Ok(())
    }

    /// Numbers the groups; each is named for the label that comes first in it, in whatever order its rows come.
    fn finish(self) -> Result<Grouped> {
        if self.names.is_empty() {
            return Err(CoreError::malformed(&self.source.path, "the table has no rows").into());
        }
        let rows = u32::try_from(self.names.len()).expect("a table of more rows is refused");
        let mut union = Union::new(rows);
        for (one, other) in self.joined {
            union.join(one, other);
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut number_of: HashMap<u32, u32> = HashMap::new();
        let mut of_row = Vec::with_capacity(self.names.len());
        for (row, (name, stratum)) in (0..rows).zip(self.names) {
            let next = u32::try_from(groups.len()).expect("there are fewer groups than rows");
            let number = *number_of.entry(union.first(row)).or_insert(next);
            of_row.push(number);
            match groups.get_mut(number as usize) {
                None => groups.push(Group { name, rows: 1, stratum }),
                Some(group) => {
                    group.rows += 1;
                    if name < group.name {
                        group.name = name;
                    }
                    if stratum < group.stratum {
                        group.stratum = stratum;
                    }
                }
            }
        }
        Ok(Grouped { schema: self.schema, columns: self.columns, of_row, groups })
    }
}

/// A value as it joins rows: text, or what JSON writes.
fn text(row: &Row, column: &str) -> Option<String> {
    match row.get(column)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Puts the counts into the manifest.
fn state(context: &Context<'_>, grouped: &Grouped, sides: &[Side]) -> Result<()> {
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for side in Side::ALL {
        let of_side = || grouped.groups.iter().zip(sides).filter(|(_, at)| **at == side);
        rows.insert(side.as_str(), of_side().map(|(group, _)| group.rows).sum());
        groups.insert(side.as_str(), of_side().count() as u64);
        if rows[side.as_str()] == 0 {
            context.emit(Event::warning(format!("the {} split is empty", side.as_str())));
        }
    }
    context.state("rows", rows)?;
    context.state("groups", groups)?;
    context.state("group_columns", &grouped.columns)?;
    Ok(())
}

impl Stage for Split {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.split(context)?)
    }
}
