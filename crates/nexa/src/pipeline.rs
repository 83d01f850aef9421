//! Pipelines: stages with inputs and outputs that form a graph, run by `nexa run` and by `nexa demo`.
//!
//! A pipeline only names stages and how they are joined; whether a stage needs to run is decided by
//! [`nexa_core::stage`], from its key, exactly as for a single command.

mod execute;
mod spec;

pub(crate) use execute::{Options, StageReport, StageState, execute, exit_code};
pub(crate) use spec::{Pipeline, load};
