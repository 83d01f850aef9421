//! What goes wrong in the lab, with a place, a hint and an exit code.
//!
//! A message fits after "failed to": lowercase, no full stop, naming the value and the place. What to do about it is
//! the hint, which the binary prints on a line of its own.

use std::io;
use std::path::{Path, PathBuf};

/// The exit codes of `nexa`. Scripts may rely on them; a code is never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything was done, or was up to date.
    Success = 0,
    /// A failure that has no code of its own.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A configuration file or an override was wrong.
    Config = 3,
    /// An input is missing, unreadable or malformed.
    Input = 4,
    /// What is stored does not match its manifest or cannot be read back.
    Integrity = 5,
    /// A service, port or device is not available.
    Unavailable = 6,
    /// An API key is missing or was refused.
    Credentials = 7,
    /// A budget would be exceeded.
    Budget = 8,
    /// The disk is full or not writable.
    Storage = 9,
    /// The lab or an artifact was made by a newer version.
    TooNew = 10,
    /// At least one stage of a pipeline failed.
    StageFailed = 11,
    /// Another process works on the same thing.
    Busy = 12,
    /// The user stopped the work; it can be resumed.
    Interrupted = 130,
}

/// An error that can say what to do and how the process should end.
pub trait Diagnose: std::error::Error + Send + Sync + 'static {
    /// The next step for the user, if there is one.
    fn hint(&self) -> Option<String> {
        None
    }

    /// How the process ends when this error reaches the top.
    fn exit_code(&self) -> ExitCode {
        ExitCode::Failure
    }
}

/// An error of the contracts in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{action} `{}`: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`, …
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line or key.
        message: String,
    },
    /// A configuration holds a key that nothing reads.
    #[error("{place}: unknown key `{key}`")]
    UnknownKey {
        /// The file or the command line.
        place: String,
        /// The dotted key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A configuration holds a value that cannot be used.
    #[error("{place}: {message}")]
    Config {
        /// The file or the command line.
        place: String,
        /// What is wrong, with the dotted key.
        message: String,
    },
    /// A ceiling on cost was set for a model whose price nobody gave.
    #[error("keep a ceiling on the cost of `{model}`: nexa.yaml has no price for it")]
    NoPrice {
        /// The model.
        model: String,
    },
    /// No lab at or above a folder.
    #[error("find a lab: no `nexa.yaml` in `{}` or above it", start.display())]
    NoLab {
        /// Where the search began.
        start: PathBuf,
    },
    /// Something that was named does not exist.
    #[error("find {what} `{name}`")]
    NotFound {
        /// `artifact`, `run`, `project`, …
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The next step.
        hint: Option<String>,
    },
    /// A stored file differs from its manifest.
    #[error("verify `{}`: {message}", path.display())]
    Integrity {
        /// Which file.
        path: PathBuf,
        /// What differs.
        message: String,
    },
    /// A file was written by a newer version.
    #[error("read `{}`: format version {found} is newer than {supported}, the newest that this version reads", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// What is understood.
        supported: u64,
    },
    /// Another process works on the same thing.
    #[error("{what} is being worked on by process {pid}")]
    Busy {
        /// What is locked.
        what: String,
        /// Who holds it.
        pid: String,
    },
    /// A name that cannot be used.
    #[error("{what} `{name}`: {message}")]
    BadName {
        /// `project`, `artifact`, …
        what: &'static str,
        /// The name.
        name: String,
        /// Why not.
        message: String,
    },
    /// A decision of a reviewer that cannot be made.
    #[error("review {artifact}: {message}")]
    Review {
        /// What is reviewed.
        artifact: String,
        /// Why not.
        message: String,
    },
    /// The index could not be read or written.
    #[error("index `{}`: {message}", path.display())]
    Index {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        message: String,
    },
    /// A defect of the program, caught at the border of a stage.
    #[error("the program failed unexpectedly: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error with what was done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// Says that a file does not hold what it should.
    pub fn malformed(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// Says that a configuration value cannot be used.
    pub fn config(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { place: place.into(), message: message.into() }
    }
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space and run the same command again; finished work is kept".to_owned())
                }
                io::ErrorKind::PermissionDenied => {
                    Some("check who owns the file and whether this user may use it".to_owned())
                }
                io::ErrorKind::NotFound => Some("check the spelling of the path".to_owned()),
                _ => None,
            },
            Self::UnknownKey { nearest, .. } => nearest.as_ref().map(|key| format!("did you mean `{key}`?")),
            Self::NoLab { .. } => {
                Some("make one with `nexa init`, or pass its folder with `--lab DIR`".to_owned())
            }
            Self::NotFound { hint, .. } => hint.clone(),
            Self::Integrity { .. } => Some(
                "the file was changed after it was made; restore it, or make it again with `nexa run … --force STAGE`"
                    .to_owned(),
            ),
            Self::TooNew { .. } => Some("update `nexa` to the version that wrote it".to_owned()),
            Self::Busy { .. } => Some("wait until it has finished, or stop it first".to_owned()),
            Self::Index { .. } => Some("rebuild it with `nexa doctor --reindex`".to_owned()),
            Self::Interrupted => Some("run the same command again to go on".to_owned()),
            Self::Panicked { .. } => {
                Some("this is a defect of nexa; the message above and the run's folder help to find it".to_owned())
            }
            Self::NoPrice { model } => Some(format!(
                "add to nexa.yaml: `prices: {{models: {{\"{model}\": {{input_usd_per_million: …, output_usd_per_million: …}}}}}}`"
            )),
            Self::Config { .. } => Some(
                "settings are YAML; on the command line `key=value`, inner keys with dots, lists as `key=[a, b]`"
                    .to_owned(),
            ),
            Self::Malformed { .. } | Self::BadName { .. } | Self::Review { .. } => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem => ExitCode::Storage,
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ExitCode::Input,
                _ => ExitCode::Failure,
            },
            Self::Malformed { .. } | Self::NotFound { .. } | Self::NoLab { .. } | Self::Review { .. } => {
                ExitCode::Input
            }
            Self::UnknownKey { .. } | Self::Config { .. } | Self::NoPrice { .. } | Self::BadName { .. } => {
                ExitCode::Config
            }
            Self::Integrity { .. } | Self::Index { .. } => ExitCode::Integrity,
            Self::TooNew { .. } => ExitCode::TooNew,
            Self::Busy { .. } => ExitCode::Busy,
            Self::Panicked { .. } => ExitCode::Failure,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }
}

impl Diagnose for crate::lm::Error {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::Interrupted,
            Self::TooLong { .. } | Self::CacheFull { .. } | Self::Tokenizer(_) | Self::Invalid(_) => {
                ExitCode::Input
            }
            Self::Failed { .. } => ExitCode::Unavailable,
            Self::Calls(error) => error.exit_code(),
        }
    }

    fn hint(&self) -> Option<String> {
        if let Self::Calls(error) = self { error.hint() } else { None }
    }
}
