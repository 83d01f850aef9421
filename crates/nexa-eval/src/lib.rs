//! Evaluation: tasks that put questions to a model, the statistics of their answers, and what follows from them.
//!
//! | module | what it does |
//! |---|---|
//! | [`task`] | the tasks over a held-out split: items, and how answers to them are graded |
//! | [`harness`] | the tasks of lm-evaluation-harness |
//! | [`ask`] | puts requests to a model, none of them twice |
//! | [`statistics`] | intervals and paired tests |
//! | [`evaluate`] | the stage that makes an evaluation of a checkpoint |
//! | [`facts`] | what an evaluation was of, as it stands in the artifact |
//! | [`evaluation`] | such an artifact read back |
//! | [`contamination`] | what an evaluation and the training data have in common |
//! | [`mod@compare`] | two evaluations, item by item |
//! | [`leaderboard`] | all evaluations of a project, ranked task by task |
//! | [`calibration`] | whether a model is as often right as it is sure |
//! | [`guard`] | how well guard rules tell what should be blocked |
//! | [`promotion`] | whether a version shows what a tag asks for |
//! | [`mod@reconcile`] | why another tool's numbers differ |
//! | [`judge`] | what judges' verdicts come to, and how far judges can be trusted |
//! | [`feedback`] | the stages that find the gaps of an evaluation and aim new prompts at them |
//!
//! No number leaves this crate without its interval, and no two models are compared without a paired test. Models are
//! seen only through [`nexa_core::lm`]; this crate knows neither tensors nor networks.

pub mod ask;
pub mod calibration;
pub mod compare;
pub mod contamination;
pub mod error;
pub mod evaluate;
pub mod evaluation;
pub mod facts;
pub mod feedback;
pub mod guard;
pub mod harness;
pub mod judge;
pub mod leaderboard;
pub mod metric;
pub mod predictions;
pub mod promotion;
pub mod reconcile;
pub mod statistics;
pub mod task;

pub use compare::{Comparison, compare};
pub use contamination::Contamination;
pub use error::{Error, Result};
pub use evaluate::Evaluate;
pub use evaluation::Evaluation;
pub use feedback::Feedback;
pub use feedback::inputs::AimedInputs;
pub use leaderboard::Leaderboard;
pub use reconcile::{Reconciliation, reconcile};
