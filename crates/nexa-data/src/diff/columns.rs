//! The columns of a table, with what they hold: stated by Parquet, else found by looking at every row.

use std::path::Path;

use nexa_core::artifact::Column;
use nexa_core::columns::ID;
use nexa_core::table::Tables;
use nexa_core::{Error, Result, config};
use serde_json::Value;

use super::{Retyped, SchemaDiff};
use crate::tables::{FileTables, Records};

/// What a column holds that holds nothing.
const NOTHING: &str = "null";

/// The columns of a table, in the order in which they were first seen.
pub(super) struct Columns(Vec<Column>);

impl Columns {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let stated = FileTables.schema(path)?;
        if !stated.is_empty() {
            return Ok(Self(stated));
        }
        let mut found: Vec<Column> = Vec::new();
        for row in Records::open(path)?.rows() {
            for (at, (name, value)) in row?.iter().enumerate() {
                let holds = type_of(value);
                let expected = found.get(at).is_some_and(|column| column.name == *name);
                let known =
                    if expected { Some(at) } else { found.iter().position(|column| column.name == *name) };
                match known {
                    Some(known) => widen(&mut found[known].holds, holds),
                    None => found.push(Column { name: name.clone(), holds: holds.to_owned() }),
                }
            }
        }
        Ok(Self(found))
    }

    /// The names that another table has as well.
    pub(super) fn shared(&self, other: &Self) -> Vec<String> {
        self.0
            .iter()
            .filter(|column| other.get(&column.name).is_some())
            .map(|column| column.name.clone())
            .collect()
    }

    /// What a newer table has, lacks and holds otherwise.
    pub(super) fn diff(&self, after: &Self) -> SchemaDiff {
        let only = |one: &Self, other: &Self| -> Vec<Column> {
            one.0.iter().filter(|column| other.get(&column.name).is_none()).cloned().collect()
        };
        let retyped = self.0.iter().filter_map(|before| {
            let after = after.get(&before.name)?;
            let differs = before.holds != after.holds && before.holds != NOTHING && after.holds != NOTHING;
            differs.then(|| Retyped {
                column: before.name.clone(),
                before: before.holds.clone(),
                after: after.holds.clone(),
            })
        });
        SchemaDiff { retyped: retyped.collect(), added: only(after, self), removed: only(self, after) }
    }

    /// Checks that there is a column.
    ///
    /// # Errors
    /// Fails with the nearest, or those that there are, when there is none.
    pub(super) fn require(&self, name: &str, place: &Path) -> Result<()> {
        if self.get(name).is_some() {
            return Ok(());
        }
        let names = || self.0.iter().map(|column| column.name.as_str());
        let hint = match config::nearest(name, names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        let name = format!("{name}` of `{}", place.display());
        Err(Error::NotFound { what: "column", name, hint: Some(hint) })
    }

    fn get(&self, name: &str) -> Option<&Column> {
        self.0.iter().find(|column| column.name == name)
    }
}

/// The column among some that most likely tells rows apart: `id`, else the first that is named like one.
pub(super) fn key(names: &[String]) -> Option<String> {
    let is_like = |name: &&String| matches!(name.as_str(), "uid" | "uuid" | "key") || name.ends_with("_id");
    names.iter().find(|name| *name == ID).or_else(|| names.iter().find(is_like)).cloned()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => NOTHING,
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Brings what a column holds up to date with a further value.
fn widen(holds: &mut String, found: &str) {
    let widened = match (holds.as_str(), found) {
        (known, found) if known == found || found == NOTHING => return,
        (NOTHING, found) => found,
        ("integer", "number") | ("number", "integer") => "number",
        _ => "mixed",
    };
    *holds = widened.to_owned();
}
