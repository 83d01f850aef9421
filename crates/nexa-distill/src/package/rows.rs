//! The rows that are packaged: those of the main input, and perhaps answers that were asked for again.

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::stage::Context;
use nexa_core::table::Row;

use crate::{Result, table};

/// The role of answers that were asked for again; further ones have a number.
const REGENERATED: &str = "regenerated";

/// Reads the rows of an input, and those of role `regenerated` after them, also of `regenerated_2` and so on. What was asked again in other words is
/// learnt as an answer to what was asked first.
pub(super) fn read(context: &Context<'_>, source: &Artifact) -> Result<Vec<Row>> {
    let mut rows = table::read(context, source)?;
    for regenerated in regenerated(context) {
        rows.extend(table::read(context, regenerated)?);
    }
    for row in &mut rows {
        if let Some(first) = row.get(columns::FIRST_PROMPT).filter(|first| !first.is_null()).cloned() {
            row.insert(columns::USER_PROMPT.to_owned(), first);
        }
    }
    Ok(rows)
}

/// The answers that were asked for again.
pub(super) fn regenerated<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Artifact> {
    let is_again = |role: &str| role == REGENERATED || role.strip_prefix(REGENERATED).is_some_and(is_number);
    context.inputs.iter().filter(move |(role, _)| is_again(role)).map(|(_, artifact)| artifact)
}

fn is_number(end: &str) -> bool {
    end.strip_prefix('_').is_some_and(|number| number.parse::<u32>().is_ok())
}
