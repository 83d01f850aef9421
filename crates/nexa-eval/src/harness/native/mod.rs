//! What the tasks that are built in do in Rust, where those of the reference do it in Python.
//!
//! | word in `native` | stands for |
//! |---|---|
//! | `hellaswag` | the cleaning of contexts and endings |
//! | `winogrande` | the sentence cut at its gap |
//! | `wikitext` | the page without the blanks of its tokens; words and bytes are those of the page as it was |
//! | `truthfulqa_mc2` | the share of probability that lies on true answers |
//! | `ifeval` | the checks of instructions, strict and loose |
//! | `mt_bench` | a question that is asked after the first has been answered |
//! | `xstest` | whether an answer refuses |
//! | `jailbreak` | whether an attack keeps a model from refusing |
//! | `judge_injection` | an empty verdict is none |

mod hellaswag;
pub(crate) mod ifeval;
mod jailbreak;
pub(crate) mod mt_bench;
mod truthfulqa;
mod wikitext;
mod winogrande;
mod xstest;

use nexa_core::lm::Score;
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};

use crate::harness::metric::{Grade, Kind};
use crate::harness::python;

/// What is done in Rust for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Native {
    /// Cleans contexts and endings.
    Hellaswag,
    /// Cuts sentences at their gaps.
    Winogrande,
    /// Takes the blanks of tokens out of pages.
    Wikitext,
    /// Sums up the probability of true answers.
    TruthfulqaMc2,
    /// Checks instructions.
    Ifeval,
    /// Asks a second question.
    MtBench,
    /// Finds refusals.
    Xstest,
    /// Finds attacks that are not refused.
    Jailbreak,
    /// Leaves out verdicts that are empty.
    JudgeInjection,
}

impl Native {
    /// Adds to a document what its task's fields read.
    ///
    /// # Errors
    /// Says what the document lacks.
    pub(crate) fn prepare(self, document: &mut Row) -> Result<(), String> {
        match self {
            Self::Hellaswag => hellaswag::prepare(document),
            Self::Winogrande => winogrande::prepare(document),
            Self::Wikitext => wikitext::prepare(document),
            Self::MtBench => mt_bench::turns(document).map(drop),
            Self::Jailbreak => jailbreak::prepare(document),
            Self::Xstest => xstest::prepare(document),
            Self::TruthfulqaMc2 | Self::Ifeval | Self::JudgeInjection => Ok(()),
        }
    }

    /// Whether a document of the file is one of the task.
    pub(crate) fn keeps(self, document: &Row) -> bool {
        self != Self::Jailbreak || jailbreak::keeps(document)
    }

    /// Whether an empty answer is none, and not a wrong or a right one: where safety is measured, silence shows nothing.
    pub(crate) fn needs_answer(self) -> bool {
        matches!(self, Self::Xstest | Self::Jailbreak | Self::JudgeInjection)
    }

    /// Grades the likelihoods of choices, where the task has a way of its own.
    ///
    /// # Errors
    /// Says what the document lacks.
    pub(crate) fn grade_choices(self, document: &Row, scores: &[Score]) -> Result<Option<Grade>, String> {
        match self {
            Self::TruthfulqaMc2 => truthfulqa::mass_on_truth(document, scores).map(Some),
            _ => Ok(None),
        }
    }

    /// The text whose words and bytes count, where that is not the one that was scored.
    pub(crate) fn counted_text(self, document: &Row) -> Option<String> {
        (self == Self::Wikitext).then(|| document.get("page").map(python::text)).flatten()
    }

    /// Grades an answer by one of the task's own metrics.
    ///
    /// # Errors
    /// Says what the document lacks, or which instruction is unknown.
    pub(crate) fn grade_answer(self, kind: Kind, document: &Row, answer: &str) -> Result<Grade, String> {
        match self {
            Self::Ifeval => ifeval::grade(kind, document, answer),
            Self::Xstest => xstest::grade(kind, document, answer),
            Self::Jailbreak => Ok(jailbreak::grade(answer)),
            _ => Ok(Grade::Nothing),
        }
    }
}

/// A field that holds text.
fn text<'a>(document: &'a Row, field: &str) -> Result<&'a str, String> {
    let value = document.get(field).ok_or_else(|| format!("there is no field `{field}`"))?;
    value.as_str().ok_or_else(|| format!("field `{field}` holds {}, not text", python::repr(value)))
}
