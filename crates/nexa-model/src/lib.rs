//! The decoder, its weights, tokenizer, chat template and generation.
//!
//! - [`DecoderConfig`] is the shape, [`Weights`] are the numbers, and a [`Checkpoint`] folder holds both with the
//!   tokenizer, in the files of Hugging Face.
//! - [`Decoder`] is the model under autodiff, for training. Its slow parts are fused: `ops` makes the
//!   kernels in `kernels` operations of Burn, `plain` says what each must compute.
//! - [`device`] names and opens what training computes on.
//! - [`LocalModel`] is the model for inference, in single precision or in few bits; [`mod@bench`] measures it.
//! - [`ChatTokenizer`] is text to ids and back, with the chat template.
//! - [`ImportModel`] takes a model from elsewhere into the lab, [`MergeModel`] adds adapters to one, [`export()`] writes one for others;
//!   [`gguf`] reads and writes the files of llama.cpp.
//! - [`resolve`] is a model's name to its folder; for names of the Hugging Face hub it is the only place that reaches
//!   the network.
//!
//! This crate knows no optimizer, no data set and no sampler.

mod base;
pub mod bench;
mod buffer;
mod checkpoint;
mod config;
mod decoder;
pub mod device;
mod error;
mod export;
mod files;
pub mod gguf;
mod hub;
mod import;
mod inference;
mod kernels;
mod lora;
mod merge;
mod ops;
#[cfg(test)]
mod parity;
mod plain;
pub mod profile;
mod rope;
mod stage;
mod texts;
mod tokenizer;
mod weights;

pub use base::Base;
pub use buffer::Buffer;
pub use checkpoint::Checkpoint;
pub use config::{
    Architecture, DecoderConfig, Llama, Llama3Scaling, RopeScaling, SlidingWindow, YarnScaling,
};
pub use decoder::{Batch, Decoder, Gradients, LossFunction, Objective, TeacherRows};
pub use error::Error;
pub use export::export;
pub use files::ADAPTER_FOLDER;
pub use hub::resolve;
pub use import::{ImportConfig, ImportModel};
pub use inference::{CacheConfig, CacheNumber, LocalModel, Quantisation};
pub use kernels::distill::{Divergence, Kind as DivergenceKind};
pub use kernels::head::rows_at_once;
pub use lora::{Lora, LoraConfig};
pub use merge::{MergeConfig, MergeModel};
pub use stage::{TokenizerConfig, TrainTokenizer};
pub use texts::{Form as TextForm, MessageKeys, TextColumns};
pub use tokenizer::{
    ChatTokenizer, Conversation, EncodedConversation, EncodedTurn, LossMask, Message, Stop, TrainOnEos,
};
pub use weights::{Kind, Parameter, SHARD_BYTES, Weights, layout, weights_hash, write_tensors};
