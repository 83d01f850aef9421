//! What goes wrong between raw files and data sets.

use std::path::PathBuf;

use nexa_core::{Diagnose, ExitCode, format};

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
    /// A statement cannot be run.
    #[error("query: {message}")]
    Query {
        /// Why not.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
    /// A Parquet file does not hold what it should.
    #[error("{place}: the file is damaged: {message}")]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A query needs more memory than it may take, also where what can go to disk does.
    #[error("query: it does not fit into {} of memory", format::size(*limit))]
    QueryMemory {
        /// The bytes that it may take.
        limit: u64,
    },
    /// An object store did not give what was asked for.
    #[error("read `{place}`: {message}")]
    Store {
        /// The address.
        place: String,
        /// Why not, without anything that a service sent.
        message: String,
        /// How the process ends.
        exit_code: ExitCode,
    },
    /// An answer would replace a file.
    #[error("write `{}`: it is there already", path.display())]
    OutputExists {
        /// The file.
        path: PathBuf,
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
            Self::Query { hint, .. } => hint.clone(),
            Self::Damaged { .. } => None,
            Self::QueryMemory { .. } => Some(
                "give it more with `--memory-limit SIZE`; sorts and groups go to disk, but what is joined has to fit"
                    .to_owned(),
            ),
            Self::Store { exit_code: ExitCode::Credentials, .. } => Some(
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, here or in the lab's `.env`; \
                 AWS_SKIP_SIGNATURE=true asks a public bucket without"
                    .to_owned(),
            ),
            Self::Store { exit_code: ExitCode::Unavailable, .. } => Some(
                "check AWS_REGION and, for a service other than Amazon's, AWS_ENDPOINT_URL; one of http:// needs \
                 AWS_ALLOW_HTTP=true"
                    .to_owned(),
            ),
            Self::Store { .. } => Some("check bucket, key and pattern".to_owned()),
            Self::OutputExists { .. } => Some("`--force` replaces it".to_owned()),
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
            | Self::Damaged { .. }
            | Self::TooManyRows { .. } => ExitCode::Input,
            Self::Query { .. } | Self::OutputExists { .. } => ExitCode::Usage,
            Self::QueryMemory { .. } => ExitCode::Failure,
            Self::Store { exit_code, .. } => *exit_code,
        }
    }
}
