//! GGUF, the single-file format of llama.cpp: [`import`] makes a checkpoint folder of a file, [`export`] a file of a
//! folder.
//!
//! - `reader` and `writer` are the container, `metadata` its typed pairs, `tensor_type` and `blocks` its number
//!   formats.
//! - `architecture`, `config`, `rope` and `names` translate between the keys and tensors of GGUF and those of Hugging
//!   Face, `tokenizer` between the two forms of a tokenizer.
//!
//! The other side is the files of Hugging Face and nothing else of this crate, so that a file that is translated right
//! is right for every reader of such folders. Tensors go one by one: what is held in memory is one, not a model.

mod architecture;
mod blocks;
mod config;
mod error;
mod export;
mod import;
mod metadata;
mod names;
mod reader;
mod rope;
mod tensor_type;
mod tokenizer;
mod writer;

pub(crate) use blocks::{encode, k_quants::scale_and_min};
pub use error::Error;
pub use export::export;
pub(crate) use import::Model;
pub use import::{Imported, import};
pub use metadata::{Metadata, Value};
pub use reader::{Gguf, TensorInfo};
pub use tensor_type::TensorType;
pub use writer::FileType;

#[cfg(test)]
mod tests;
