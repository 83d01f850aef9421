//! The gated activation of the feed-forward block, `silu(gate) * up`, on a tensor that holds both side by side.
//!
//! Source: Shazeer, "GLU Variants Improve Transformer", 2020.

use rayon::prelude::*;

use super::simd::{exp, vectorised};
use super::team;

/// Rows of one task.
const ROWS_PER_TASK: usize = 32;

/// Computes `silu(gate) * up` for every row.
///
/// # Shapes
/// `gate_up` is `[rows, 2 * width]`, the gate first; returns `[rows, width]`.
pub(crate) fn forward(gate_up: &[f32], width: usize) -> Vec<f32> {
    let mut output = vec![0.0; gate_up.len() / 2];
    team::chunks(&mut output, ROWS_PER_TASK * width, |index, output| {
        forward_rows(&gate_up[index * ROWS_PER_TASK * 2 * width..][..2 * output.len()], width, output);
    });
    output
}

/// Computes the gradient of `gate_up` from that of the result.
pub(crate) fn backward(gate_up: &[f32], width: usize, gradient: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; gate_up.len()];
    output
        .par_chunks_mut(ROWS_PER_TASK * 2 * width)
        .zip(gate_up.par_chunks(ROWS_PER_TASK * 2 * width))
        .zip(gradient.par_chunks(ROWS_PER_TASK * width))
        .for_each(|((output, gate_up), gradient)| backward_rows(gate_up, width, gradient, output));
    output
}

vectorised! {
    fn forward_rows(gate_up: &[f32], width: usize, output: &mut [f32]) {
        for (gate_up, output) in gate_up.chunks_exact(2 * width).zip(output.chunks_exact_mut(width)) {
            let (gate, up) = gate_up.split_at(width);
            for ((output, gate), up) in output.iter_mut().zip(gate).zip(up) {
                *output = gate / (1.0 + exp(-gate)) * up;
            }
        }
    }
}

vectorised! {
    fn backward_rows(gate_up: &[f32], width: usize, gradient: &[f32], output: &mut [f32]) {
        let rows = gate_up.chunks_exact(2 * width).zip(gradient.chunks_exact(width));
        for ((gate_up, gradient), output) in rows.zip(output.chunks_exact_mut(2 * width)) {
            let (gate, up) = gate_up.split_at(width);
            let (gate_gradient, up_gradient) = output.split_at_mut(width);
            let inputs = gate.iter().zip(up).zip(gradient);
            for (((gate, up), gradient), (to_gate, to_up)) in inputs.zip(gate_gradient.iter_mut().zip(up_gradient)) {
                let sigmoid = 1.0 / (1.0 + exp(-gate));
                let silu = gate * sigmoid;
                *to_gate = gradient * up * (sigmoid + silu * (1.0 - sigmoid));
                *to_up = gradient * silu;
            }
        }
    }
}
