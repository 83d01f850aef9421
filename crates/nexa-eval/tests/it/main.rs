//! Evaluation from end to end: stages run through [`nexa_core::stage::execute`] in a lab of their own, with models that
//! are a few lines long.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adder;
mod aimed;
mod bench;
mod boards;
mod compare;
mod contamination;
mod evaluate;
mod feedback;
mod harness;
mod judge;
mod layouts;
mod leaderboard;
mod parrot;
mod promotion;
mod reconcile;
mod results;
mod versus;
