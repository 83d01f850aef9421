//! Negative log-likelihood of targets under a softmax, together with its derivative.

use rayon::prelude::*;

use super::simd::{exp, max, sum, vectorised};

/// Rows of one task; the losses are summed over tasks in their order.
const ROWS_PER_TASK: usize = 32;

/// Sums `-ln softmax(logits)[target]` over the rows, in nats, and computes the gradient of that sum.
///
/// # Shapes
/// `logits` is `[targets.len(), vocab]`, as is the gradient.
pub(crate) fn forward_backward(logits: &[f32], vocab: usize, targets: &[u32]) -> (f64, Vec<f32>) {
    let mut gradient = logits.to_vec();
    let partial: Vec<f64> = gradient
        .par_chunks_mut(ROWS_PER_TASK * vocab)
        .zip(targets.par_chunks(ROWS_PER_TASK))
        .map(|(rows, targets)| rows_in_place(rows, vocab, targets))
        .collect();
    (partial.iter().sum(), gradient)
}

vectorised! {
    /// Turns logits into `softmax(logits) - one_hot(target)` and returns the summed loss.
    fn rows_in_place(rows: &mut [f32], vocab: usize, targets: &[u32]) -> f64 {
        let mut loss = 0.0;
        for (row, &target) in rows.chunks_exact_mut(vocab).zip(targets) {
            let largest = max(row);
            let target_logit = row[target as usize] - largest;
            for value in row.iter_mut() {
                *value = exp(*value - largest);
            }
            let total = sum(row);
            loss += f64::from(total.ln() - target_logit);
            let scale = 1.0 / total;
            for value in row.iter_mut() {
                *value *= scale;
            }
            row[target as usize] -= 1.0;
        }
        loss
    }
}
