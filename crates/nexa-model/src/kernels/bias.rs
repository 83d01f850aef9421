//! Adding one vector to every row, and the derivative, which sums rows.

use rayon::prelude::*;

/// Rows of one task; the sums are added over tasks in their order, so that the number of threads changes nothing.
const ROWS_PER_TASK: usize = 64;

/// Adds `bias` to every row in place.
///
/// # Shapes
/// `rows` is `[n, bias.len()]`.
pub(crate) fn add(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Adds `bias` to every row.
pub(crate) fn forward(rows: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut output = rows.to_vec();
    output.par_chunks_mut(ROWS_PER_TASK * bias.len()).for_each(|rows| add(rows, bias));
    output
}

/// Computes the gradient of `bias` from that of the result.
pub(crate) fn backward(gradient: &[f32], width: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks(ROWS_PER_TASK * width)
        .map(|rows| {
            let mut sums = vec![0.0; width];
            rows.chunks_exact(width).for_each(|row| add(&mut sums, row));
            sums
        })
        .collect();
    let mut sums = vec![0.0; width];
    partial.iter().for_each(|partial| add(&mut sums, partial));
    sums
}
