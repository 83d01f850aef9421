//! The inference engine and its HTTP API.
//!
//! [`engine`] turns a `nexa_core::lm::LanguageModel` into something that many callers can use at once: it batches,
//! samples, cuts at stop strings and streams. Evaluation and the HTTP API use the same engine. [`api`] speaks the
//! OpenAI protocol over it, and [`serve`](fn@serve) runs that API on a port; [`serve_vllm`] runs it before a vLLM. This crate knows no tensor library and reads
//! no checkpoint: whoever starts an engine hands it the model.

mod about;
pub mod api;
#[cfg(test)]
mod byte_tokenizer;
mod connections;
pub mod engine;
mod error;
mod keys;
mod serve;
mod vllm;

pub use about::{About, Evaluation, Loaded};
pub use api::cors::Origin;
pub use engine::{Answer, Completion, Engine, EngineConfig, Event, Phase, Prompt, TokenLogprob, Usage};
pub use error::Error;
pub use keys::{is_readable_by_others, read_keys};
pub use serve::{Life, ServerConfig, run, serve};
pub use vllm::{VllmConfig, run as run_vllm, serve as serve_vllm};
