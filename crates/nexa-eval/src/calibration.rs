//! Whether a model is as often right as it is sure, where it chooses among given answers.
//!
//! How sure it is is the probability of its choice among the choices, by their whole log-likelihoods.
//!
//! # Source
//! C. Guo and others, "On calibration of modern neural networks", ICML 2017: reliability diagrams, and the expected
//! calibration error over bins of equal width.

use serde::{Deserialize, Serialize};

use crate::Evaluation;
use crate::predictions::Prediction;
use crate::statistics::{Estimate, proportion};

/// The number of bins, of equal width from 0 to 1.
const BINS: usize = 10;

/// How sure a model was of its choices in a task, and how often it was right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The task.
    pub task: String,
    /// Documents.
    pub n: usize,
    /// The mean distance between how sure it was and how often it was right, over documents.
    pub expected_error: f64,
    /// Those bins that have documents, from the least sure.
    pub bins: Vec<Bin>,
}

/// Documents of whose choice the model was about equally sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How sure it was, on average, from 0 to 1.
    pub confidence: f64,
    /// How often it was right.
    pub right: Estimate,
}

/// Measures a task; none where it gives no choices, or does not say whether the most probable one is right.
pub fn calibration(evaluation: &Evaluation, task: &str) -> Option<Calibration> {
    of(task, evaluation.of_task(task).filter_map(sure_and_right))
}

fn of(task: &str, documents: impl Iterator<Item = (f64, bool)>) -> Option<Calibration> {
    let mut bins: Vec<Vec<(f64, bool)>> = vec![Vec::new(); BINS];
    for (sure, right) in documents {
        bins[((sure * BINS as f64) as usize).min(BINS - 1)].push((sure, right));
    }
    let n: usize = bins.iter().map(Vec::len).sum();
    let bin = |documents: &Vec<(f64, bool)>| {
        let right = proportion(&documents.iter().map(|(_, right)| *right).collect::<Vec<_>>())?;
        let confidence = documents.iter().map(|(sure, _)| sure).sum::<f64>() / documents.len() as f64;
        Some(Bin { confidence, right })
    };
    let bins: Vec<Bin> = bins.iter().filter_map(bin).collect();
    let distance = |bin: &Bin| (bin.confidence - bin.right.value).abs() * bin.right.n as f64 / n as f64;
    let expected_error = bins.iter().map(distance).sum();
    (n > 0).then(|| Calibration { task: task.to_owned(), n, expected_error, bins })
}

/// The probability of the most probable choice among all, and whether that is right: what `acc` grades.
fn sure_and_right(one: &Prediction) -> Option<(f64, bool)> {
    let accuracy = one.metrics.iter().find(|(name, _)| name.starts_with("acc,")).map(|(_, value)| *value)?;
    let nats = one.choices.iter().map(|choice| choice.score.logprob_nats);
    let largest = nats.clone().reduce(f64::max)?;
    // The largest weighs 1, whatever it is.
    let sure = 1.0 / nats.map(|nats| (nats - largest).exp()).sum::<f64>();
    sure.is_finite().then_some((sure, accuracy == 1.0))
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::Score;

    use super::*;
    use crate::predictions::Choice;
    use crate::statistics::assert_close;

    #[test]
    fn bins_hold_who_was_about_as_sure() {
        // By hand: two bins, of 0.6 with three of four right, and of 1.0 with one of two.
        let documents = [(0.6, true), (0.62, true), (0.58, false), (0.6, true), (1.0, true), (1.0, false)];
        let documents = documents.map(|(sure, right)| (sure + 0.02, right));
        let found = of("t", documents.into_iter().map(|(sure, right)| (f64::min(sure, 1.0), right))).unwrap();
        assert_eq!((found.n, found.bins.len()), (6, 2));
        assert_close(found.bins[0].confidence, 0.62, 1e-12, "confidence");
        assert_eq!((found.bins[0].right.value, found.bins[1].right.value), (0.75, 0.5));
        assert_close(found.expected_error, (0.13 * 4.0 + 0.5 * 2.0) / 6.0, 1e-12, "error");
        assert_eq!(of("t", std::iter::empty()), None);
    }

    #[test]
    fn a_model_is_as_sure_as_its_choice_is_probable_among_all() {
        let choice = |logprob_nats| Choice {
            text: "x".to_owned(),
            score: Score { logprob_nats, tokens: 1, bytes: 1, is_greedy: false, cut_tokens: 0 },
        };
        let mut one = Prediction {
            choices: vec![choice(-800.0), choice(-800.0 - 3.0_f64.ln())],
            ..Prediction::default()
        };
        assert_eq!(sure_and_right(&one), None);
        one.metrics.insert("acc,none".to_owned(), 1.0);
        let (sure, right) = sure_and_right(&one).unwrap();
        assert_close(sure, 0.75, 1e-12, "sure");
        assert!(right);
    }
}
