//! The pages. Each is a struct of data, a `gather` that fills it and a pure `page` that shows it.

pub(crate) mod chat;
pub(crate) mod compare;
pub(crate) mod cost;
pub(crate) mod data;
pub(crate) mod failure;
pub(crate) mod leaderboard;
pub(crate) mod lineage;
pub(crate) mod overview;
mod parts;
pub(crate) mod review;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod runs;
mod shell;
mod value;

pub(crate) use parts::artifact_url;
pub(crate) use shell::{Page, Section};
