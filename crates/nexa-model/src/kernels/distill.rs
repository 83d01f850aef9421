//! Divergences between the distributions of a student and a teacher over the vocabulary, with their derivatives.
//!
//! With `p` the teacher's and `q` the student's distribution at a temperature `T`, the derivative with respect to the
//! student's logits is, for the forward divergence, `(q - p) / T`; for the reverse one, `q (ln q/p - KL) / T`; and for
//! Jensen and Shannon's with mixture `m = beta p + (1 - beta) q`, `(1 - beta) q (ln q/m - KL(q, m)) / T`. All are
//! multiplied with `T^2`, so that their size does not depend on the temperature.
//!
//! Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; Agarwal et al., "On-Policy
//! Distillation of Language Models", 2023, for the generalised divergence.

use std::ops::Range;

use super::cross_entropy::CrossEntropy;
use super::head::RowLoss;
use super::linear::{Matrix, Output, multiply};
use super::simd::{exp, max, sum, vectorised};

/// The logarithm of a probability that a list of the likeliest tokens does not hold: nothing, in `f32`.
const ABSENT: f32 = -1e4;

/// Which divergence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `KL(teacher, student)`: the student covers all that the teacher finds likely.
    ForwardKl,
    /// `KL(student, teacher)`: the student keeps to what the teacher finds likely.
    ReverseKl,
    /// `beta KL(teacher, m) + (1 - beta) KL(student, m)` with `m` the mixture of both.
    JensenShannon {
        /// The teacher's share of the mixture, between 0 and 1, both excluded.
        beta: f32,
    },
}

/// A divergence from the teacher, mixed with the likelihood of the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Which one.
    pub kind: Kind,
    /// What the divergence is multiplied with.
    pub alpha: f32,
    /// What the negative log-likelihood of the targets is multiplied with.
    pub ce_alpha: f32,
    /// What logits are divided by.
    pub temperature: f32,
}

/// Where the teacher's distributions come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Teacher<'a> {
    /// Its last hidden states `[rows, hidden]` and its output layer `[vocab, hidden]`.
    Hidden { x: &'a [f32], weight: &'a [f32], hidden: usize },
    /// Its `k` likeliest tokens and their log-probabilities, `[rows, k]`; what is left is shared out among them. A row
    /// of fewer is filled up with minus infinity.
    Top { k: usize, token_ids: &'a [u32], log_probs: &'a [f32] },
}

/// The loss of distillation.
#[derive(Debug)]
pub(crate) struct Distill<'a> {
    targets: &'a [u32],
    teacher: Teacher<'a>,
    divergence: &'a Divergence,
    /// The rows of the chunk at work, and the teacher's logits for them.
    chunk: Range<usize>,
    logits: Vec<f32>,
}

impl<'a> Distill<'a> {
    /// Holds rows against a teacher.
    pub(crate) fn new(targets: &'a [u32], teacher: Teacher<'a>, divergence: &'a Divergence) -> Self {
        Self { targets, teacher, divergence, chunk: 0..0, logits: Vec::new() }
    }

    /// Writes the teacher's log-probabilities of a row, at the temperature.
    fn teacher_row(&self, row: usize, vocab: usize, output: &mut [f32]) {
        let inverse = 1.0 / self.divergence.temperature;
        match self.teacher {
            Teacher::Hidden { .. } => {
                let start = (row - self.chunk.start) * vocab;
                log_softmax(&self.logits[start..start + vocab], inverse, output);
            }
            Teacher::Top { k, token_ids, log_probs } => {
                output.fill(ABSENT);
                let (ids, values) = (&token_ids[row * k..(row + 1) * k], &log_probs[row * k..(row + 1) * k]);
                let given = values.iter().take_while(|value| value.is_finite()).count();
                let mut normalised = vec![0.0; given];
                log_softmax(&values[..given], inverse, &mut normalised);
                for (&id, value) in ids.iter().zip(normalised) {
                    output[id as usize] = value;
                }
            }
        }
    }
}

impl RowLoss for Distill<'_> {
    fn begin(&mut self, rows: Range<usize>) {
        if let Teacher::Hidden { x, weight, hidden } = self.teacher {
            let vocab = weight.len() / hidden;
            self.logits.resize(rows.len() * vocab, 0.0);
            let x = &x[rows.start * hidden..rows.end * hidden];
            let place = Output::replace(&mut self.logits, vocab);
            let shape = [rows.len(), vocab, hidden];
            multiply(shape, Matrix::rows(x, hidden), Matrix::columns(weight, hidden), place);
        }
        self.chunk = rows;
    }

    fn rows(&self, first: usize, vocab: usize, logits: &mut [f32], losses: &mut [f32]) {
        let divergence = self.divergence;
        let mut teacher = vec![0.0; vocab];
        let mut student = vec![0.0; vocab];
        for (index, (row, loss)) in logits.chunks_exact_mut(vocab).zip(losses.iter_mut()).enumerate() {
            self.teacher_row(first + index, vocab, &mut teacher);
            log_softmax(row, 1.0 / divergence.temperature, &mut student);
            // The likelihood first: it turns the logits into its own gradient, which the divergence adds to.
            let targets = &self.targets[first + index..=first + index];
            let weights = [divergence.ce_alpha];
            CrossEntropy { targets, weights: Some(&weights) }.rows(0, vocab, row, std::slice::from_mut(loss));
            let scale = divergence.alpha * divergence.temperature;
            let value = match divergence.kind {
                Kind::ForwardKl => forward_kl(&teacher, &student, scale, row),
                Kind::ReverseKl => reverse_kl(&teacher, &student, scale, row),
                Kind::JensenShannon { beta } => jensen_shannon(&teacher, &student, beta, scale, row),
            };
            *loss += scale * divergence.temperature * value;
        }
    }
}

vectorised! {
    /// Writes `ln softmax(inverse * logits)`.
    fn log_softmax(logits: &[f32], inverse: f32, output: &mut [f32]) {
        let largest = max(logits);
        for (value, logit) in output.iter_mut().zip(logits) {
            *value = exp((logit - largest) * inverse);
        }
        let total = sum(output).ln();
        for (value, logit) in output.iter_mut().zip(logits) {
            *value = (logit - largest) * inverse - total;
        }
    }
}

/// `p * ln(p / q)` from logarithms; zero where `p` is.
#[inline(always)]
fn term(p: f32, log_p: f32, log_q: f32) -> f32 {
    if p > 0.0 { p * (log_p - log_q) } else { 0.0 }
}

vectorised! {
    /// Adds the gradient and returns the divergence.
    fn forward_kl(teacher: &[f32], student: &[f32], scale: f32, gradient: &mut [f32]) -> f32 {
        let mut value = 0.0;
        for ((log_p, log_q), gradient) in teacher.iter().zip(student).zip(gradient) {
            let (p, q) = (exp(*log_p), exp(*log_q));
            value += f64::from(term(p, *log_p, *log_q));
            *gradient += scale * (q - p);
        }
        value as f32
    }
}

vectorised! {
    /// Adds the gradient and returns the divergence.
    fn reverse_kl(teacher: &[f32], student: &[f32], scale: f32, gradient: &mut [f32]) -> f32 {
        let mut value = 0.0;
        for (log_p, log_q) in teacher.iter().zip(student) {
            value += f64::from(term(exp(*log_q), *log_q, *log_p));
        }
        let mean = value as f32;
        for ((log_p, log_q), gradient) in teacher.iter().zip(student).zip(gradient) {
            let q = exp(*log_q);
            *gradient += scale * (term(q, *log_q, *log_p) - q * mean);
        }
        mean
    }
}

vectorised! {
    /// Adds the gradient and returns the divergence.
    fn jensen_shannon(teacher: &[f32], student: &[f32], beta: f32, scale: f32, gradient: &mut [f32]) -> f32 {
        let (mut from_teacher, mut from_student) = (0.0, 0.0);
        for (log_p, log_q) in teacher.iter().zip(student) {
            let (p, q) = (exp(*log_p), exp(*log_q));
            let log_m = (beta * p + (1.0 - beta) * q).ln();
            from_teacher += f64::from(term(p, *log_p, log_m));
            from_student += f64::from(term(q, *log_q, log_m));
        }
        let mean = from_student as f32;
        for ((log_p, log_q), gradient) in teacher.iter().zip(student).zip(gradient) {
            let (p, q) = (exp(*log_p), exp(*log_q));
            let log_m = (beta * p + (1.0 - beta) * q).ln();
            *gradient += scale * (1.0 - beta) * (term(q, *log_q, log_m) - q * mean);
        }
        beta * from_teacher as f32 + (1.0 - beta) * mean
    }
}
