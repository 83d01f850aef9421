//! Muon: momentum whose singular values are all brought near one.

use burn::tensor::{Device, Tensor, TensorData};
use nexa_model::Parameter;
use rayon::prelude::*;

use super::{CHUNK, Rule, Step, sum_of_squares};
use crate::Config;

/// The polynomial `a x + b x^3 + c x^5` of one iteration, which drives every singular value into 0.7 to 1.2. The
/// author's values.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
/// Iterations. The author's value.
const ITERATIONS: usize = 5;
/// Least norm that is divided by.
const LEAST_NORM: f64 = 1e-7;
/// Root mean square of an update by AdamW, which an update is brought to, so that one learning rate and one decay
/// serve both (Liu et al., "Muon is Scalable for LLM Training", 2025, section 2.2).
const ADAMW_SIZE: f64 = 0.2;

/// Momentum that is orthogonalised by Newton-Schulz iterations, for each tensor of a fused matrix by itself.
///
/// # Source
/// Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with Nesterov momentum.
///
/// # Departures
/// The iterations run in f32, not in bf16, which a CPU does not multiply any faster.
#[derive(Debug)]
pub(super) struct Muon {
    decay: f64,
    columns: usize,
    /// Rows of each tensor.
    parts: Vec<usize>,
    momentum: Vec<f32>,
}

impl Muon {
    pub(super) fn new(config: &Config, parameter: &Parameter) -> Self {
        Self {
            decay: config.muon_momentum,
            columns: parameter.shape[1],
            parts: parameter.parts.iter().map(|&(_, rows)| rows).collect(),
            momentum: vec![0.0; parameter.shape[0] * parameter.shape[1]],
        }
    }

    /// Takes a gradient into the momentum and returns where the two together point.
    fn direction(&mut self, gradient: &[f32], scale: f64) -> Vec<f32> {
        let (keep, add) = (self.decay as f32, ((1.0 - self.decay) * scale) as f32);
        let mut direction = vec![0.0; gradient.len()];
        direction
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.momentum.par_chunks_mut(CHUNK))
            .for_each(|((direction, gradient), momentum)| {
                for ((direction, gradient), momentum) in direction.iter_mut().zip(gradient).zip(momentum) {
                    *momentum = keep * *momentum + add * gradient;
                    *direction = keep * *momentum + add * gradient;
                }
            });
        direction
    }
}

impl Rule for Muon {
    fn update(&mut self, values: &mut [f32], gradient: &[f32], keep: f32, step: &Step) {
        let direction = self.direction(gradient, step.scale);
        let (mut values, mut direction) = (values, direction.as_slice());
        for &rows in &self.parts {
            let (own_values, rest_values) = values.split_at_mut(rows * self.columns);
            let (own_direction, rest_direction) = direction.split_at(rows * self.columns);
            (values, direction) = (rest_values, rest_direction);
            let update = orthogonalise(own_direction, [rows, self.columns]);
            let size = step.learning_rate * ADAMW_SIZE * (rows.max(self.columns) as f64).sqrt();
            let size = size as f32;
            own_values.par_chunks_mut(CHUNK).zip(update.par_chunks(CHUNK)).for_each(|(values, update)| {
                for (value, update) in values.iter_mut().zip(update) {
                    *value = keep * *value - size * update;
                }
            });
        }
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![("momentum".to_owned(), &self.momentum)]
    }

    fn state_mut(&mut self) -> Vec<(String, &mut [f32])> {
        vec![("momentum".to_owned(), &mut self.momentum)]
    }
}

/// Brings the singular values of a matrix near one and keeps its singular vectors.
///
/// # Shapes
/// `values` and the result are `[rows, columns]`.
fn orthogonalise(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let (a, b, c) = COEFFICIENTS;
    let norm = sum_of_squares(values).sqrt().max(LEAST_NORM);
    let x = Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, columns]), &Device::flex());
    // The products below are square in the first dimension, so that should be the smaller one.
    let is_tall = rows > columns;
    let mut x = if is_tall { x.transpose() } else { x } / norm; // [small, large]
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().transpose()); // [small, small]
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c; // [small, small]
        x = x.clone() * a + polynomial.matmul(x); // [small, large]
    }
    let x = if is_tall { x.transpose() } else { x };
    x.into_data().as_slice::<f32>().expect("the matrix is f32").to_vec()
}
