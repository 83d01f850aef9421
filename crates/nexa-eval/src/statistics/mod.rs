//! Intervals, standard errors and paired tests.
//!
//! Everything is two-sided and at 95% confidence. Items are taken as independent draws from the kind of question that
//! the test set stands for, or those of one cluster together are. Nothing here knows models or files, and the same input gives the same bits everywhere.

mod bootstrap;
mod clustered;
mod correlation;
mod holm;
pub(crate) mod logistic;
mod mcnemar;
mod mean;
pub(crate) mod normal;
mod paired;
mod power;
mod prediction_powered;
mod proportion;
pub(crate) mod random;
mod reliability;

use serde::{Deserialize, Serialize};

pub use bootstrap::{DRAWS, Ratio, ratio};
pub(crate) use bootstrap::{divide, spread};
pub use clustered::{Clusters, clustered_mean, clustered_ratio, clustered_share, clustered_standard_error};
pub use correlation::{kendall, pearson, spearman};
pub use holm::holm;
pub use mcnemar::mcnemar;
pub use mean::{Mean, mean};
pub use paired::{PairedOutcomes, independent, paired_difference, proportion_difference, ratio_difference};
pub use power::{fewest_to_show, minimum_detectable_effect, minimum_detectable_effect_among};
pub use prediction_powered::{Judged, prediction_powered_mean};
pub use proportion::{proportion, wilson};
pub use reliability::{Distance, krippendorff};
// Whoever asks may stop when it is decided, so the test stands where all can use it.
pub use nexa_core::sequential::{Decided, SequentialTest, Standing, anytime_interval};

/// The confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// The quantile of the standard normal distribution at 0.975, for intervals of [`CONFIDENCE`].
pub const Z: f64 = 1.959_963_984_540_054;

/// A measured value with what is known of its error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; unknown for a single item.
    pub standard_error: Option<f64>,
    /// Lower end of the interval; unknown where one item says nothing about spread.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// Number of items.
    pub n: usize,
}

/// The difference of two models on the same items, the first minus the second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// Its standard error; unknown for a single item.
    pub standard_error: Option<f64>,
    /// Lower end of the interval.
    pub ci_low: Option<f64>,
    /// Upper end of the interval.
    pub ci_high: Option<f64>,
    /// Probability of a difference at least as large if the models were equally good.
    pub p_value: f64,
    /// Number of items that are independent of each other: of sources, where items share them.
    pub n: usize,
}

impl Estimate {
    /// The same value and standard error with the interval of another estimate of it, where there is one.
    pub(crate) fn within(self, other: Option<Self>) -> Self {
        let ends = |other: Self| Self { ci_low: other.ci_low, ci_high: other.ci_high, ..self };
        other.map_or(self, ends)
    }

    /// A value with the interval of a normal distribution around it.
    pub fn normal(value: f64, standard_error: Option<f64>, n: usize) -> Self {
        let half = standard_error.map(|error| Z * error);
        Self {
            value,
            standard_error,
            ci_low: half.map(|half| value - half),
            ci_high: half.map(|half| value + half),
            n,
        }
    }
}

#[cfg(test)]
pub(crate) fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
}
