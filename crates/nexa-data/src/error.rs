//! What goes wrong between raw files and data sets.

use std::path::PathBuf;

use nexa_core::{Diagnose, ExitCode};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the lab's contracts: files, tables, configuration.
    #[error(transparent)]
    Core(#[from] nexa_core::Error),
    /// More rows were malformed than the configuration tolerates.
    #[error(
        "ingest {rows_in} rows: {rejected} of them ({:.2}%) were rejected, but `max_reject_share` allows {:.2}%; \
         the first is {first}; all are kept in `{}`",
        100.0 * *rejected as f64 / *rows_in as f64,
        100.0 * max_reject_share,
        kept.display()
    )]
    TooManyRejected {
        /// Rows that were read.
        rows_in: u64,
        /// Rows that were rejected.
        rejected: u64,
        /// The share that was allowed.
        max_reject_share: f64,
        /// File, line and reason of the first.
        first: String,
        /// Where all of them are kept.
        kept: PathBuf,
    },
    /// Scores do not belong to the rows that are to be cleaned.
    #[error("clean {dataset}: {scores} holds the scores of other rows")]
    OtherRows {
        /// The artifact of the scores.
        scores: String,
        /// The artifact of the rows.
        dataset: String,
    },
    /// Several artifacts that have nothing to do with each other hold a row of one id.
    #[error("find row `{row}`: it stands in {}, which have nothing to do with each other", places.join(", "))]
    AmbiguousRow {
        /// The id.
        row: String,
        /// The artifacts.
        places: Vec<String>,
        /// One of them, for the hint.
        example: String,
    },
    /// The gates rejected every row.
    #[error("clean {rows} rows: none is kept; {rule}")]
    NothingKept {
        /// Rows that were judged.
        rows: u64,
        /// The rule that rejected most, and how many.
        rule: String,
    },
    /// The files hold no row that can be used.
    #[error("ingest {}: no row was accepted, and {rejected} were rejected", files.join(", "))]
    NoRows {
        /// The names of the files.
        files: Vec<String>,
        /// Rows that were rejected.
        rejected: u64,
    },
    /// A table has more rows than a stage can number.
    #[error("{}: it has more than {max} rows", place.display())]
    TooManyRows {
        /// The table.
        place: PathBuf,
        /// Rows that can be numbered.
        max: u32,
    },
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::TooManyRejected { .. } => {
                Some("mend the lines that the reject file names, or raise `max_reject_share`".to_owned())
            }
            Self::OtherRows { dataset, .. } => {
                Some(format!("score them first: `nexa data score --in dataset={dataset}`"))
            }
            Self::AmbiguousRow { row, example, .. } => {
                Some(format!("say which: `nexa lineage {row} --in {example}`"))
            }
            Self::NothingKept { .. } => Some(
                "`nexa data thresholds SCORES --set GATE.KEY=VALUE` shows what other thresholds would keep"
                    .to_owned(),
            ),
            Self::NoRows { .. } => Some("check that `paths` names the files that hold the data".to_owned()),
            Self::TooManyRows { .. } => Some("split the table and take its parts one by one".to_owned()),
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::TooManyRejected { .. }
            | Self::NoRows { .. }
            | Self::OtherRows { .. }
            | Self::NothingKept { .. }
            | Self::AmbiguousRow { .. }
            | Self::TooManyRows { .. } => ExitCode::Input,
        }
    }
}
