//! Objectives, optimizers, schedule, training loop and checkpoints.
//!
//! [`train`] is the one entrance: a [`Config`], the files of [`Inputs`], and a [`Session`] with a workspace that
//! survives kills and a folder that receives the finished model. [`initialise`] writes the untrained model that
//! [`train`] starts from. [`plan`] says what a run will take, before it is begun. [`verify`] proves on any config that a killed run ends as an undisturbed one.
//!
//! What can be relied on:
//! - The order of the samples is a function of the seed and the epoch alone, and every sum is taken in a fixed order.
//!   The same inputs on the same kind of machine give the same weights to the last bit.
//! - All state between two steps is one file with a checksum. A run that is killed at any moment and started again
//!   ends with the same weights and the same `metrics.jsonl` as one that was never disturbed. Two generations of the
//!   state are kept, so that a damaged one costs time and not the run.
//! - Samples never see each other, and no padding is computed: they lie end to end, and attention knows their edges.
//!
//! This crate knows no artifact, no run record and no screen: it reads files, writes into folders and emits events.

pub mod bench;
mod config;
mod data;
mod error;
mod model;
mod objective;
pub mod optimizer;
mod placement;
pub mod plan;
mod run;
mod stage;
mod state;
pub mod trackers;
pub mod verify;

pub use config::{
    Adapter, Bf16, Config, Divergence, LearningRateGroup, Metric, ModelConfig, Objective, Optimizer,
    PreferenceLoss, Scheduler,
};
pub use data::{
    DataFile, DataOptions, DatasetConfig, DatasetCounts, ExcessLength, Inspection, Mask, MessageProperties,
    Packing, Report, SampleRef, SampleType, Samples, SequenceTokens, Source, Token, count_tokens, inspect,
    load_tokenizer, pack,
};
pub use error::Error;
pub use run::{End, Inputs, Outcome, Session, initialise, tracking_of, train};
pub use stage::{Initialise, Train};
pub use state::Validation;
