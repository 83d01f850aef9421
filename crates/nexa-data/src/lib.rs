//! From raw files to versioned data sets: ingest, cleaning, statistics, the catalog, queries, and the Parquet tables of
//! every stage.
//!
//! This is the only crate that knows Arrow. Other stages read and write rows through
//! [`Tables`](nexa_core::table::Tables), which [`FileTables`](tables::FileTables) implements.

pub mod catalog;
pub mod clean;
pub mod decontaminate;
pub mod dedup;
pub mod diff;
pub mod error;
pub mod guard;
pub mod ingest;
pub mod query;
pub mod receipt;
mod rows;
pub mod split;
pub mod stats;
pub mod tables;
#[cfg(test)]
mod test_lab;

pub use error::{Error, Result};
