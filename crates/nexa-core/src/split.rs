//! The sides of a data set, as the column [`crate::columns::SPLIT`] and the names of files tell them.

use serde::{Deserialize, Serialize};

/// One side of the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Trained on.
    #[default]
    Train,
    /// Held out while training.
    Validation,
    /// Held out until the end.
    Test,
}

impl Split {
    /// Every side.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The word for it in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}
