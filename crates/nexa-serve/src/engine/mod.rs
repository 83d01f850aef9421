//! The inference engine: one thread owns the model, and every caller's sequences share its steps.
//!
//! Invariants:
//! - The tokens of a request depend on its prompt and its [`Sampling`](nexa_core::lm::Sampling) alone, never on its
//!   neighbours: prompts are cut at fixed places, and each request draws from a generator of its own.
//! - A sequence for which there is no memory waits, the youngest first; it is read again, and its tokens are the same.
//! - Every accepted request ends in exactly one [`Event::Done`] or [`Event::Failed`], also when the model panics.
//! - A request whose [`Answer`] was dropped leaves the batch before the next step.
//!
//! The parts, from outside in: [`Engine`] is what callers hold, `queue` is the door between them and the thread,
//! `worker` is the thread, `sequence` is one request in the batch, and `sample`, `detokenize` and `stop` turn its
//! logits into text.

mod answer;
mod chat;
mod config;
mod detokenize;
mod embed;
mod form;
mod guess;
mod handle;
mod logprob;
mod metrics;
mod queue;
mod sample;
mod score;
mod sequence;
mod stop;
mod tools;
mod watch;
mod worker;

pub use answer::{Answer, Completion, Event, Usage};
pub use config::EngineConfig;
pub use handle::{Engine, Prompt};
pub use logprob::TokenLogprob;
pub use queue::Phase;
pub(crate) use tools::{Piece, Tool, ToolStream, demanded};
