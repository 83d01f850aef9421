//! Negative log-likelihood of targets under a softmax, with its derivative.

use std::ops::Range;

use super::head::RowLoss;
use super::simd::{exp, max, sum, vectorised};

/// `-weight * ln softmax(logits)[target]` of every row, in nats.
#[derive(Debug)]
pub(crate) struct CrossEntropy<'a> {
    /// The token to be predicted by each row.
    pub(crate) targets: &'a [u32],
    /// What each row's loss is multiplied with; 1 where absent.
    pub(crate) weights: Option<&'a [f32]>,
}

impl RowLoss for CrossEntropy<'_> {
    fn begin(&mut self, _: Range<usize>) {}

    fn rows(&self, first: usize, vocab: usize, logits: &mut [f32], losses: &mut [f32]) {
        let targets = &self.targets[first..first + losses.len()];
        for (index, (row, (loss, &target))) in
            logits.chunks_exact_mut(vocab).zip(losses.iter_mut().zip(targets)).enumerate()
        {
            let weight = self.weights.map_or(1.0, |weights| weights[first + index]);
            *loss = weight * row_in_place(row, target as usize, weight);
        }
    }
}

vectorised! {
    /// Turns logits into `weight * (softmax(logits) - one_hot(target))` and returns the loss without the weight.
    fn row_in_place(row: &mut [f32], target: usize, weight: f32) -> f32 {
        let largest = max(row);
        let target_logit = row[target] - largest;
        for value in row.iter_mut() {
            *value = exp(*value - largest);
        }
        let total = sum(row);
        let scale = weight / total;
        for value in row.iter_mut() {
            *value *= scale;
        }
        row[target] -= weight;
        total.ln() - target_logit
    }
}
