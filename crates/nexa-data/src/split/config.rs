//! How large the sides are, and what may not stand on two of them.

use nexa_core::Error;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::Result;

/// The settings of `data.split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The columns by which rows belong together: rows with the same value in any of them stand on one side, and so does
    /// what is connected through others. Default: those of `group`, `cluster` that there are, else every row alone.
    pub group_columns: Vec<String>,
    /// The share of groups that is held out while training. Default 0.05.
    pub validation_share: f64,
    /// The share of groups that is held out until the end. Default 0.05.
    pub test_share: f64,
    /// A column whose values are to be spread over the sides alike. Default: none. With it the shares are those of the
    /// rows, as nearly as whole groups allow; without it a group keeps its side when others come or go.
    pub stratify_column: Option<String>,
    /// Decides which group goes where. Default 0.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group_columns: Vec::new(),
            validation_share: 0.05,
            test_share: 0.05,
            stratify_column: None,
            seed: 0,
        }
    }
}

impl Config {
    /// Fails on a value that makes no sense, with its key.
    pub(super) fn check(&self) -> Result<()> {
        let (validation, test) = (self.validation_share, self.test_share);
        for (key, share) in [("validation_share", validation), ("test_share", test)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::config(NAME, format!("`{key}`: {share} is not between 0 and 1")).into());
            }
        }
        if validation + test >= 1.0 {
            let message = format!(
                "`validation_share` and `test_share`: {validation} and {test} leave no rows to train on"
            );
            return Err(Error::config(NAME, message).into());
        }
        Ok(())
    }
}
