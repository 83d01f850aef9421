//! What goes wrong with GGUF files, always with the file and the place in it.

use std::path::{Path, PathBuf};

use nexa_core::{Diagnose, ExitCode};

use super::architecture::Architecture;
use super::tensor_type::TensorType;

/// A failure of reading or writing a GGUF file, or of the checkpoint on its other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Core(#[from] nexa_core::Error),
    /// The weights of the checkpoint folder could not be read or written.
    #[error(transparent)]
    Weights(#[from] crate::Error),
    /// The bytes of a file are not what the format says.
    #[error("{path}: byte {at}: {problem}", path = path.display())]
    Bytes {
        /// Which file.
        path: PathBuf,
        /// Where it went wrong.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// The model is of an architecture that the decoder does not implement.
    #[error("{path}: architecture `{name}` is not supported", path = path.display())]
    Architecture {
        /// Which file.
        path: PathBuf,
        /// What it calls its architecture.
        name: String,
    },
    /// A key of the metadata or of a JSON file is missing or has a value that cannot be honoured.
    #[error("{path}: `{key}` {problem}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A tensor is missing, unknown or of the wrong form.
    #[error("{path}: tensor `{name}` {problem}", path = path.display())]
    Tensor {
        /// Which file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(super) fn key(path: &Path, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key { path: path.to_owned(), key: key.into(), problem: problem.into() }
    }

    pub(super) fn tensor(path: &Path, name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), name: name.into(), problem: problem.into() }
    }
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Weights(error) => error.hint(),
            Self::Architecture { .. } => Some(format!("supported are: {}", Architecture::names())),
            Self::Tensor { problem, .. } if problem.starts_with("has type") => Some(format!(
                "readable are: {}; such a file can be written with llama.cpp's `llama-quantize`",
                TensorType::names()
            )),
            Self::Bytes { .. } => Some("the file is damaged or incomplete; fetch it again".to_owned()),
            Self::Key { .. } | Self::Tensor { .. } => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::Weights(error) => error.exit_code(),
            _ => ExitCode::Input,
        }
    }
}
