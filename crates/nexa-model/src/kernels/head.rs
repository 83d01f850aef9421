//! The output layer together with the loss behind it: logits exist for some rows at a time and are never stored.
//!
//! A loss turns each row of logits into its value and, in the same place, into the gradient of that row. From there
//! the gradients of the layer's input and weight are two products, done while the rows are still in the cache. Hence
//! the backward pass has nothing left to compute, and nothing of the size of the vocabulary is kept but the weight's
//! own gradient.
//!
//! Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024, for the idea that the logits
//! need no memory.

use std::ops::Range;

use rayon::prelude::*;

use super::linear::{Matrix, Output, multiply, product};

/// Logits that are held at a time: 64 MB.
const LOGITS_AT_ONCE: usize = 1 << 24;
/// Rows of one task of a loss.
const ROWS_PER_TASK: usize = 8;

/// How many rows of logits over a vocabulary exist at a time.
pub fn rows_at_once(vocab: usize) -> usize {
    (LOGITS_AT_ONCE / vocab).max(ROWS_PER_TASK)
}

/// What becomes of rows of logits. Rows are independent of each other.
pub(crate) trait RowLoss: Sync {
    /// Prepares for the rows of the next chunk.
    fn begin(&mut self, rows: Range<usize>);

    /// Writes the losses of some rows, the first of which is row `first` of all, and turns their logits into
    /// gradients.
    fn rows(&self, first: usize, vocab: usize, logits: &mut [f32], losses: &mut [f32]);
}

/// Which gradients are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// That of the layer's input.
    pub(crate) x: bool,
    /// That of its weight.
    pub(crate) weight: bool,
}

/// Losses and the gradients of their sum.
#[derive(Debug)]
pub(crate) struct Losses {
    /// One for each row.
    pub(crate) rows: Vec<f32>,
    /// `[rows, hidden]`; empty where not wanted.
    pub(crate) x_gradient: Vec<f32>,
    /// `[vocab, hidden]`; empty where not wanted.
    pub(crate) weight_gradient: Vec<f32>,
}

/// Computes the losses of every row of `x weight^T`.
///
/// # Shapes
/// `x` is `[rows, hidden]`, `weight` is `[vocab, hidden]`.
pub(crate) fn losses(
    x: &[f32],
    weight: &[f32],
    hidden: usize,
    loss: &mut impl RowLoss,
    wanted: Wanted,
) -> Losses {
    let (rows, vocab) = (x.len() / hidden, weight.len() / hidden);
    let chunk = rows_at_once(vocab);
    let mut result = Losses { rows: vec![0.0; rows], x_gradient: Vec::new(), weight_gradient: Vec::new() };
    if wanted.x {
        result.x_gradient.reserve_exact(x.len());
    }
    if wanted.weight && rows == 0 {
        result.weight_gradient = vec![0.0; weight.len()];
    }
    let mut logits = vec![0.0; rows.min(chunk) * vocab];
    for first in (0..rows).step_by(chunk) {
        let count = chunk.min(rows - first);
        let x = &x[first * hidden..(first + count) * hidden];
        let logits = &mut logits[..count * vocab];
        let place = Output::replace(logits, vocab);
        multiply([count, vocab, hidden], Matrix::rows(x, hidden), Matrix::columns(weight, hidden), place);
        loss.begin(first..first + count);
        let loss = &*loss;
        logits
            .par_chunks_mut(ROWS_PER_TASK * vocab)
            .zip(result.rows[first..first + count].par_chunks_mut(ROWS_PER_TASK))
            .enumerate()
            .for_each(|(task, (logits, losses))| {
                loss.rows(first + task * ROWS_PER_TASK, vocab, logits, losses);
            });
        if wanted.x {
            let shape = [count, hidden, vocab];
            let gradient = product(shape, Matrix::rows(logits, vocab), Matrix::rows(weight, hidden));
            result.x_gradient.extend_from_slice(&gradient);
        }
        if wanted.weight {
            let (shape, logits, x) =
                ([vocab, hidden, count], Matrix::columns(logits, vocab), Matrix::rows(x, hidden));
            if first == 0 {
                result.weight_gradient = product(shape, logits, x);
            } else {
                multiply(shape, logits, x, Output::add(&mut result.weight_gradient, hidden));
            }
        }
    }
    result
}
