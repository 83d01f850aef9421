//! The inference engine: one thread owns the model, and every caller's sequences share its steps.
//!
//! Invariants:
//! - The tokens of a request depend on its prompt and its [`Sampling`](nexa_core::lm::Sampling) alone, never on its
//!   neighbours: the logits of a model depend neither on them nor on where prompts are cut, and each request draws from a
//!   generator of its own.
//! - A sequence for which there is no memory waits, the youngest first; it is read again, and its tokens are the same.
//! - Every accepted request ends in exactly one [`Event::Done`] or [`Event::Failed`], also when the model panics.
//! - A request whose [`Answer`] was dropped leaves the batch before the next step, and no step takes much longer than 0.4 s
//!   where the model can read 16 tokens in that time.
//!
//! The parts, from outside in: [`Engine`] is what callers hold, `queue` is the door between them and the thread,
//! `worker` is the thread, `pace` says how much it may do at a time, `sequence` is one request in the batch, `embedding` a
//! text that is embedded, and `sample`, `detokenize` and `stop` turn logits into text.

mod answer;
mod chat;
mod config;
mod detokenize;
mod embed;
mod embedding;
mod form;
mod guess;
mod handle;
mod logprob;
mod metrics;
mod pace;
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
pub(crate) use tools::{Piece, Tool, ToolStream, demanded, offered};
