//! The binary as a person uses it, and the shape of the workspace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_model;
mod architecture;
mod boards;
mod clean;
mod command_line;
mod distill;
mod docker;
mod evaluate;
mod feedback;
mod guard;
mod judge;
mod listings;
mod models;
mod pipeline;
mod query;
mod registry;
mod review;
mod serving;
mod sift;
mod support;
mod train;
