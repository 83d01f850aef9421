//! What counts as a duplicate, and which of them stays.

use nexa_core::Error;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::Result;

/// Permutations at most: beyond them a signature takes longer than comparing.
const MAX_PERMUTATIONS: usize = 4096;

/// The settings of `data.dedup`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The columns whose texts are compared. Default: `text`, else `messages`, else `user_prompt` and `teacher_output`,
    /// else `question` and `answer`, and the like.
    pub columns: Vec<String>,
    /// Whether similar texts are duplicates. Default true; otherwise equal ones alone are.
    pub near: bool,
    /// Words of a shingle. Default 5.
    pub shingle_words: usize,
    /// Bands of a signature. Default 14.
    pub bands: usize,
    /// Rows of a band. Default 8: with 14 bands, half of the pairs of similarity 0.68 are found, and 77 % at 0.75.
    pub rows_per_band: usize,
    /// From which similarity of their shingles (Jaccard) on two rows that share a band are the same. Default 0.75.
    pub min_similarity: f64,
    /// Whether numbers count as the same number. Default: true where the column `text` alone is compared, as for pages of
    /// the web; false for prompts and answers, as problems may differ in nothing else.
    pub mask_numbers: Option<bool>,
    /// The number by which the row of a cluster that stays is chosen. Default: the length of its text.
    pub score_column: Option<String>,
    /// Whether the highest or the lowest score stays. Default `highest`.
    pub prefer: Prefer,
    /// Whether duplicates are taken out. Default true; otherwise every row stays, with its cluster in a column.
    pub remove: bool,
    /// Memory of the buffers, in MiB; what is beyond goes to disk. Default 1024. It changes no result.
    #[serde(skip_serializing)]
    pub memory_limit_mib: u64,
}

/// Which score is the better one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefer {
    /// The highest.
    #[default]
    Highest,
    /// The lowest.
    Lowest,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            near: true,
            shingle_words: 5,
            bands: 14,
            rows_per_band: 8,
            min_similarity: 0.75,
            mask_numbers: None,
            score_column: None,
            prefer: Prefer::Highest,
            remove: true,
            memory_limit_mib: 1024,
        }
    }
}

impl Config {
    /// Whether numbers are masked where these columns are compared.
    pub(super) fn masks_numbers(&self, columns: &[String]) -> bool {
        self.mask_numbers.unwrap_or_else(|| columns == ["text"])
    }

    /// The memory of all buffers.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_limit_mib.saturating_mul(1024 * 1024)
    }

    /// Fails on a value that makes no sense, with its key.
    pub(super) fn check(&self) -> Result<()> {
        let permutations = self.bands.saturating_mul(self.rows_per_band);
        let at_least_one = [
            ("shingle_words", self.shingle_words),
            ("bands", self.bands),
            ("rows_per_band", self.rows_per_band),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(Error::config(NAME, format!("`{key}`: 0 is too few")).into());
            }
        }
        if permutations > MAX_PERMUTATIONS {
            let message =
                format!("`bands` times `rows_per_band`: {permutations} is above {MAX_PERMUTATIONS}");
            return Err(Error::config(NAME, message).into());
        }
        if !(self.min_similarity > 0.0 && self.min_similarity <= 1.0) {
            let message = format!("`min_similarity`: {} is not above 0 and at most 1", self.min_similarity);
            return Err(Error::config(NAME, message).into());
        }
        if self.prefer == Prefer::Lowest && self.score_column.is_none() {
            return Err(Error::config(NAME, "`prefer` goes with `score_column`").into());
        }
        Ok(())
    }
}
