//! What a collection will take, said before the first call.

use std::fmt;

use nexa_core::cost::ModelPrice;
use nexa_core::format;
use nexa_core::lab::Settings;
use serde::{Deserialize, Serialize};

use super::estimate::Estimate;
use super::job::Jobs;
use super::log::Answers;
use super::policy::Truncated;
use super::{Config, money};
use crate::teacher::TeacherSpec;

/// What a collection is expected to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Rows that are wanted, samples counted.
    pub rows: usize,
    /// Calls that have to be made, if none has to be made again.
    pub calls: usize,
    /// Answers that are there already.
    pub reused: usize,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers, if they are as long as those of this teacher were so far.
    pub completion_tokens: u64,
    /// Tokens of answers, if each is as long as it may be.
    pub max_completion_tokens: u64,
    /// What that costs in US dollars, from the expected answers to the longest, where there is a price.
    pub usd: Option<[f64; 2]>,
    /// The day of the prices.
    pub prices_as_of: Option<String>,
}

impl Forecast {
    /// Forecasts the calls whose answers are not there.
    pub(super) fn new(
        jobs: &Jobs,
        answers: &Answers,
        config: &Config,
        (teacher, settings): (&TeacherSpec, &Settings),
    ) -> Self {
        let estimate = Estimate::of(answers.all().map(|answer| &answer.usage));
        let may_be_raised = config.on_failure.truncated == Truncated::RaiseMaxTokens;
        let raised = config.max_tokens_cap.filter(|_| may_be_raised).unwrap_or(0);
        let mut forecast = Self {
            rows: jobs.places.len(),
            calls: 0,
            reused: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            max_completion_tokens: 0,
            usd: None,
            prices_as_of: settings.prices.as_of.clone(),
        };
        for job in &jobs.jobs {
            if answers.get(job).is_some() {
                forecast.reused += 1;
                continue;
            }
            forecast.calls += 1;
            forecast.prompt_tokens += estimate.prompt_tokens(&job.request).ceil() as u64;
            forecast.completion_tokens += estimate.completion_tokens(&job.request).ceil() as u64;
            forecast.max_completion_tokens += job.request.max_tokens + raised;
        }
        forecast.usd = money::price(&settings.prices, config, teacher).map(|price| forecast.range(&price));
        forecast
    }

    fn range(&self, price: &ModelPrice) -> [f64; 2] {
        [self.completion_tokens, self.max_completion_tokens]
            .map(|tokens| price.usd(self.prompt_tokens, tokens))
    }

    /// Whether somebody should be asked before the first call: it may cost more than `threshold_usd`, or nobody knows how
    /// much.
    pub fn exceeds(&self, threshold_usd: f64) -> bool {
        self.calls > 0 && self.usd.is_none_or(|[_, high]| high > threshold_usd)
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls, about {} tokens in and {} out (at most {})",
            format::count(self.calls as u64),
            format::count(self.prompt_tokens),
            format::count(self.completion_tokens),
            format::count(self.max_completion_tokens),
        )?;
        match (self.usd, &self.prices_as_of) {
            (None, _) => write!(f, "; what they cost is unknown, as nexa.yaml gives no price"),
            (Some([low, high]), None) => write!(f, "; ${low:.4} to ${high:.4}"),
            (Some([low, high]), Some(day)) => write!(f, "; ${low:.4} to ${high:.4} by the prices of {day}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_asked_about() {
        let check = |calls, usd, expected| {
            let forecast = Forecast {
                rows: calls,
                calls,
                reused: 0,
                prompt_tokens: 1,
                completion_tokens: 1,
                max_completion_tokens: 1,
                usd,
                prices_as_of: None,
            };
            assert_eq!(forecast.exceeds(1.0), expected, "{forecast}");
        };
        check(3, Some([0.1, 0.9]), false);
        check(3, Some([0.1, 1.1]), true);
        check(3, None, true);
        check(0, None, false);
    }
}
