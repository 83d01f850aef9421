//! AdamW in one pass: moments, decay and step for one number after the other.

use nexa_model::Parameter;
use rayon::prelude::*;

use super::{CHUNK, Rule, Step};
use crate::Config;

/// Adam with decoupled weight decay.
///
/// # Source
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2; the decay is multiplied by the
/// learning rate, as in PyTorch.
#[derive(Debug)]
pub(super) struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    /// Means of the gradients.
    first: Vec<f32>,
    /// Means of their squares.
    second: Vec<f32>,
}

impl AdamW {
    pub(super) fn new(config: &Config, parameter: &Parameter) -> Self {
        let zeros = vec![0.0; parameter.shape[0] * parameter.shape[1]];
        Self {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            epsilon: config.adam_epsilon,
            first: zeros.clone(),
            second: zeros,
        }
    }
}

impl Rule for AdamW {
    fn update(&mut self, values: &mut [f32], gradient: &[f32], keep: f32, step: &Step) {
        let Step { number, learning_rate, scale } = *step;
        let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(number).unwrap_or(i32::MAX));
        let step_size = (learning_rate / correction(self.beta1)) as f32;
        let second_scale = (1.0 / correction(self.beta2)) as f32;
        let (keep1, add1) = (self.beta1 as f32, ((1.0 - self.beta1) * scale) as f32);
        // The scale goes onto the gradient and not, squared, onto the factor, where it could leave the range of f32.
        let (keep2, add2, scale) = (self.beta2 as f32, (1.0 - self.beta2) as f32, scale as f32);
        let epsilon = self.epsilon as f32;
        values
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK).zip(self.second.par_chunks_mut(CHUNK)))
            .for_each(|((values, gradient), (first, second))| {
                let moments = first.iter_mut().zip(second);
                for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
                    let scaled = gradient * scale;
                    *first = keep1 * *first + add1 * gradient;
                    *second = keep2 * *second + add2 * (scaled * scaled);
                    *value = keep * *value - step_size * *first / ((*second * second_scale).sqrt() + epsilon);
                }
            });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![("first".to_owned(), &self.first), ("second".to_owned(), &self.second)]
    }

    fn state_mut(&mut self) -> Vec<(String, &mut [f32])> {
        vec![("first".to_owned(), &mut self.first), ("second".to_owned(), &mut self.second)]
    }
}
