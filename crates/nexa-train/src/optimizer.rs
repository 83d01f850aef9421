//! AdamW in one pass over the weights, and the norm that gradients are clipped by.
//!
//! The weights live on the host between steps, so the update is a loop over slices instead of a dozen tensor
//! operations. Chunks have a fixed size and partial sums are added in their order: the number of threads changes
//! nothing.

use nexa_model::{Kind, Weights};
use rayon::prelude::*;

use crate::Config;

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// The running means of AdamW.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    /// Means of the gradients.
    pub(crate) first: Vec<Vec<f32>>,
    /// Means of their squares.
    pub(crate) second: Vec<Vec<f32>>,
}

impl Moments {
    /// Starts from zero.
    pub(crate) fn zeros(weights: &Weights) -> Self {
        let zeros: Vec<Vec<f32>> = weights.values().iter().map(|values| vec![0.0; values.len()]).collect();
        Self { first: zeros.clone(), second: zeros }
    }
}

/// Computes the Euclidean norm over all gradients together.
pub(crate) fn global_norm(gradients: &[Vec<f32>]) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
    let sums = gradients.iter().map(|gradient| {
        let partial: Vec<f64> = gradient.par_chunks(CHUNK).map(square).collect();
        partial.iter().sum::<f64>()
    });
    sums.sum::<f64>().sqrt()
}

/// Moves the weights against their gradients, which are first multiplied by `scale`. `step` counts from 1.
///
/// # Source
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2; the decay is multiplied by the
/// learning rate, as in PyTorch.
pub(crate) fn update(
    config: &Config,
    weights: &mut Weights,
    moments: &mut Moments,
    gradients: &[Vec<f32>],
    scale: f64,
    learning_rate: f64,
    step: u64,
) {
    let (beta1, beta2) = (config.adam_beta1, config.adam_beta2);
    let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(step).unwrap_or(i32::MAX));
    let step_size = (learning_rate / correction(beta1)) as f32;
    let second_scale = (1.0 / correction(beta2)) as f32;
    let (keep1, add1) = (beta1 as f32, ((1.0 - beta1) * scale) as f32);
    let (keep2, add2) = (beta2 as f32, ((1.0 - beta2) * scale * scale) as f32);
    let epsilon = config.adam_epsilon as f32;

    let decays: Vec<bool> = weights
        .layout()
        .iter()
        .map(|parameter| matches!(parameter.kind, Kind::Projection | Kind::ResidualProjection))
        .collect();
    let moments = moments.first.iter_mut().zip(&mut moments.second);
    for (((values, gradient), (first, second)), decays) in
        weights.values_mut().iter_mut().zip(gradients).zip(moments).zip(decays)
    {
        let keep = if decays { 1.0 - (learning_rate * config.weight_decay) as f32 } else { 1.0 };
        values
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
            .for_each(|((values, gradient), (first, second))| {
                let moments = first.iter_mut().zip(second);
                for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
                    *first = keep1 * *first + add1 * gradient;
                    *second = keep2 * *second + add2 * (gradient * gradient);
                    *value = keep * *value - step_size * *first / ((*second * second_scale).sqrt() + epsilon);
                }
            });
    }
}
