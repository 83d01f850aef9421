//! The one table that a stage sifts, whatever kind of artifact holds it.

use std::path::{Path, PathBuf};

use nexa_core::Error;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns::ID;
use nexa_core::stage::Context;
use nexa_core::table::Row;
use serde_json::Value;

use crate::{Result, catalog};

/// The kinds of artifact whose rows can be sifted; each plays the role of its name.
const KINDS: [Kind; 4] = [Kind::Dataset, Kind::Filtered, Kind::TeacherOutputs, Kind::TeacherInputs];

/// The table to read.
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// How many rows the manifest says that it has.
    pub(crate) rows: Option<u64>,
}

impl Source {
    /// The main table of an artifact.
    ///
    /// # Errors
    /// Fails when it has none.
    pub(crate) fn of_artifact(artifact: &Artifact) -> Result<Self> {
        Ok(Self { path: catalog::table_path(artifact, None)?, rows: artifact.manifest.counts.rows })
    }

    /// Finds the input among the roles that can be sifted.
    ///
    /// # Errors
    /// Fails when there is none, or more than one.
    pub(crate) fn of(context: &Context<'_>, stage: &str) -> Result<Self> {
        let given: Vec<_> = KINDS.iter().filter_map(|kind| context.inputs.get(kind.as_str())).collect();
        let [artifact] = given[..] else {
            let known = KINDS.map(Kind::as_str).join(", ");
            let message = format!("{} inputs are given, but it reads one of: {known}", given.len());
            return Err(Error::config(stage, message).into());
        };
        Self::of_artifact(artifact)
    }
}

/// The id of a row.
///
/// # Errors
/// Fails with the row when it has none.
pub(crate) fn id_of(row: &Row, number: u64, place: &Path) -> Result<String> {
    match row.get(ID) {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err(Error::malformed(place, format!("row {}: it has no `{ID}`", number + 1)).into()),
    }
}
