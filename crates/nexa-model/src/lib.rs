//! The decoder, its weights, tokenizer, chat template and generation.
//!
//! - [`DecoderConfig`] is the shape, [`Weights`] are the numbers, and a [`Checkpoint`] folder holds both with the
//!   tokenizer, in the files of Hugging Face.
//! - [`Decoder`] is the model under autodiff, for training. Its slow parts are fused: `ops` makes the
//!   kernels in `kernels` operations of Burn, `plain` says what each must compute.
//! - [`LocalModel`] is the model for inference, with a cache of keys and values.
//! - [`ChatTokenizer`] is text to ids and back, with the chat template.
//! - [`ImportModel`] takes a model from elsewhere into the lab; [`gguf`] reads and writes the files of llama.cpp.
//!
//! This crate knows no optimizer, no data set, no sampler and no network.

mod checkpoint;
mod config;
mod decoder;
mod error;
pub mod gguf;
mod import;
mod inference;
mod kernels;
mod ops;
mod plain;
mod stage;
mod tokenizer;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::DecoderConfig;
pub use decoder::{Batch, Decoder};
pub use error::Error;
pub use import::{ImportConfig, ImportModel};
pub use inference::LocalModel;
pub use stage::{TokenizerConfig, TrainTokenizer};
pub use tokenizer::ChatTokenizer;
pub use weights::{Kind, Parameter, Weights, layout};
