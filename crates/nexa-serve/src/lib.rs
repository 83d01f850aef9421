//! The inference engine and its HTTP API.
//!
//! [`engine`] turns a `nexa_core::lm::LanguageModel` into something that many callers can use at once: it batches,
//! samples, cuts at stop strings and streams. Evaluation and the HTTP API use the same engine. [`api`] speaks the
//! OpenAI protocol over it, and [`serve`](fn@serve) runs that API on a port. This crate knows no tensor library and reads
//! no checkpoint: whoever starts an engine hands it the model.

pub mod api;
pub mod engine;
mod error;
mod serve;

pub use engine::{Answer, Completion, Engine, EngineConfig, Event, Phase, Prompt, TokenLogprob, Usage};
pub use error::Error;
pub use serve::{ServerConfig, run, serve};
