//! Behaviour of the contracts through their public doors.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod index;
mod lineage;
mod manifest;
mod registry;
mod run;
mod stage;
mod support;
