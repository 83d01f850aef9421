//! What training makes small, and what one batch comes to.

use crate::kernels::distill::Divergence;
use crate::{Buffer, ops};

/// What a teacher thinks of the trained tokens of a batch.
#[derive(Debug)]
pub struct TeacherRows(pub(super) ops::TeacherRows);

impl TeacherRows {
    /// Takes stored log-probabilities, in nats, of the teacher's `k` likeliest tokens before every trained token. A row
    /// that has fewer ends with log-probabilities of minus infinity, whose ids are not looked at.
    ///
    /// # Panics
    /// Panics when there are not `k` ids and numbers for each row.
    pub fn top(k: usize, token_ids: Vec<u32>, log_probs: Vec<f32>) -> Self {
        assert!(
            k > 0 && token_ids.len() == log_probs.len() && token_ids.len().is_multiple_of(k),
            "rows of k"
        );
        Self(ops::TeacherRows::Top { k, token_ids, log_probs })
    }
}

/// A function of the negative log-likelihoods of a batch's trained tokens, and its derivatives by them.
pub type LossFunction<'a> = dyn Fn(&[f32]) -> (f64, Vec<f32>) + Sync + 'a;

/// How the losses of a batch's trained tokens become the number whose gradient is computed.
#[derive(Clone, Copy)]
pub enum Objective<'a> {
    /// The sum of the negative log-likelihoods, in nats.
    CrossEntropy,
    /// A function of the negative log-likelihoods: it returns its value and its derivative by each of them.
    Of(&'a LossFunction<'a>),
    /// The sum of a mixture of the negative log-likelihood and a divergence from a teacher.
    Distill(&'a TeacherRows, &'a Divergence),
}

/// What one batch came to.
#[derive(Debug)]
pub struct Gradients {
    /// The value of the objective.
    pub loss: f64,
    /// The loss of every trained token; for a function of them, their negative log-likelihoods.
    pub token_losses: Vec<f32>,
    /// The gradient of every trained parameter: those of the adapters where there are some, else all of the layout.
    pub values: Vec<Buffer>,
}
