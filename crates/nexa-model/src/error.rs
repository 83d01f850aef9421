//! What goes wrong with checkpoints, configurations and tokenizers.

use std::path::PathBuf;

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
