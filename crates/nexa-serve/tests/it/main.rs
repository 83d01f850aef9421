//! Tests of the engine and of the HTTP API over a model that computes its logits with a hash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod adapters;
mod api;
mod crowd;
mod echo;
mod embeddings;
mod engine;
mod fake;
mod form;
mod guard;
mod life;
mod limits;
mod mutated;
mod openapi;
mod score;
mod stream;
mod tokens;
mod tools;
mod vllm;
