//! What goes wrong in evaluation.

use nexa_core::{Diagnose, ExitCode, lm};

use crate::task::Task;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A contract of the lab failed.
    #[error(transparent)]
    Core(#[from] nexa_core::Error),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] lm::Error),
    /// The configuration names no task.
    #[error("`tasks` is empty, so there is nothing to evaluate")]
    NoTask,
    /// The split holds no row.
    #[error("split `{split}` of {dataset} holds no row")]
    EmptySplit {
        /// The data set.
        dataset: String,
        /// The split.
        split: &'static str,
    },
    /// Rows without the right answer, which `exact_match` compares with.
    #[error(
        "{missing} of {total} rows of split `{split}` of {dataset} have no `reference`, the first is `{first}`"
    )]
    MissingReferences {
        /// The data set.
        dataset: String,
        /// The split.
        split: &'static str,
        /// Rows without reference.
        missing: usize,
        /// All rows.
        total: usize,
        /// The id of the first row without.
        first: String,
    },
    /// The model cannot do any of the tasks asked for.
    #[error("model `{model}` tells no probabilities, which `perplexity` needs")]
    NoScorer {
        /// The model.
        model: String,
    },
    /// The model answered another number of requests than it was asked.
    #[error("model `{model}` returned {returned} results for {asked} requests of task `{task}`")]
    WrongCount {
        /// The model.
        model: String,
        /// The task.
        task: Task,
        /// Requests.
        asked: usize,
        /// Results.
        returned: usize,
    },
    /// The model gave a probability that is no number.
    #[error("model `{model}` gave item `{id}` a log-probability of {logprob_nats}")]
    NotFinite {
        /// The model.
        model: String,
        /// The item.
        id: String,
        /// What it gave.
        logprob_nats: f64,
    },
    /// No item of a task could be measured.
    #[error("task `{task}` measured none of {total} items")]
    NothingMeasured {
        /// The task.
        task: Task,
        /// Items of the split.
        total: usize,
    },
    /// A feedback that is not on this evaluation.
    #[error("{feedback} is not the feedback on {evaluation}{}", of.as_ref().map(|of| format!(" but on {of}")).unwrap_or_default())]
    OtherEvaluation {
        /// The feedback.
        feedback: String,
        /// The evaluation.
        evaluation: String,
        /// What it is the feedback on, where it tells.
        of: Option<String>,
    },
    /// An evaluation without a failure leaves nothing to aim at.
    #[error("no item of {evaluation} failed, so there is nothing to aim prompts at")]
    NothingFailed {
        /// The evaluation.
        evaluation: String,
    },
    /// A pool without a prompt that could be asked.
    #[error(
        "none of the {rows} prompts of {pool} is left to ask: {asked} were asked before, {refused} are evaluation items or \
         near copies, {far} are near to no gap"
    )]
    NothingToAsk {
        /// The pool.
        pool: String,
        /// Its rows.
        rows: usize,
        /// Those of them that were asked before.
        asked: usize,
        /// Those that are what the model is judged by.
        refused: usize,
        /// Those that are near to no gap.
        far: usize,
    },
    /// Two evaluations that are not of the same items.
    #[error("compare {a} with {b}: {reason}")]
    Incomparable {
        /// One evaluation.
        a: String,
        /// The other.
        b: String,
        /// What differs.
        reason: String,
    },
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::NoTask => {
                Some("name `exact_match`, `perplexity` or both, or leave the key out for both".to_owned())
            }
            Self::EmptySplit { .. } => Some(
                "choose another `split`, or package the data set with a larger share for this one".to_owned(),
            ),
            Self::MissingReferences { .. } => Some(
                "package the data set with references, or evaluate with `tasks: [perplexity]`".to_owned(),
            ),
            Self::NoScorer { .. } => Some("evaluate with `tasks: [exact_match]`".to_owned()),
            Self::NotFinite { .. } => Some(
                "the weights may hold NaN: train with a lower learning rate or take an earlier checkpoint"
                    .to_owned(),
            ),
            Self::NothingMeasured { .. } => Some(
                "every item is longer than the model's context, or holds no text of the assistant".to_owned(),
            ),
            Self::Incomparable { .. } => Some(
                "evaluate both checkpoints with the same data set, split, limit and max_tokens".to_owned(),
            ),
            Self::OtherEvaluation { .. } => {
                Some("give the evaluation that the feedback was made of".to_owned())
            }
            Self::NothingFailed { .. } => Some("evaluate on harder items, or on more of them".to_owned()),
            Self::NothingToAsk { .. } => Some(
                "make further prompts by `nexa distill inputs` and name them: `nexa feedback --in pool=NAME`"
                    .to_owned(),
            ),
            Self::WrongCount { .. } => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
            Self::NoTask | Self::NoScorer { .. } => ExitCode::Config,
            Self::EmptySplit { .. }
            | Self::MissingReferences { .. }
            | Self::NothingMeasured { .. }
            | Self::NotFinite { .. }
            | Self::OtherEvaluation { .. }
            | Self::NothingFailed { .. }
            | Self::NothingToAsk { .. }
            | Self::Incomparable { .. } => ExitCode::Input,
            Self::WrongCount { .. } => ExitCode::Failure,
        }
    }
}
