//! What goes wrong in evaluation.

use nexa_core::{Diagnose, ExitCode, lm};

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
    /// The model tells no probabilities.
    #[error("model `{model}` tells no probabilities, which `{task}` needs")]
    NoScorer {
        /// The model.
        model: String,
        /// The task.
        task: String,
    },
    /// The model takes conversations alone.
    #[error("model `{model}` takes no plain text, which `{task}` needs")]
    NoCompletions {
        /// The model.
        model: String,
        /// The task.
        task: String,
    },
    /// A name that stands for no task.
    #[error("there is no task `{name}`{}", left_out(unread))]
    UnknownTask {
        /// The name.
        name: String,
        /// The name that was most likely meant.
        nearest: Option<String>,
        /// The files that might define it and cannot be read, each with the reason; those that most likely do first.
        unread: Vec<String>,
    },
    /// A task that only Python can run.
    #[error("task `{task}`: `{key}` is a function of Python, which this program does not run")]
    PythonHook {
        /// The task.
        task: String,
        /// The key that holds it.
        key: String,
    },
    /// A task file that says what cannot be.
    #[error("task `{task}`: `{key}`: {message}")]
    TaskFile {
        /// The task.
        task: String,
        /// The key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A document that its task cannot use.
    #[error("task `{task}`: `{key}` of document {document}: {message}")]
    Document {
        /// The task.
        task: String,
        /// The key that reads it.
        key: &'static str,
        /// Which document.
        document: String,
        /// What is wrong.
        message: String,
    },
    /// A choice or text that is longer than the model's context on its own.
    #[error("task `{task}`: document {document} has {tokens} tokens, and the context is {context_length}")]
    DocumentTooLong {
        /// The task.
        task: String,
        /// Which document.
        document: String,
        /// Its tokens.
        tokens: usize,
        /// The model's positions.
        context_length: usize,
    },
    /// A task whose documents are not here.
    #[error("task `{task}` has no documents here: split `{split}` was looked for in {looked}")]
    NoDocuments {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// Where it was looked for.
        looked: String,
    },
    /// A split without a document.
    #[error("task `{task}`: split `{split}` holds no document")]
    NoDocument {
        /// The task.
        task: String,
        /// The split.
        split: String,
    },
    /// The model has no chat template, or it refuses a conversation.
    #[error("task `{task}`: chat template: {message}")]
    ChatTemplate {
        /// The task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// A held-out split is asked for without the data set that it belongs to.
    #[error("task `{task}` is about the held-out split of a data set, and no `sft_dataset` was given")]
    NoDataset {
        /// The task.
        task: String,
    },
    /// An evaluation without a held-out split.
    #[error("{evaluation} asked nothing of a held-out split")]
    NoHeldOut {
        /// The evaluation.
        evaluation: String,
    },
    /// An evaluation of a newer version.
    #[error(
        "{evaluation} was made by version {found} of the stage, and this program reads up to {supported}"
    )]
    TooNew {
        /// The evaluation.
        evaluation: String,
        /// Its version.
        found: u32,
        /// The newest that can be read.
        supported: u32,
    },
    /// The model answered another number of requests than it was asked.
    #[error("model `{model}` returned {returned} results for {asked} requests of task `{task}`")]
    WrongCount {
        /// The model.
        model: String,
        /// The task.
        task: String,
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
        task: String,
        /// Items of the split.
        total: usize,
    },
    /// A metric that has no answer to grade.
    #[error(
        "task `{task}`: `{metric}` cannot be told: {total} of {total} answers are missing, {too_long} of them because the \
         prompt leaves no room in the model's context"
    )]
    NoAnswers {
        /// The task.
        task: String,
        /// The metric.
        metric: &'static str,
        /// Documents.
        total: usize,
        /// Those of them that are longer than the model's context, with the answer that they ask for.
        too_long: usize,
    },
    /// More requests failed than may.
    #[error(
        "{task}: {failed} of {total} requests to `{model}` failed, more than the share of {max_share} that may; the first: \
         {first}"
    )]
    TooManyFailed {
        /// The model.
        model: String,
        /// The task.
        task: String,
        /// Requests that failed.
        failed: usize,
        /// Requests in all.
        total: usize,
        /// The share that may fail.
        max_share: f64,
        /// Why the first one did.
        first: String,
    },
    /// An evaluation whose answers to a task are neither right nor wrong.
    #[error("{evaluation} says of no answer to {task} whether it is right")]
    NotGraded {
        /// The evaluation.
        evaluation: String,
        /// The task.
        task: String,
        /// The tasks of which it does.
        graded: Vec<String>,
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
    /// An evaluation that cannot be stopped when it is decided.
    #[error("stop when it is decided: {message}")]
    Versus {
        /// Why not.
        message: String,
    },
    /// Samples of another tool that cannot be held against ours.
    #[error("{}: {message}", path.display())]
    Reconcile {
        /// Their file.
        path: std::path::PathBuf,
        /// What is wrong.
        message: String,
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

/// Adds to a message which files cannot be read.
fn left_out(unread: &[String]) -> String {
    if unread.is_empty() {
        return String::new();
    }
    format!(", and files were left out that cannot be read: {}", unread.join("; "))
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
            Self::NoScorer { .. } => {
                Some("evaluate with tasks that generate answers, such as `exact_match` or `gsm8k`".to_owned())
            }
            Self::NoCompletions { .. } => {
                Some("leave `apply_chat_template` out: the model applies its own".to_owned())
            }
            Self::UnknownTask { nearest, unread, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? `nexa evaluate --list-tasks` shows all"),
                None if !unread.is_empty() => {
                    "mend the file that is to define it; `nexa evaluate --list-tasks` shows all tasks".to_owned()
                },
                None => {
                    "`nexa evaluate --list-tasks` shows all; `--include-path` adds a folder of task files"
                        .to_owned()
                }
            }),
            Self::PythonHook { .. } => Some(
                "write the key as a template, or prepare the data so that the task needs no function"
                    .to_owned(),
            ),
            Self::Document { .. } => Some("see the task's file and the fields of its documents".to_owned()),
            Self::DocumentTooLong { .. } => {
                Some("evaluate a model with a longer context, or leave the task out".to_owned())
            }
            Self::NoDocuments { task, .. } => Some(format!(
                "nothing is downloaded: put the files into the last of these folders, or name them by `--data {task}=PATH`"
            )),
            Self::NoDocument { .. } => Some("see whether the file is the right one".to_owned()),
            Self::ChatTemplate { .. } => Some("evaluate without `apply_chat_template`".to_owned()),
            Self::NoDataset { .. } => Some("name one: `--in sft_dataset=NAME`".to_owned()),
            Self::NoHeldOut { .. } => {
                Some("evaluate with `exact_match` or `perplexity` among the tasks".to_owned())
            }
            Self::TooNew { .. } => Some("install a newer version of this program".to_owned()),
            Self::NotFinite { .. } => Some(
                "the weights may hold NaN: train with a lower learning rate or take an earlier checkpoint"
                    .to_owned(),
            ),
            Self::NothingMeasured { .. } => Some(
                "every item is longer than the model's context, or holds no text of the assistant".to_owned(),
            ),
            Self::NoAnswers { too_long, .. } => Some(match too_long {
                0 => "the model says nothing: see whether the chat template is the right one".to_owned(),
                _ => "evaluate a model with a longer context, or ask for shorter answers: `gen_kwargs.max_gen_toks=64`"
                    .to_owned(),
            }),
            Self::TooManyFailed { .. } => Some(
                "fix the cause or raise `calls.max_failed_share`, then run the same command again; what was answered is kept"
                    .to_owned(),
            ),
            Self::Incomparable { .. } => Some(
                "evaluate both checkpoints with the same tasks, data set, split, limit and settings"
                    .to_owned(),
            ),
            Self::NotGraded { graded, .. } => Some(match graded.as_slice() {
                [] => "evaluate with tasks whose answers are right or wrong, such as `exact_match`, `gsm8k` or `blimp`".to_owned(),
                graded => format!("it does of: {}", graded.join(", ")),
            }),
            Self::OtherEvaluation { .. } => {
                Some("give the evaluation that the feedback was made of".to_owned())
            }
            Self::NothingFailed { .. } => Some("evaluate on harder items, or on more of them".to_owned()),
            Self::NothingToAsk { .. } => Some(
                "make further prompts by `nexa distill inputs` and name them: `nexa feedback --in pool=NAME`"
                    .to_owned(),
            ),
            Self::WrongCount { .. }
            | Self::TaskFile { .. }
            | Self::Versus { .. }
            | Self::Reconcile { .. } => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
            Self::NoTask
            | Self::NoScorer { .. }
            | Self::NoCompletions { .. }
            | Self::UnknownTask { .. }
            | Self::PythonHook { .. }
            | Self::TaskFile { .. }
            | Self::NoDataset { .. }
            | Self::Versus { .. }
            | Self::ChatTemplate { .. } => ExitCode::Config,
            Self::EmptySplit { .. }
            | Self::MissingReferences { .. }
            | Self::NothingMeasured { .. }
            | Self::NoAnswers { .. }
            | Self::NotFinite { .. }
            | Self::NotGraded { .. }
            | Self::OtherEvaluation { .. }
            | Self::NothingFailed { .. }
            | Self::NothingToAsk { .. }
            | Self::Document { .. }
            | Self::DocumentTooLong { .. }
            | Self::NoDocuments { .. }
            | Self::NoDocument { .. }
            | Self::NoHeldOut { .. }
            | Self::TooNew { .. }
            | Self::Reconcile { .. }
            | Self::Incomparable { .. } => ExitCode::Input,
            Self::TooManyFailed { .. } => ExitCode::Unavailable,
            Self::WrongCount { .. } => ExitCode::Failure,
        }
    }
}
