//! Putting requests to a model such that none is put twice.
//!
//! A request is known by its content. What the model said is kept in the run's `samples.jsonl`, by which a killed
//! evaluation goes on, and in a cache of the lab, by which another evaluation of the same checkpoint does not ask again.

mod asker;
mod cache;
mod request;

pub use asker::{Asker, Sample};
pub use request::{Asked, Request};
