//! What goes wrong with checkpoints, configurations and tokenizers.

use std::path::{Path, PathBuf};

use nexa_core::{Diagnose, Error as CoreError, ExitCode};

use crate::Architecture;

/// A failure of this crate outside of inference, which speaks [`nexa_core::lm::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A device cannot be used.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// Putting a file in its place failed; the message names the path.
    #[error(transparent)]
    Store(#[from] nexa_core::Error),
    /// A GGUF file does not hold what it should; the message names the path.
    #[error(transparent)]
    Gguf(Box<crate::gguf::Error>),
    /// A file of a model does not hold what it should.
    #[error("{path}: {source}", path = path.display())]
    In {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Self>,
    },
    /// A file is not the JSON that it should be.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A model configuration contradicts itself or asks for what the decoder cannot do.
    #[error("model config: `{key}` {problem}")]
    Config {
        /// The key at fault.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The decoder does not implement this architecture.
    #[error("architecture `{0}` is not supported (supported: {known})", known = Architecture::ALL.map(Architecture::class_name).join(", "))]
    Architecture(String),
    /// A weight file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Safetensors {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// A tensor that the configuration asks for is not in the file.
    #[error("{path}: tensor `{name}` is missing", path = path.display())]
    MissingTensor {
        /// Which file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// The file holds a tensor that the configuration does not know.
    #[error("{path}: unexpected tensor `{name}`", path = path.display())]
    UnexpectedTensor {
        /// Which file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor stands in two files of a model.
    #[error("{path}: tensor `{name}` stands in an earlier file already", path = path.display())]
    DuplicateTensor {
        /// The second file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{path}: tensor `{name}` has shape {found:?}, the config asks for {expected:?}", path = path.display())]
    TensorShape {
        /// Which file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor has a number format that is not read.
    #[error("{path}: tensor `{name}` is {found} (readable: F32, F16, BF16)", path = path.display())]
    TensorFormat {
        /// Which file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its format.
        found: String,
    },
    /// A path that should be the folder of a model is none.
    #[error("there is no model folder `{0}`")]
    NoModel(String),
    /// A repository of the hub cannot be used.
    #[error("hub: `{repository}` {problem}")]
    Hub {
        /// Which repository.
        repository: String,
        /// Why not.
        problem: String,
    },
    /// The hub does not let us see a repository.
    #[error("hub: `{repository}` is refused with status {status}")]
    HubRefused {
        /// Which repository.
        repository: String,
        /// The status of the response.
        status: u16,
    },
    /// There is no connection to the hub.
    #[error("hub: `{repository}` cannot be reached: {problem}")]
    HubUnreachable {
        /// Which repository.
        repository: String,
        /// Why not.
        problem: String,
    },
    /// Merged weights do not compute what the base with its adapters does.
    #[error(
        "the merged logits are {difference:.2e} away from those of base and adapters (at most {bound:.2e})"
    )]
    Merge {
        /// The largest difference of two logits.
        difference: f32,
        /// The largest that rounding explains.
        bound: f32,
    },
    /// Adapters were trained over another model than the one that they are to be merged into.
    #[error(
        "the adapters were trained over `{trained_over}` ({trained_hash}), `{base}` is another model ({base_hash})"
    )]
    OtherBase {
        /// What the adapters say they were trained over.
        trained_over: String,
        /// The hash of its weights.
        trained_hash: String,
        /// The model that was given.
        base: String,
        /// The hash of its weights.
        base_hash: String,
    },
    /// A folder that is to be written holds something.
    #[error("write to `{path}`: the folder is not empty", path = .0.display())]
    NotEmpty(PathBuf),
    /// A tokenizer could not be trained, loaded or saved.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The tokenizer has more ids than the model has rows for them.
    #[error("the tokenizer has {tokenizer} ids, the model only {model} (`vocab_size`)")]
    Vocabulary {
        /// Ids of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
}

impl Error {
    /// Says in which file it is.
    pub(crate) fn within(self, path: &Path) -> Self {
        Self::In { path: path.to_owned(), source: Box::new(self) }
    }

    /// What the system said, where it was a file that could not be read or written.
    fn system(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io(error)
            | Self::Store(CoreError::Io { source: error, .. })
            | Self::Safetensors { source: safetensors::SafeTensorError::IoError(error), .. } => Some(error),
            _ => None,
        }
    }
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        if let Some(error) = self.system().filter(|error| is_storage(error)) {
            return CoreError::io("write", "", std::io::Error::from(error.kind())).hint();
        }
        match self {
            Self::Store(error) => error.hint(),
            Self::In { source, .. } => source.hint(),
            Self::Device(error) => error.hint(),
            Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Some(
                "a checkpoint is a folder with config.json, model.safetensors, tokenizer.json and tokenizer_config.json"
                    .to_owned(),
            ),
            Self::NoModel(_) => {
                Some("a model is a folder, or `hf:organisation/name` on the Hugging Face hub".to_owned())
            }
            Self::HubRefused { .. } => Some(
                "the name is wrong, or the model is private or gated: set HF_TOKEN to a token that may read it"
                    .to_owned(),
            ),
            Self::HubUnreachable { .. } => {
                Some("check the connection and HF_ENDPOINT; a model that was fetched before is used without".to_owned())
            }
            Self::Safetensors { .. } => {
                Some("the file is damaged or incomplete; fetch it again".to_owned())
            }
            Self::OtherBase { .. } => Some(
                "name the model that they were trained over with `--base`, or merge all the same with `--any-base`"
                    .to_owned(),
            ),
            Self::NotEmpty(_) => Some("name a folder that is new or empty".to_owned()),
            _ => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        if self.system().is_some_and(is_storage) {
            return ExitCode::Storage;
        }
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Gguf(error) => error.exit_code(),
            Self::Config { .. } => ExitCode::Config,
            Self::HubRefused { .. } => ExitCode::Credentials,
            Self::HubUnreachable { .. } => ExitCode::Unavailable,
            Self::Merge { .. } => ExitCode::Integrity,
            Self::NotEmpty(_) => ExitCode::Usage,
            _ => ExitCode::Input,
        }
    }
}

impl From<crate::gguf::Error> for Error {
    fn from(error: crate::gguf::Error) -> Self {
        Self::Gguf(Box::new(error))
    }
}

/// Whether the disk is full or not writable.
fn is_storage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
