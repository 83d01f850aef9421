//! What stops a training run.

use std::path::PathBuf;

/// A failure of training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Putting a file in its place failed; the message names the path.
    #[error(transparent)]
    Store(#[from] nexa_core::Error),
    /// The model or the tokenizer could not be made, read or written.
    #[error(transparent)]
    Model(#[from] nexa_model::Error),
    /// A value of the configuration makes no sense.
    #[error("config: `{key}` {problem}")]
    Config {
        /// The key at fault.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// A line of a data set is not a conversation.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Sample {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A data set has nothing to train on.
    #[error("{path}: none of {lines} samples can be trained on{reason}", path = path.display())]
    NoSamples {
        /// Which file.
        path: PathBuf,
        /// Lines of the file.
        lines: usize,
        /// Why, beginning with a colon, or nothing.
        reason: String,
    },
    /// The loss or the gradients exploded or stopped being numbers.
    #[error(
        "step {step}: {problem}; samples of the batch: {samples}; last good state: {}",
        last_good.as_ref().map_or_else(|| "none yet".to_owned(), |path| path.display().to_string())
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Which quantity has which value.
        problem: String,
        /// The samples of the step, by their position in the training data, from 1.
        samples: String,
        /// The newest state that was saved.
        last_good: Option<PathBuf>,
    },
    /// The workspace belongs to a run with another config or other data.
    #[error("{path}: the saved state is of another run (config or data differ)", path = path.display())]
    OtherRun {
        /// The state file.
        path: PathBuf,
    },
    /// The saved state cannot be read.
    #[error("{path}: {problem}", path = path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system gave no threads.
    #[error("start threads: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    /// Two runs that must be equal are not.
    #[error("{0}")]
    NotIdentical(String),
    /// A program that was to be killed and resumed did not do what it should.
    #[error("the verified run: {0}")]
    Child(String),
    /// The caller asked to stop; the state is saved and the same call goes on from it.
    #[error("interrupted after step {step}; the same command goes on from there")]
    Interrupted {
        /// Steps done.
        step: u64,
    },
}
