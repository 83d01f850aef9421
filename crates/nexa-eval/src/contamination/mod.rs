//! What a model is judged by and was trained on: runs of words that documents of an evaluation have in common with the
//! training data in the lineage of the checkpoint.
//!
//! | module | what it does |
//! |---|---|
//! | `training` | finds the training data, and says where it is not known |
//! | `index` | the runs of words of what is asked |
//! | `search` | reads the training data past them |
//! | `report` | what was found, task by task, with each metric over the clean documents |
//!
//! A document is its question with its right answer, without examples. For each length of runs it is told which share of
//! its runs stands anywhere in the training data; [`Rule`] says from which share on the document overlaps.
//!
//! # Source
//! One common run of 13 words makes a document dirty in GPT-3 (Brown et al., "Language models are few-shot learners", 2020,
//! appendix C); seven in ten of its runs of 8 words do in PaLM (Chowdhery et al., "PaLM: Scaling language modeling with
//! pathways", 2022, section 8).
//!
//! # Departures
//! A document that is shorter than a run is looked for as a whole, from 5 words on. Runs that stand in many documents of a
//! task are its wording and tell nothing of any of them. Where training data is not known, nothing is called clean.

mod index;
mod report;
mod search;
mod training;

pub use report::{Contamination, FILE, MetricOverlap, RuleOverlap, TaskOverlap};
pub use search::TrainingText;

pub(crate) use report::Measured;
pub(crate) use search::{Documents, Overlaps};
pub(crate) use training::TrainingData;

use serde::{Deserialize, Serialize};

/// When a document overlaps with training data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Words of a run.
    pub words: usize,
    /// The share of the document's runs from which on it overlaps; 0 is any run at all.
    pub min_share: f64,
}

impl Rule {
    /// Those of PaLM and of GPT-3.
    pub const ALL: [Self; 2] = [Self { words: 8, min_share: 0.7 }, Self { words: 13, min_share: 0.0 }];

    /// Whether a document overlaps of whose runs such a share was found.
    pub fn holds(&self, share: f64) -> bool {
        share > 0.0 && share >= self.min_share
    }
}

/// What was found of one document: the share of its runs by each of [`Rule::ALL`].
pub type Shares = [f64; 2];
