//! `data.ingest`: files as they came become a data set whose rows have ids and where what was wrong is kept.

mod rejects;
mod scan;
pub(crate) mod sources;

use std::path::{Path, PathBuf};

use nexa_core::artifact::Kind;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::{Error as CoreError, files};
use serde::{Deserialize, Serialize};

use crate::rows::{self, Pass};
use crate::tables::{Format, ParquetWriter, Schema, Texts};
use crate::{Error, Result};
use rejects::{Rejected, Rejects};
use scan::Scan;
use sources::Source;

/// The role of the artifact that is ingested where no paths are given.
pub const RAW_ROLE: &str = "raw";

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "data.ingest";

/// The files of the artifact.
const ROWS_FILE: &str = "parquet";
const REJECTED_FILE: &str = "rejected.jsonl";

/// The accepted rows between the two passes, in the workspace.
const SPOOL_FILE: &str = "accepted.jsonl.zst";

/// What is ingested, and how strictly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files, folders or globs, absolute or relative to the lab; none where a raw artifact is ingested.
    pub paths: Vec<String>,
    /// What a row of a `.txt` or `.md` file is: `documents`, the whole file, or `lines`, each that is not blank. Unless it
    /// is said, such files count only where `paths` name them or a glob with their ending, as documents: a README beside
    /// tables is no row of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<Texts>,
    /// The share of rows that may be rejected before the stage fails.
    pub max_reject_share: f64,
    /// Columns that every row must have, not null.
    pub required_columns: Vec<String>,
    /// The column whose values are the ids. By default a row's own `id`, else `<file stem>-<line>`.
    pub id_column: Option<String>,
    /// Stops after so many accepted rows.
    pub limit: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            texts: None,
            max_reject_share: 0.01,
            required_columns: Vec::new(),
            id_column: None,
            limit: None,
        }
    }
}

/// Rows of one file that were accepted, for the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FileRows {
    name: String,
    rows: u64,
}

/// Ingests JSON Lines, CSV, Parquet and text files, plain or compressed.
///
/// The first pass judges each row and finds the types of the columns; accepted rows are set aside. The second pass
/// writes them as Parquet. Memory grows only with the number of ids.
#[derive(Debug, Clone)]
pub struct Ingest {
    config: Config,
    sources: Vec<Source>,
}

impl Ingest {
    /// Finds the files that the configuration means.
    ///
    /// # Errors
    /// Fails with the path when a file is missing or no table, when a glob or folder holds none, and with the key when
    /// a value cannot be used.
    pub fn new(lab: &Lab, mut config: Config) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.max_reject_share) {
            let message = format!("`max_reject_share`: {} is not between 0 and 1", config.max_reject_share);
            return Err(CoreError::config(NAME, message).into());
        }
        let sources = sources::expand(lab.root(), &config.paths, config.texts)?;
        if config.id_column.is_none() {
            sources::check_distinct(&sources)?;
        }
        // What a glob meant today is part of the key; the paths stay such that the record can be run again.
        config.paths = sources.iter().map(|source| lab.display_path(&source.path)).collect();
        Ok(Self { config, sources })
    }

    /// The files to read: those of the configuration, or those of the raw artifact.
    fn sources(&self, context: &Context<'_>) -> Result<Vec<Source>> {
        match context.inputs.get(RAW_ROLE) {
            Some(_) if !self.sources.is_empty() => {
                Err(CoreError::config(NAME, "`paths` and an input `raw` are given; only one can be ingested")
                    .into())
            }
            Some(artifact) => {
                let sources = sources::of_artifact(artifact)?;
                if self.config.id_column.is_none() {
                    sources::check_distinct(&sources)?;
                }
                Ok(sources)
            }
            None if self.sources.is_empty() => {
                Err(CoreError::config(NAME, "`paths` is empty and there is no input `raw`").into())
            }
            None => Ok(self.sources.clone()),
        }
    }

    fn ingest(&self, context: &Context<'_>) -> Result<()> {
        let sources = self.sources(context)?;
        let spool = context.workspace.join(SPOOL_FILE);
        let kept = context.workspace.join(REJECTED_FILE);
        let mut rejects = Rejects::begin(kept.clone())?;
        let scan = Scan::begin(&self.config, &spool)?.read(&sources, context, &mut rejects)?;

        let rejected = rejects.finish(context)?;
        let rows_in = scan.rows_out + rejected.count;
        let written = self
            .check(&sources, &kept, &rejected, scan.rows_out)
            .and_then(|()| write_rows(context, &spool, &scan.schema, scan.rows_out));
        files::remove(&spool)?;
        written?;
        if rejected.count > 0 {
            let target = context.output.join(REJECTED_FILE);
            std::fs::copy(&kept, &target).map_err(|e| CoreError::io("write", &target, e))?;
        }

        context.set_rows(scan.rows_out);
        context.state("rows_in", rows_in)?;
        context.state("rows_out", scan.rows_out)?;
        context.state("rejected", rejected.count)?;
        context.state("files", scan.files)?;
        context.state("format", Format::Parquet.extension())?;
        Ok(())
    }

    /// Refuses to go on where too much was rejected, or nothing is left.
    fn check(&self, sources: &[Source], kept: &Path, rejected: &Rejected, rows_out: u64) -> Result<()> {
        let Rejected { count, first } = rejected;
        let rows_in = rows_out + count;
        let max_reject_share = self.config.max_reject_share;
        if let Some(first) = first
            && *count as f64 > max_reject_share * rows_in as f64
        {
            let (first, kept) = (first.clone(), kept.to_owned());
            return Err(Error::TooManyRejected { rows_in, rejected: *count, max_reject_share, first, kept });
        }
        if rows_out == 0 {
            let files = sources.iter().map(|source| source.name.clone()).collect();
            return Err(Error::NoRows { files, rejected: *count });
        }
        Ok(())
    }
}

impl Stage for Ingest {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(&self.config).expect("text and numbers can always be JSON")
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.sources.iter().map(|source| source.path.clone()).collect()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.ingest(context)?)
    }
}

/// The second pass: accepted rows into Parquet, now that the types of all columns are known.
fn write_rows(context: &Context<'_>, spool: &Path, schema: &Schema, total: u64) -> Result<()> {
    let mut writer = ParquetWriter::create(&context.output.join(ROWS_FILE), schema)?;
    let source = rows::Source { path: spool.to_owned(), rows: Some(total) };
    Pass { context, source: &source, note: "writing" }.run(|_, batch| Ok(writer.append(&batch)?))?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests;
