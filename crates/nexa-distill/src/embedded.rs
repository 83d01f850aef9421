//! A teacher inside the binary: word problems, their worked solutions, and an OpenAI-compatible service that answers
//! with them.
//!
//! It lets the whole pipeline run without a key, a network or a download, and it errs at stated rates so that every
//! gate, retry and report has something to do.

mod answer;
mod batches;
mod conduct;
pub mod families;
mod faults;
mod judge;
mod server;
mod stats;

pub use conduct::Conduct;
pub use faults::Faults;
pub use server::{Config, EmbeddedTeacher};
pub use stats::Seen;

/// The name of the embedded teacher, as the service and the tables give it.
pub const MODEL: &str = "nexa/arithmetic-teacher";

/// The name under which it answers where it is asked for a verdict: rules, no model.
const JUDGE: &str = nexa_core::judging::RULES;

/// Raised whenever the same question, seed and rates would give another answer than before.
pub const ANSWER_VERSION: u32 = 1;
