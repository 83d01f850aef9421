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
    /// The loss or the gradients stopped being numbers.
    #[error(
        "step {step}: the {quantity} is {value}; lower `learning_rate` (now {learning_rate}) or raise `warmup_steps`"
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// Which quantity.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// The learning rate of the config.
        learning_rate: f64,
    },
    /// The workspace belongs to a run with another config or other data.
    #[error("{path}: the saved state is of another run (config or data differ); remove the folder to start over", path = path.display())]
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
    /// The caller asked to stop; the state is saved and the same call goes on from it.
    #[error("interrupted after step {step}; the same command goes on from there")]
    Interrupted {
        /// Steps done.
        step: u64,
    },
}
