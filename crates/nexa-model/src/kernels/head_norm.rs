//! Root-mean-square normalisation of every query and every key on its own, head by head, and its derivative. Values
//! pass through.
//!
//! Source: Henry et al., "Query-Key Normalization for Transformers", 2020; in this form, with a weight for queries and
//! one for keys, Yang et al., "Qwen3 Technical Report", 2025.

use rayon::prelude::*;

use super::attention::Heads;
use super::rms_norm::{backward_rows, forward_rows};
use super::team;

/// Rows of one task; the weights' gradients are summed over tasks in their order.
const ROWS_PER_TASK: usize = 64;

/// The weights of the two norms, `head_dim` numbers each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norms<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) epsilon: f32,
}

/// Normalises the queries and keys of every row.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`, as is the result.
pub(crate) fn forward(qkv: &[f32], heads: Heads, norms: Norms<'_>) -> Vec<f32> {
    let width = heads.qkv_width();
    let mut output = qkv.to_vec();
    team::chunks(&mut output, ROWS_PER_TASK * width, |index, output| {
        let rows = qkv[index * ROWS_PER_TASK * width..].chunks_exact(width);
        for (output, row) in output.chunks_exact_mut(width).zip(rows) {
            let (queries, keys) = (heads.queries(), heads.keys());
            forward_rows(&row[queries.clone()], norms.query, norms.epsilon, &mut output[queries]);
            forward_rows(&row[keys.clone()], norms.key, norms.epsilon, &mut output[keys]);
        }
    });
    output
}

/// The gradients of the operands.
pub(crate) struct Gradients {
    pub(crate) qkv: Vec<f32>,
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
}

/// Computes the gradients of `qkv` and of both weights from that of the result.
pub(crate) fn backward(qkv: &[f32], heads: Heads, norms: Norms<'_>, gradient: &[f32]) -> Gradients {
    let width = heads.qkv_width();
    let mut output = gradient.to_vec();
    let partial: Vec<[Vec<f32>; 2]> = output
        .par_chunks_mut(ROWS_PER_TASK * width)
        .zip(qkv.par_chunks(ROWS_PER_TASK * width))
        .zip(gradient.par_chunks(ROWS_PER_TASK * width))
        .map(|((output, qkv), gradient)| {
            let mut sums = [vec![0.0; heads.head_dim], vec![0.0; heads.head_dim]];
            let rows = qkv.chunks_exact(width).zip(gradient.chunks_exact(width));
            for (output, (row, gradient)) in output.chunks_exact_mut(width).zip(rows) {
                let [query_sums, key_sums] = &mut sums;
                for (part, weight, sums) in
                    [(heads.queries(), norms.query, query_sums), (heads.keys(), norms.key, key_sums)]
                {
                    let (x, gradient) = (&row[part.clone()], &gradient[part.clone()]);
                    backward_rows(x, weight, norms.epsilon, gradient, &mut output[part], sums);
                }
            }
            sums
        })
        .collect();
    let mut sums = [vec![0.0; heads.head_dim], vec![0.0; heads.head_dim]];
    for partial in partial {
        for (sums, partial) in sums.iter_mut().zip(partial) {
            for (sum, value) in sums.iter_mut().zip(partial) {
                *sum += value;
            }
        }
    }
    let [query, key] = sums;
    Gradients { qkv: output, query, key }
}
