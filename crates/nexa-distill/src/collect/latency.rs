//! How long a teacher took to answer.

use std::time::Duration;

use serde::Serialize;

/// The times of the calls of an attempt that were answered. What was kept from before took none.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<u64>);

/// Times in a few numbers, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    calls: usize,
    mean: f64,
    p50: u64,
    p95: u64,
    p99: u64,
    max: u64,
}

impl Latencies {
    /// Notes the time of a call.
    pub(super) fn note(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// What they come to, if there are any.
    pub(super) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // The smallest time that so many percent of the calls do not exceed.
        let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Summary {
            max: *sorted.last()?,
            calls: sorted.len(),
            mean: (sorted.iter().sum::<u64>() as f64 / sorted.len() as f64).round(),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_few_numbers() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), None);
        (1..=100).rev().for_each(|ms| latencies.note(Duration::from_millis(ms)));
        let expected = Summary { calls: 100, mean: 51.0, p50: 50, p95: 95, p99: 99, max: 100 };
        assert_eq!(latencies.summary(), Some(expected));
    }
}
