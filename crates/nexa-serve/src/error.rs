//! What goes wrong in the engine and around its port.

use std::io;
use std::path::PathBuf;

use nexa_core::{Diagnose, ExitCode, lm};

/// A failure of the engine or of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model, its tokenizer or a request to it.
    #[error(transparent)]
    Model(#[from] lm::Error),
    /// The engine was configured with a number that cannot work.
    #[error("engine config: `{key}` must be at least 1")]
    EngineConfig {
        /// The key.
        key: &'static str,
    },
    /// As many requests are running and waiting as the engine holds.
    #[error("queue is full: {in_flight} requests are running or waiting")]
    QueueFull {
        /// How many there are.
        in_flight: usize,
    },
    /// As many tokens wait as the engine holds.
    #[error("queue is full: prompts of {waiting} tokens are waiting, and this request has {tokens}")]
    QueueTokensFull {
        /// Tokens that wait.
        waiting: usize,
        /// Those of the request that was refused; 0 where nobody has counted them yet.
        tokens: usize,
    },
    /// A rule of the server is against a prompt.
    #[error("the prompt was refused by the rule `{rule}`")]
    Refused {
        /// The rule.
        rule: String,
    },
    /// The engine finishes what it has and takes nothing new.
    #[error("the engine is shutting down")]
    Draining,
    /// The engine's thread has ended.
    #[error("the engine of model `{model}` has stopped: {reason}")]
    Stopped {
        /// Which model.
        model: String,
        /// Why.
        reason: String,
    },
    /// The system gave no thread or runtime.
    #[error("start {what}: {source}")]
    Start {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Loading the model panicked; the panic was shown by the thread.
    #[error("load the model: its thread panicked")]
    LoadPanicked,
    /// The program of another engine cannot be started or looked after.
    #[error("run {}: {source}", command.display())]
    EngineCommand {
        /// The program.
        command: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program of another engine has ended by itself.
    #[error("{} has ended with {status}; what it said of that stands above", command.display())]
    EngineEnded {
        /// The program.
        command: PathBuf,
        /// Its exit status.
        status: String,
    },
    /// The host's name has no address.
    #[error("resolve host `{host}`: {message}")]
    Host {
        /// The host.
        host: String,
        /// What the system said.
        message: String,
    },
    /// Other machines could reach the server, and nothing would ask them for a key.
    #[error("listen on `{host}` without an API key: other machines could use the model")]
    Exposed {
        /// The host.
        host: String,
    },
    /// The port cannot be had.
    #[error("listen on {host}:{port}: {source}")]
    Bind {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::QueueFull { .. } => Some("wait until some have finished, or raise `max_queued`".to_owned()),
            Self::QueueTokensFull { .. } => {
                Some("wait until some have finished, or raise `max_queued_tokens`".to_owned())
            }
            Self::Exposed { .. } => Some(
                "set `NEXA_API_KEY` or pass `--api-key-file`, or listen on `127.0.0.1`, which only this machine reaches".to_owned(),
            ),
            Self::Bind { port, source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Some(format!(
                    "another process uses port {port}: stop it, or pass another with `--port` (0 takes any free one)"
                )),
                io::ErrorKind::PermissionDenied => {
                    Some(format!("port {port} needs more rights: pass one above 1023 with `--port`"))
                }
                io::ErrorKind::AddrNotAvailable => {
                    Some("this machine does not have that address: check `--host`".to_owned())
                }
                _ => None,
            },
            Self::EngineCommand { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(
                "install vLLM where this machine finds it, or name the program with `--vllm PATH`".to_owned(),
            ),
            Self::Host { .. } => Some("check the spelling of `--host`".to_owned()),
            Self::EngineConfig { .. }
            | Self::Refused { .. }
            | Self::Draining
            | Self::Stopped { .. }
            | Self::Start { .. }
            | Self::EngineCommand { .. }
            | Self::EngineEnded { .. }
            | Self::LoadPanicked => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::EngineConfig { .. } => ExitCode::Config,
            Self::Refused { .. } => ExitCode::Failure,
            Self::Exposed { .. } => ExitCode::Usage,
            Self::QueueFull { .. }
            | Self::QueueTokensFull { .. }
            | Self::Draining
            | Self::Stopped { .. }
            | Self::EngineCommand { .. }
            | Self::EngineEnded { .. }
            | Self::Host { .. }
            | Self::Bind { .. } => ExitCode::Unavailable,
            Self::Start { .. } | Self::LoadPanicked => ExitCode::Failure,
        }
    }
}
