//! What a version must show before it is given a tag: the `promotion` of `nexa.yaml`.
//!
//! ```yaml
//! promotion:
//!   prod:
//!     require:
//!       - {metric: exact_match, at_least: 0.6}
//!       - {task: blimp, metric: acc, at_least: 0.7}
//!       - {rubric: helpfulness, at_least: 3.5}
//! ```

use serde::{Deserialize, Serialize};

/// The conditions of one tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Promotion {
    /// Bounds that all must hold.
    pub require: Vec<Bound>,
    /// Whether everything that the version descends from must be known, and unchanged. Default true.
    pub provenance: bool,
    /// Whether a version is refused that a paired test shows to be worse than the one that has the tag, in a required metric, or
    /// that cannot be tested against it. Default true.
    pub not_worse: bool,
}

impl Default for Promotion {
    fn default() -> Self {
        Self { require: Vec::new(), provenance: true, not_worse: true }
    }
}

/// A number that the version was measured at, and where it must lie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bound {
    /// The task; any that has the metric where it is left out.
    pub task: Option<String>,
    /// The metric of an evaluation.
    pub metric: Option<String>,
    /// The filter of the metric; any where it is left out.
    pub filter: Option<String>,
    /// In place of a metric: the rubric by which judges scored the answers of an evaluation.
    pub rubric: Option<String>,
    /// The smallest value.
    pub at_least: Option<f64>,
    /// The largest value.
    pub at_most: Option<f64>,
}

impl Bound {
    /// What is wrong with it as it is written, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        match (&self.metric, &self.rubric) {
            (None, None) => Some("it names neither a `metric` nor a `rubric`"),
            (Some(_), Some(_)) => Some("it names a `metric` and a `rubric`: write two"),
            _ if self.at_least.is_none() && self.at_most.is_none() => {
                Some("it has no bound: write `at_least` or `at_most`")
            }
            _ => None,
        }
    }

    /// Whether a value lies where it must. What is no number does not.
    pub fn holds(&self, value: f64) -> bool {
        self.at_least.is_none_or(|least| value >= least) && self.at_most.is_none_or(|most| value <= most)
    }

    /// What is measured, in words.
    pub fn subject(&self) -> String {
        if let Some(rubric) = &self.rubric {
            return format!("rubric {rubric}");
        }
        let mut subject = self.metric.clone().unwrap_or_default();
        if let Some(task) = &self.task {
            subject = format!("{task} {subject}");
        }
        match &self.filter {
            Some(filter) => format!("{subject} ({filter})"),
            None => subject,
        }
    }

    /// Where it must lie, in words.
    pub fn range(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => "anything".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_number_and_where_it_lies() {
        let bound = |text: &str| serde_norway::from_str::<Bound>(text).expect("a bound");
        let check = |text: &str, problem: Option<&str>| {
            let found = bound(text).problem();
            assert_eq!(found.is_some(), problem.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(problem.unwrap_or_default()), "{found:?}");
        };
        check("{metric: acc, at_least: 0.5}", None);
        check("{rubric: tone, at_most: 2}", None);
        check("{at_least: 0.5}", Some("neither"));
        check("{metric: acc, rubric: tone, at_least: 1}", Some("write two"));
        check("{metric: acc}", Some("no bound"));
        let one = bound("{task: gsm8k, metric: exact_match, filter: strict-match, at_least: 0.5}");
        assert!(one.holds(0.5) && !one.holds(0.49) && !one.holds(f64::NAN));
        assert_eq!(
            (one.subject().as_str(), one.range().as_str()),
            ("gsm8k exact_match (strict-match)", "at least 0.5")
        );
    }
}
