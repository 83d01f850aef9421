//! What goes wrong on the way from prompts to training data.

use std::path::PathBuf;

use nexa_core::{Diagnose, ExitCode};

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the contracts.
    #[error(transparent)]
    Core(#[from] nexa_core::Error),
    /// A setting whose value makes no sense.
    #[error("{stage}: `{key}` is {value}, but {message}")]
    BadSetting {
        /// The stage.
        stage: &'static str,
        /// The dotted key.
        key: String,
        /// What was given.
        value: String,
        /// What it must be.
        message: String,
    },
    /// A table lacks a column.
    #[error("{}: column `{column}` is missing", place.display())]
    UnknownColumn {
        /// The column asked for.
        column: String,
        /// The table.
        place: PathBuf,
        /// The nearest that exists.
        nearest: Option<String>,
        /// All that exist.
        known: String,
    },
    /// A prompt template uses a variable that no column gives.
    #[error("template `{template}`: unknown variable `{{{variable}}}`")]
    UnknownVariable {
        /// The template's name.
        template: String,
        /// The variable.
        variable: String,
        /// The nearest column.
        nearest: Option<String>,
    },
    /// A prompt template cannot be read.
    #[error("template `{template}`: {message}")]
    BadTemplate {
        /// The template's name.
        template: String,
        /// What is wrong.
        message: String,
    },
    /// The generator cannot make as many different problems as asked for.
    #[error("make {wanted} different problems: only {made} were found")]
    TooManyProblems {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        made: usize,
    },
    /// A teacher's provider is not known.
    #[error("teacher `{spec}`: unknown provider `{provider}`")]
    UnknownProvider {
        /// What was given.
        spec: String,
        /// The part before the separator.
        provider: String,
        /// The nearest provider.
        nearest: Option<&'static str>,
    },
    /// A teacher's specification cannot be used.
    #[error("teacher: {message}")]
    BadTeacher {
        /// What is wrong; never holds a secret.
        message: String,
        /// How it should be written.
        hint: String,
    },
    /// A teacher's key is not set.
    #[error("teacher `{teacher}`: `{variable}` is not set")]
    MissingKey {
        /// The teacher.
        teacher: String,
        /// The variable that should hold the key.
        variable: &'static str,
    },
    /// A provider refused the key.
    #[error("teacher `{teacher}`: {endpoint} refused the key: {message}")]
    KeyRefused {
        /// The teacher.
        teacher: String,
        /// Where it was sent.
        endpoint: String,
        /// The provider's words.
        message: String,
        /// The variable that holds the key, if there is one.
        variable: Option<&'static str>,
    },
    /// A provider's account is empty.
    #[error("teacher `{teacher}`: the account at {endpoint} has no credit left: {message}")]
    NoCredit {
        /// The teacher.
        teacher: String,
        /// The provider.
        endpoint: String,
        /// The provider's words.
        message: String,
    },
    /// A provider does not know the model.
    #[error("teacher `{teacher}`: {endpoint} does not know it: {message}")]
    UnknownModel {
        /// The teacher.
        teacher: String,
        /// The provider.
        endpoint: String,
        /// The provider's words.
        message: String,
    },
    /// The next call could exceed the ceiling.
    #[error(
        "stay below ${max_usd:.4}: {} and the next call may cost ${next_usd:.4}; {done} of {total} answers are there",
        spent(*spent_usd, *assumed_usd)
    )]
    Budget {
        /// The ceiling.
        max_usd: f64,
        /// What was spent in this run, as far as it is known.
        spent_usd: f64,
        /// What calls of this run whose cost nobody told may have cost at most.
        assumed_usd: f64,
        /// The worst case of the next call.
        next_usd: f64,
        /// Answers that are there.
        done: usize,
        /// Answers wanted.
        total: usize,
    },
    /// The next call could exceed the ceiling on tokens.
    #[error(
        "stay below {max_tokens} tokens: {used_tokens} are used and the next call may use {next_tokens}; {done} of {total} answers are there"
    )]
    TokenBudget {
        /// The ceiling.
        max_tokens: u64,
        /// What was used in this run, at most.
        used_tokens: u64,
        /// The worst case of the next call.
        next_tokens: u64,
        /// Answers that are there.
        done: usize,
        /// Answers wanted.
        total: usize,
    },
    /// Most calls fail on the way or at the server, or are not accepted.
    #[error("reach {endpoint}: {failed} of the last {attempts} calls failed, lastly: {message}")]
    EndpointDown {
        /// Where calls were sent.
        endpoint: String,
        /// Calls that failed.
        failed: usize,
        /// Calls looked at.
        attempts: usize,
        /// The last failure.
        message: String,
    },
    /// Calls are left that failed in passing, and may be answered another time.
    #[error(
        "collect answers of `{teacher}`: {missing} of {total} are missing, as their calls failed in passing, again and again; the first: {first}"
    )]
    Unanswered {
        /// The teacher.
        teacher: String,
        /// Answers that are missing.
        missing: usize,
        /// Answers wanted.
        total: usize,
        /// Why the first one is.
        first: String,
    },
    /// More rows failed than may.
    #[error(
        "collect answers of `{teacher}`: {failed} of {total} failed, more than the share of {max_share} that may; the first: {first}"
    )]
    TooManyFailed {
        /// The teacher.
        teacher: String,
        /// Rows that failed.
        failed: usize,
        /// Rows in all.
        total: usize,
        /// The share that may fail.
        max_share: f64,
        /// Why the first one did.
        first: String,
    },
    /// Batches are with the provider.
    #[error("{done} of {total} answers are there; the provider works on {}", batches.join(", "))]
    BatchPending {
        /// Their names there.
        batches: Vec<String>,
        /// Answers that are there.
        done: usize,
        /// Answers wanted.
        total: usize,
    },
    /// A batch cannot be handed in or fetched.
    #[error("use batches at {endpoint}: {kind}: {message}")]
    BatchFailed {
        /// The provider.
        endpoint: String,
        /// The kind of failure.
        kind: &'static str,
        /// The provider's words.
        message: String,
    },
    /// A teacher on this machine failed.
    #[error("teacher `{teacher}`: {source}")]
    Local {
        /// The checkpoint.
        teacher: String,
        /// What the model said.
        source: nexa_core::lm::Error,
    },
    /// The HTTP client or the embedded teacher cannot start.
    #[error("start {what}: {message}")]
    Start {
        /// What.
        what: &'static str,
        /// Why not.
        message: String,
    },
    /// No row is left to go on with.
    #[error("{stage}: no row is left of {rows}: {message}")]
    NothingLeft {
        /// The stage.
        stage: &'static str,
        /// Rows that came in.
        rows: usize,
        /// Where they went.
        message: String,
    },
    /// Rows were not held against what models are judged by.
    #[error("package {input}: it was not held against {}", sets.join(", "))]
    NotDecontaminated {
        /// The rows.
        input: nexa_core::artifact::ArtifactId,
        /// The evaluation sets of the lab that are missing.
        sets: Vec<String>,
    },
    /// A check of one's own cannot be asked.
    #[error("check {}: {message}", position + 1)]
    BadCheck {
        /// Its place in the list, from 0.
        position: usize,
        /// What is wrong.
        message: String,
    },
    /// The command of a check cannot be run.
    #[error("run `{program}`: {message}")]
    CommandFailed {
        /// The program.
        program: String,
        /// Why not.
        message: String,
    },
    /// A bound that cannot be moved.
    #[error("threshold `{text}`: {message}")]
    BadThreshold {
        /// What was given.
        text: String,
        /// What is wrong.
        message: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// The student's tokenizer cannot be opened.
    #[error("{stage}: open the tokenizer of {artifact}: {message}")]
    NoTokenizer {
        /// The stage.
        stage: &'static str,
        /// The artifact.
        artifact: String,
        /// Why not.
        message: String,
    },
    /// A rubric cannot be used.
    #[error("{place}: {message}")]
    BadRubric {
        /// The file.
        place: String,
        /// What is wrong, with the key.
        message: String,
    },
    /// More verdicts cannot be read than may.
    #[error("read the verdicts: {unreadable} of {total} are unreadable; the first: {first}")]
    UnreadableVerdicts {
        /// Verdicts that cannot be read.
        unreadable: usize,
        /// Verdicts in all.
        total: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A split names values that no row has.
    #[error("{}: no row has `{column}` = `{value}`", place.display())]
    NoSuchSplit {
        /// The table.
        place: PathBuf,
        /// The column.
        column: String,
        /// The value asked for.
        value: String,
        /// Some values that there are.
        found: String,
    },
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        const KEPT: &str = "answers so far are kept and will not be paid again";
        match self {
            Self::Core(error) => error.hint(),
            Self::BadSetting { .. } => None,
            Self::UnknownColumn { nearest, known, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? there are: {known}"),
                None => format!("there are: {known}"),
            }),
            Self::UnknownVariable { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{{{nearest}}}`?"),
                None => "`{prompt}` and every column of the dataset can be used".to_owned(),
            }),
            Self::BadTemplate { .. } => {
                Some("write a brace that stands for itself twice: `{{` or `}}`".to_owned())
            }
            Self::TooManyProblems { .. } => Some("ask for fewer problems".to_owned()),
            Self::UnknownProvider { nearest, .. } => {
                let known = format!("there are: {}", crate::teacher::Provider::names().join(", "));
                Some(match nearest {
                    Some(nearest) => format!("did you mean `{nearest}`? {known}"),
                    None => known,
                })
            }
            Self::BadTeacher { hint, .. } => Some(hint.clone()),
            Self::MissingKey { variable, .. } => {
                Some(format!("set it in the environment, or write `{variable}=…` to the lab's `.env`"))
            }
            Self::KeyRefused { variable: Some(variable), .. } => {
                Some(format!("check `{variable}` and what it may be used for; {KEPT}"))
            }
            Self::KeyRefused { variable: None, .. } => {
                Some(format!("check who may use this endpoint; {KEPT}"))
            }
            Self::NoCredit { .. } => Some(format!("add credit, then run the same command again; {KEPT}")),
            Self::UnknownModel { .. } => Some("check the model's name with the provider".to_owned()),
            Self::Budget { .. } => Some(format!(
                "raise `max_cost_usd` (or `budget.max_usd_per_run` in nexa.yaml) and run the same command again; {KEPT}"
            )),
            Self::TokenBudget { .. } => Some(format!(
                "raise `max_total_tokens` (`--max-tokens`) and run the same command again; {KEPT}"
            )),
            Self::EndpointDown { .. } => Some(format!("run the same command again when it is back; {KEPT}")),
            Self::Unanswered { .. } => {
                Some(format!("run the same command again: it asks only for what is missing; {KEPT}"))
            }
            Self::TooManyFailed { .. } => Some(format!(
                "fix the cause or raise `max_failed_share`, then run the same command again; {KEPT}"
            )),
            Self::BatchPending { .. } => {
                Some("run the same command again to collect them; `--cancel-batches` stops them".to_owned())
            }
            Self::BatchFailed { .. } => Some(format!(
                "not every provider takes batches: run it without `batch`, or again later; {KEPT}"
            )),
            Self::Start { .. } | Self::Local { .. } => None,
            Self::NothingLeft { .. } => {
                Some("loosen what removes them, or look at the answers themselves".to_owned())
            }
            Self::NoSuchSplit { found, .. } => Some(format!("there are: {found}")),
            Self::NotDecontaminated { input, .. } => Some(format!(
                "run `nexa data decontaminate --from {input}` and package what it makes (`--in dataset=decontaminated`), \
                 or set `allow_contaminated=true`"
            )),
            Self::BadCheck { .. } | Self::NoTokenizer { .. } | Self::BadRubric { .. } => None,
            Self::UnreadableVerdicts { .. } => Some(format!(
                "take a stronger judge or more `max_tokens`, or raise `max_unreadable_share`; {KEPT}"
            )),
            Self::CommandFailed { .. } => {
                Some("a check names a program and its arguments, as `[python3, check.py]`".to_owned())
            }
            Self::BadThreshold { nearest, .. } => {
                nearest.as_ref().map(|nearest| format!("did you mean `{nearest}`?"))
            }
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::Local { source, .. } => source.exit_code(),
            Self::BadSetting { .. }
            | Self::UnknownVariable { .. }
            | Self::BadTemplate { .. }
            | Self::TooManyProblems { .. }
            | Self::UnknownProvider { .. }
            | Self::BadTeacher { .. }
            | Self::UnknownModel { .. }
            | Self::NoSuchSplit { .. }
            | Self::BadCheck { .. }
            | Self::BadRubric { .. }
            | Self::BadThreshold { .. }
            | Self::CommandFailed { .. } => ExitCode::Config,
            Self::UnknownColumn { .. }
            | Self::NothingLeft { .. }
            | Self::NotDecontaminated { .. }
            | Self::NoTokenizer { .. } => ExitCode::Input,
            Self::MissingKey { .. } | Self::KeyRefused { .. } => ExitCode::Credentials,
            Self::NoCredit { .. } | Self::Budget { .. } | Self::TokenBudget { .. } => ExitCode::Budget,
            Self::BatchPending { .. } => ExitCode::Busy,
            Self::BatchFailed { .. }
            | Self::EndpointDown { .. }
            | Self::UnreadableVerdicts { .. }
            | Self::Unanswered { .. }
            | Self::Start { .. }
            | Self::TooManyFailed { .. } => ExitCode::Unavailable,
        }
    }
}

/// What was spent in words, with what was only assumed apart.
fn spent(known_usd: f64, assumed_usd: f64) -> String {
    if assumed_usd > 0.0 {
        format!("${known_usd:.4} are spent, up to ${assumed_usd:.4} more by calls whose cost nobody told,")
    } else {
        format!("${known_usd:.4} are spent")
    }
}

/// Fails unless a share lies in `[0, 1]`.
pub(crate) fn check_share(stage: &'static str, key: &str, value: f64) -> Result<()> {
    check(stage, key, value).that((0.0..=1.0).contains(&value), "a share lies between 0 and 1")
}

/// Begins the check of a setting.
pub(crate) fn check<'a, V: std::fmt::Display>(stage: &'static str, key: &'a str, value: V) -> Setting<'a, V> {
    Setting { stage, key, value }
}

/// A setting as it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a, V> {
    stage: &'static str,
    key: &'a str,
    value: V,
}

impl<V: std::fmt::Display> Setting<'_, V> {
    /// Fails unless the setting holds; the message goes after "but".
    pub(crate) fn that(self, holds: bool, message: &'static str) -> Result<()> {
        if holds {
            return Ok(());
        }
        let Self { stage, key, value } = self;
        let message = message.to_owned();
        Err(Error::BadSetting { stage, key: key.to_owned(), value: value.to_string(), message })
    }
}
