//! The leaderboard as the dashboards see it. Evaluation makes it; the binary hands it over in this form.

use chrono::{DateTime, Utc};
use nexa_core::cost::Spend;
use serde::{Deserialize, Serialize};

/// Makes the leaderboard of a project.
pub trait LeaderboardSource: Send + Sync {
    /// The leaderboard as it stands now, ranked by each task's first metric or by one that is named; tasks without that one
    /// are left out. It is asked for at each request.
    ///
    /// # Errors
    /// Fails with a message for the page when it cannot be made.
    fn leaderboard(&self, project: &str, metric: Option<&str>) -> Result<LeaderboardView, String>;
}

/// The evaluations of a project, those on equal data together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaderboardView {
    /// One group for each data set and split.
    pub groups: Vec<Group>,
    /// Every task, those over held-out splits among them.
    #[serde(default)]
    pub boards: Vec<Board>,
}

/// A task with the checkpoints that were asked the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// The task, or a group of tasks.
    pub task: String,
    /// What ranks it, with its filter.
    pub metric: String,
    /// What could rank it, this one included.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Whether a larger value is better.
    pub higher_is_better: bool,
    /// Documents that each checkpoint was asked.
    pub documents: u64,
    /// Examples before each.
    #[serde(default)]
    pub num_fewshot: Option<u64>,
    /// The number of tasks of a group; of a task, none.
    #[serde(default)]
    pub subtasks: usize,
    /// The data set of a held-out split.
    #[serde(default)]
    pub dataset: Option<String>,
    /// The checkpoints, best first.
    pub places: Vec<Place>,
}

impl Board {
    /// Whether its values are shares, which are shown in percent.
    pub(crate) fn are_shares(&self) -> bool {
        self.higher_is_better && self.places.iter().all(|place| (0.0..=1.0).contains(&place.value.value))
    }
}

/// One checkpoint's place on a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Counts from 1; equal values share one.
    pub rank: u32,
    /// The best and the worst rank that paired tests leave open.
    #[serde(default)]
    pub ranks: Option<(u32, u32)>,
    /// The checkpoint, an artifact's id where it is one.
    pub model: String,
    /// The evaluation's artifact id.
    pub evaluation: String,
    /// The metric.
    pub value: Estimate,
    /// Of the paired test against the first one.
    #[serde(default)]
    pub p_value: Option<f64>,
    /// What that test says, in words.
    #[serde(default)]
    pub verdict: Option<String>,
    /// What the evaluation cost.
    #[serde(default)]
    pub spend: Spend,
    /// What making the checkpoint cost, where that is known.
    #[serde(default)]
    pub model_spend: Option<Spend>,
    /// What the checkpoint was made from: role and artifact.
    #[serde(default)]
    pub made_from: Vec<(String, String)>,
    /// When it was evaluated.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
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

/// How sure a model was of its choices in a task, and how often it was right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The task.
    pub task: String,
    /// Documents.
    pub n: u64,
    /// The mean distance between how sure it was and how often it was right, from 0 to 1.
    pub expected_error: f64,
    /// Documents of whose choice it was about equally sure.
    pub bins: Vec<CalibrationBin>,
}

/// Documents of whose choice a model was about equally sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// How sure it was, from 0 to 1.
    pub confidence: f64,
    /// How often it was right.
    pub right: Estimate,
    /// Documents.
    pub n: u64,
}

/// A number that judges' verdicts come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedScore {
    /// What it is of: `correctness, mean score`.
    pub label: String,
    /// The number.
    pub value: Estimate,
    /// Items.
    pub n: u64,
}
