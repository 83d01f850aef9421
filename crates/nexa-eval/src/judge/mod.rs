//! What judges' verdicts come to: scores with intervals, who wins, and how far judges can be trusted.
//!
//! | module | what it does |
//! |---|---|
//! | [`verdicts`] | verdicts read back: items, and pairs in both orders |
//! | [`means`] | mean scores by model, criterion, task, domain and turn |
//! | [`win_rate`] | who wins of two, as it is and at equal lengths |
//! | [`bradley_terry`] | ratings of many models |
//! | [`bias`] | preferences for a place, a length, a family |
//! | [`labels`] | what people said of the same items |
//! | [`item_labels`] | which item each of their labels belongs to |
//! | [`card`] | judges beside people, and beside themselves |
//! | [`report`] | all of it |
//! | `resample` | intervals of what is no plain mean |
//!
//! Judges are asked by `distill.judge`; they meet in [`nexa_core::judging`]. Nothing here asks anybody.

pub mod bias;
pub mod bradley_terry;
pub mod card;
pub mod item_labels;
pub mod labels;
pub mod means;
pub mod report;
mod resample;
pub mod verdicts;
pub mod win_rate;

pub use card::Card;
pub use item_labels::ItemLabels;
pub use labels::{LabelKind, Labels};
pub use report::Report;
pub use verdicts::Verdicts;
