//! The rows that are packaged: those of the main input, and perhaps answers that were asked for again.

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::stage::Context;
use nexa_core::table::Row;

use crate::{Result, table};

/// Reads the rows of an input, and those of role `regenerated` after them. What was asked again in other words is
/// learnt as an answer to what was asked first.
pub(super) fn read(context: &Context<'_>, source: &Artifact) -> Result<Vec<Row>> {
    let mut rows = table::read(context, source)?;
    if let Some(regenerated) = context.inputs.get("regenerated") {
        rows.extend(table::read(context, regenerated)?);
    }
    for row in &mut rows {
        if let Some(first) = row.get(columns::FIRST_PROMPT).filter(|first| !first.is_null()).cloned() {
            row.insert(columns::USER_PROMPT.to_owned(), first);
        }
    }
    Ok(rows)
}
