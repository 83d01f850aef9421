//! The leaderboard as the dashboards see it. Evaluation makes it; the binary hands it over in this form.

use chrono::{DateTime, Utc};
use nexa_core::cost::Spend;
use serde::{Deserialize, Serialize};

/// Makes the leaderboard of a project.
pub trait LeaderboardSource: Send + Sync {
    /// The leaderboard as it stands now. It is asked for at each request.
    ///
    /// # Errors
    /// Fails with a message for the page when it cannot be made.
    fn leaderboard(&self, project: &str) -> Result<LeaderboardView, String>;
}

/// The evaluations of a project, those on equal data together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaderboardView {
    /// One group for each data set and split.
    pub groups: Vec<Group>,
}

/// Models that were evaluated on the same rows, and so may be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The data set, an artifact's id where it is one.
    pub dataset: String,
    /// The split.
    pub split: String,
    /// Rows that each model was asked.
    pub n: u64,
    /// The models, best first.
    pub rows: Vec<Standing>,
}

/// One model's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Counts from 1; absent for a model that lacks what ranks its group.
    #[serde(default)]
    pub rank: Option<u32>,
    /// The model, an artifact's id where it is one.
    pub model: String,
    /// The evaluation's artifact id; its predictions are linked.
    pub evaluation: String,
    /// Share of answers that are exactly right.
    #[serde(default)]
    pub exact_match: Option<Estimate>,
    /// Bits that the model needs for a byte of the references; lower is better.
    #[serde(default)]
    pub bits_per_byte: Option<Estimate>,
    /// Of the paired test against the model named in the verdict.
    #[serde(default)]
    pub p_value: Option<f64>,
    /// What that test says, in words.
    #[serde(default)]
    pub verdict: Option<String>,
    /// What making the model cost, where that is known.
    #[serde(default)]
    pub model_spend: Option<Spend>,
    /// When it was evaluated.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
}

/// A number, with its confidence interval where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end of the interval.
    #[serde(default)]
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default)]
    pub ci_high: Option<f64>,
}
