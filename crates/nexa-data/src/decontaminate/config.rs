//! What rows are held against, and how much they may have in common with it.

use nexa_core::Error;
use nexa_core::decontamination::EvaluationSet;
use nexa_core::overlap::{MIN_WORDS, RUN_WORDS};
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::Result;

/// The settings of `data.decontaminate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The columns whose texts are looked through. Default: `text`, else `messages`, else `user_prompt` and
    /// `teacher_output`, else `question` and `answer`, and the like.
    pub columns: Vec<String>,
    /// Files of evaluation items. Default: those of `nexa.yaml`.
    pub evaluation_sets: Option<Vec<EvaluationSet>>,
    /// Rows of the table itself that models are judged by; they stay, and the others are held against them.
    pub held_out: Option<HeldOut>,
    /// Words of a run that question or answer and row must have in common. Default 13, as for GPT-3.
    pub ngram_words: usize,
    /// Words of a run across the border of question and answer that may not occur in a row. Default 12.
    pub border_words: usize,
    /// Items of fewer words are not looked for. Default 5.
    pub min_words: usize,
    /// The share of a question, or of an answer, from which on a row is taken out: that of its words in common runs,
    /// each counted by its rarity. Default 0.5; 0 takes out every row with a common run.
    pub min_overlap: f64,
}

/// Rows of a table that models are judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The column that says so, such as `source_file`.
    pub column: String,
    /// The values that do, such as `test.jsonl`.
    pub values: Vec<String>,
    /// The columns of the question. Default: the first known one.
    #[serde(default)]
    pub question: Vec<String>,
    /// The columns of the answer. Default: the first known one, where there is one.
    #[serde(default)]
    pub answer: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            evaluation_sets: None,
            held_out: None,
            ngram_words: RUN_WORDS,
            border_words: 12,
            min_words: MIN_WORDS,
            min_overlap: 0.5,
        }
    }
}

impl Config {
    /// Fails on a value that makes no sense, with its key.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |key: &str, value: &dyn std::fmt::Display, message: &str| {
            Err(Error::config(NAME, format!("`{key}`: {value} {message}")).into())
        };
        if self.min_words == 0 {
            return wrong("min_words", &self.min_words, "is too few");
        }
        if self.ngram_words < self.min_words {
            return wrong("ngram_words", &self.ngram_words, "is below `min_words`");
        }
        if self.border_words < self.min_words {
            return wrong("border_words", &self.border_words, "is below `min_words`");
        }
        if !(0.0..=1.0).contains(&self.min_overlap) {
            return wrong("min_overlap", &self.min_overlap, "is not between 0 and 1");
        }
        if self.held_out.as_ref().is_some_and(|held_out| held_out.values.is_empty()) {
            return Err(Error::config(NAME, "`held_out.values` is empty").into());
        }
        Ok(())
    }
}
