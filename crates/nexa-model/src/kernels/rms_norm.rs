//! Root-mean-square normalisation and its derivative, one pass each.
//!
//! Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

use rayon::prelude::*;

use super::simd::{dot, vectorised};
use super::team;

/// Rows of one task. The weight's gradient is summed within a task and then over tasks in their order, so it must
/// not depend on the number of threads.
const ROWS_PER_TASK: usize = 64;

/// Computes `x / rms(x) * weight` for every row.
///
/// # Shapes
/// `x` is `[rows, weight.len()]`, as is the result.
pub(crate) fn forward(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    let mut output = vec![0.0; x.len()];
    team::chunks(&mut output, ROWS_PER_TASK * width, |index, output| {
        forward_rows(&x[index * ROWS_PER_TASK * width..][..output.len()], weight, epsilon, output);
    });
    output
}

/// Computes the gradients of `x` and `weight` from that of the result.
pub(crate) fn backward(x: &[f32], weight: &[f32], epsilon: f32, gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut x_gradient = vec![0.0; x.len()];
    let partial: Vec<Vec<f32>> = x_gradient
        .par_chunks_mut(ROWS_PER_TASK * width)
        .zip(x.par_chunks(ROWS_PER_TASK * width))
        .zip(gradient.par_chunks(ROWS_PER_TASK * width))
        .map(|((x_gradient, x), gradient)| {
            let mut weight_gradient = vec![0.0; width];
            backward_rows(x, weight, epsilon, gradient, x_gradient, &mut weight_gradient);
            weight_gradient
        })
        .collect();
    let mut weight_gradient = vec![0.0; width];
    for partial in partial {
        for (sum, value) in weight_gradient.iter_mut().zip(partial) {
            *sum += value;
        }
    }
    (x_gradient, weight_gradient)
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

vectorised! {
    /// Normalises every `weight.len()` numbers of `x`.
    pub(crate) fn forward_rows(x: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
        let width = weight.len();
        for (x, output) in x.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            let scale = inverse_rms(x, epsilon);
            for ((output, x), weight) in output.iter_mut().zip(x).zip(weight) {
                *output = x * scale * weight;
            }
        }
    }
}

vectorised! {
    /// Writes the gradient of `x` and adds up that of `weight`.
    pub(crate) fn backward_rows(
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        gradient: &[f32],
        x_gradient: &mut [f32],
        weight_gradient: &mut [f32],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(x_gradient.chunks_exact_mut(width));
        for ((x, gradient), x_gradient) in rows {
            let scale = inverse_rms(x, epsilon);
            for ((value, gradient), weight) in x_gradient.iter_mut().zip(gradient).zip(weight) {
                *value = gradient * weight;
            }
            // y = s x w with s = (mean(x^2) + eps)^(-1/2), so dx = s (g w) - x s^3 mean(x g w).
            let shrink = dot(x, x_gradient) * scale * scale * scale / width as f32;
            for (((value, x), gradient), sum) in
                x_gradient.iter_mut().zip(x).zip(gradient).zip(weight_gradient.iter_mut())
            {
                *value = *value * scale - x * shrink;
                *sum = (gradient * x).mul_add(scale, *sum);
            }
        }
    }
}
