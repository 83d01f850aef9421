//! Tasks of lm-evaluation-harness: their files, documents, prompts, filters and metrics, equal to the reference.
//!
//! | module | what it does |
//! |---|---|
//! | `spec` | reads task files |
//! | `registry`, `builtin` | find tasks by name |
//! | `plan` | decides what is asked, before a model is loaded |
//! | `documents`, `load` | read documents and put them into words |
//! | `examples`, `prompt`, `requests` | put examples before questions and make requests of them |
//! | `outcome`, `filter`, `metric`, `native` | ask, and grade what comes back |
//! | `summary`, `results` | sum up, and write what users of the reference know |
//! | `python` | what task files take for granted of Python |
//!
//! # Source
//! EleutherAI, lm-evaluation-harness 0.4.13. What it does in Python for one task is done here for the tasks that are built
//! in, and refused for all others.

mod builtin;
mod documents;
mod examples;
mod fields;
mod filter;
mod load;
mod metric;
mod native;
mod outcome;
mod plan;
mod prompt;
mod python;
mod registry;
mod requests;
mod results;
mod spec;
mod summary;
mod template;

use std::path::{Path, PathBuf};

pub use python::MersenneTwister;

pub(crate) use load::{Document, Loaded};
pub(crate) use metric::Grade;
pub(crate) use outcome::{Outcome, Said, conversation, run};
pub(crate) use plan::{Plan, PlannedTask};
pub(crate) use registry::ChosenGroup;
pub(crate) use results::{RESULTS_FILE, Results, samples, samples_file};
pub(crate) use summary::{Summary, Summed, groups, measure, measure_group};

/// Every task, group and tag that can be named, and what it is.
///
/// # Errors
/// Fails with the path when a folder of task files, or a file in it, cannot be read.
pub fn names(root: &Path, include_path: &[PathBuf]) -> crate::Result<Vec<(String, &'static str)>> {
    Ok(registry::Registry::new(root, include_path)?.names())
}
