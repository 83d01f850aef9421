//! SQL over every table of the lab, and over files.
//!
//! [`DataQuery`] plans and runs a statement with DataFusion and hands back an [`Answer`], which is read batch by batch.
//! `names` says what the words behind FROM mean: artifacts of the lab, their tables, files, `s3://` addresses. Only those
//! are opened. Parquet is read by DataFusion; lines of JSON and CSV by the code that stages read them with (`text`), whose
//! types are found by looking at every row. Nothing is ever written but the answer.
//!
//! All of it blocks: the threads of a query are its own, and no future leaves this module.

mod address;
mod answer;
mod data_query;
mod failure;
mod names;
mod output;
mod parquet;
mod piece;
mod s3;
mod scratch;
mod session;
#[cfg(test)]
mod tests;
mod text;
mod work;

pub use answer::{Answer, Rows};
pub use data_query::{DataQuery, Options};
pub use output::OutputFormat;
