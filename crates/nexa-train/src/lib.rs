//! Objectives, optimizer, schedule, training loop and checkpoints.
//!
//! [`train`] is the one entrance: a [`Config`], the files of [`Inputs`], a workspace that survives kills and a folder
//! that receives the finished model. [`initialise`] writes the untrained model that [`train`] starts from.
//!
//! What can be relied on:
//! - The order of the samples is a function of the seed and the epoch alone, and every sum is taken in a fixed order.
//!   The same inputs on the same kind of machine give the same weights to the last bit.
//! - All state between two steps is one file, replaced atomically. A run that is killed at any moment and started
//!   again ends with the same weights and the same `metrics.jsonl` as one that was never disturbed.
//! - Samples never see each other, and no padding is computed: they lie end to end, and attention knows their edges.
//!
//! This crate knows no artifact, no run record and no screen: it reads files, writes into folders and emits events.

mod config;
mod data;
mod error;
mod metrics;
mod optimizer;
mod schedule;
mod stage;
mod state;
pub mod trackers;
mod train;
mod workers;

pub use config::{Config, ModelConfig, Optimizer, Scheduler};
pub use error::Error;
pub use stage::{Initialise, Train};
pub use train::{Inputs, Outcome, initialise, train};
