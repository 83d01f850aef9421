//! Cleaning: what makes a text fit to learn from, and what must not be learned.
//!
//! Two stages with an artifact between them. [`Score`] (`data.score`) normalises each text and stores what the
//! [gates] measure; [`Clean`] (`data.clean`) holds the stored numbers against [`Thresholds`], rejects rows with the
//! reason, takes out of the others what the gates take out, and replaces [sensitive values](redact). A threshold can
//! so be changed, or tried out with [`flips`], without measuring again.

mod bench;
mod chain;
mod flips;
mod funnel;
pub mod gates;
mod normalise;
pub mod redact;
mod rows;
mod score;
mod scored;
mod stage;
mod text;
mod thresholds;

pub use bench::{Measurement, bench};
pub use chain::{Chain, Config as ScoreConfig, Measured};
pub use flips::{Flip, Flips, flips};
pub use funnel::{Funnel, Step};
pub use normalise::{Form, Normalise, WhiteSpace};
pub use score::Score;
pub use scored::chain_of;
pub use stage::{Clean, Config};
pub use thresholds::{Judge, Rejection, Section, Thresholds};

/// The role of the rows that are scored and cleaned.
pub const DATASET_ROLE: &str = "dataset";

/// The role of their scores.
pub const SCORES_ROLE: &str = "scores";

#[cfg(test)]
mod tests;
