//! Contracts of the lab: artifacts, manifests, lineage, runs, costs, events, configuration, and the traits at the
//! seams. Every other crate may use this one, and this one uses none of them.

pub mod answer;
pub mod artifact;
pub mod columns;
pub mod config;
pub mod cost;
pub mod decontamination;
pub mod draw;
pub mod env;
pub mod error;
pub mod event;
pub mod files;
pub mod format;
pub mod guard;
pub mod hash;
pub mod hosts;
pub mod index;
pub mod judging;
pub mod lab;
pub mod lineage;
pub mod lm;
pub mod machine;
pub mod overlap;
pub mod promotion;
pub mod python;
pub mod review;
pub mod run;
pub mod scan;
pub mod sequential;
pub mod split;
pub mod stage;
pub mod table;
pub mod words;

pub use error::{Diagnose, Error, ExitCode, Result};
