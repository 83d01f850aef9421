//! The pages. Each is a struct of data, a `gather` that fills it and a pure `page` that shows it.

mod board;
pub(crate) mod chat;
pub(crate) mod compare;
pub(crate) mod contamination;
pub(crate) mod cost;
pub(crate) mod data;
pub(crate) mod evaluation;
pub(crate) mod failure;
pub(crate) mod interval;
pub(crate) mod leaderboard;
pub(crate) mod lineage;
pub(crate) mod overview;
pub(crate) mod parts;
pub(crate) mod review;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod sample;
mod shell;
pub(crate) mod value;
pub(crate) mod verdicts;
pub(crate) mod versus;

pub(crate) use parts::artifact_url;
pub(crate) use shell::{Page, Section};
