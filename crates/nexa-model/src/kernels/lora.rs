//! A low-rank correction of a product, and its derivative, through the activations: nothing of the size of the
//! frozen weight is ever made.
//!
//! A weight that is several projections in one (queries, keys and values) has a correction for some of them. Their
//! `A` matrices lie below each other, so that all of them are one product; their `B` matrices lie below each other too
//! and are multiplied one by one. Where a share of the input is dropped, every `A` sees a mask of its own, as if each
//! projection were a module of its own.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

use std::ops::Range;

use super::dropout::Dropout;
use super::linear::{Matrix, Output, multiply};

/// Which columns of a product are corrected, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Correction {
    /// The columns of each corrected projection.
    pub(crate) parts: Vec<Range<usize>>,
    /// Rows of each `A`, columns of each `B`.
    pub(crate) rank: usize,
    /// What the correction is multiplied with.
    pub(crate) scale: f32,
    /// The share of the input of each `A` that is dropped in training.
    pub(crate) dropout: f64,
}

impl Correction {
    /// Counts the rows of all `A` together.
    pub(crate) fn inner(&self) -> usize {
        self.parts.len() * self.rank
    }

    /// For each part: its columns in the product, its first row in `B`, its first column in the inner activations.
    fn places(&self) -> impl Iterator<Item = (Range<usize>, usize, usize)> {
        let mut row = 0;
        self.parts.iter().enumerate().map(move |(index, columns)| {
            let first = row;
            row += columns.len();
            (columns.clone(), first, index * self.rank)
        })
    }
}

/// Operands of a correction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// The input of the frozen weight, `[rows, inputs]`.
    pub(crate) x: &'a [f32],
    /// `[inner, inputs]`.
    pub(crate) a: &'a [f32],
    /// `[columns of all parts, rank]`.
    pub(crate) b: &'a [f32],
    /// What is dropped of the input on its way to each `A`.
    pub(crate) dropout: Option<Dropout>,
}

/// Gradients of the operands, as [`Operands`] lists them.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// Of the input.
    pub(crate) x: Vec<f32>,
    /// Of all `A`.
    pub(crate) a: Vec<f32>,
    /// Of all `B`.
    pub(crate) b: Vec<f32>,
}

/// Adds the correction to `product` and returns the inner activations, which the backward pass needs.
///
/// # Shapes
/// `product` is `[rows, width]`; returns `[rows, inner]`.
pub(crate) fn forward(operands: Operands<'_>, correction: &Correction, product: &mut [f32]) -> Vec<f32> {
    let Operands { x, a, b, dropout } = operands;
    let (inner, rank) = (correction.inner(), correction.rank);
    let inputs = a.len() / inner;
    let rows = x.len() / inputs;
    let width = product.len().checked_div(rows).unwrap_or(0);
    let mut h = vec![0.0; rows * inner];
    match dropout {
        None => {
            let (x, a) = (Matrix::rows(x, inputs), Matrix::columns(a, inputs));
            multiply([rows, inner, inputs], x, a, Output::replace(&mut h, inner));
        }
        Some(dropout) if rows > 0 => {
            let mut left = vec![0.0; x.len()];
            for (part, _) in correction.parts.iter().enumerate() {
                dropout.of(part).apply(x, inputs, &mut left);
                let (x, a) =
                    (Matrix::rows(&left, inputs), Matrix::columns(&a[part * rank * inputs..], inputs));
                multiply([rows, rank, inputs], x, a, Output::replace(&mut h[part * rank..], inner));
            }
        }
        Some(_) => {}
    }
    for (columns, row, column) in correction.places() {
        if rows == 0 {
            break;
        }
        let shape = [rows, columns.len(), rank];
        let place =
            Output { values: &mut product[columns.start..], row: width, add: true, scale: correction.scale };
        multiply(shape, Matrix::rows(&h[column..], inner), Matrix::columns(&b[row * rank..], rank), place);
    }
    h
}

/// Computes the gradients of the operands from that of the product and the inner activations `h`.
pub(crate) fn backward(
    operands: Operands<'_>,
    correction: &Correction,
    h: &[f32],
    gradient: &[f32],
) -> Gradients {
    let Operands { x, a, b, dropout } = operands;
    let (inner, rank, scale) = (correction.inner(), correction.rank, correction.scale);
    let inputs = a.len() / inner;
    let rows = x.len() / inputs;
    let width = gradient.len().checked_div(rows).unwrap_or(0);
    let mut gradients = Gradients { x: vec![0.0; x.len()], a: vec![0.0; a.len()], b: vec![0.0; b.len()] };
    if rows == 0 {
        return gradients;
    }
    let mut h_gradient = vec![0.0; h.len()];
    for (columns, row, column) in correction.places() {
        let count = columns.len();
        let gradient = &gradient[columns.start..];
        let place = Output { values: &mut gradients.b[row * rank..], row: rank, add: false, scale };
        multiply(
            [count, rank, rows],
            Matrix::columns(gradient, width),
            Matrix::rows(&h[column..], inner),
            place,
        );
        let place = Output { values: &mut h_gradient[column..], row: inner, add: false, scale };
        multiply(
            [rows, rank, count],
            Matrix::rows(gradient, width),
            Matrix::rows(&b[row * rank..], rank),
            place,
        );
    }
    let Some(dropout) = dropout else {
        let place = Output::replace(&mut gradients.a, inputs);
        multiply([inner, inputs, rows], Matrix::columns(&h_gradient, inner), Matrix::rows(x, inputs), place);
        let place = Output::replace(&mut gradients.x, inputs);
        multiply([rows, inputs, inner], Matrix::rows(&h_gradient, inner), Matrix::rows(a, inputs), place);
        return gradients;
    };
    // What was left of the input first, then the gradient of that.
    let mut left = vec![0.0; x.len()];
    for (part, _) in correction.parts.iter().enumerate() {
        let (dropout, first) = (dropout.of(part), part * rank * inputs);
        let h_gradient = &h_gradient[part * rank..];
        dropout.apply(x, inputs, &mut left);
        let place = Output::replace(&mut gradients.a[first..], inputs);
        multiply(
            [rank, inputs, rows],
            Matrix::columns(h_gradient, inner),
            Matrix::rows(&left, inputs),
            place,
        );
        let place = Output::replace(&mut left, inputs);
        multiply(
            [rows, inputs, rank],
            Matrix::rows(h_gradient, inner),
            Matrix::rows(&a[first..], inputs),
            place,
        );
        dropout.add(&left, inputs, &mut gradients.x);
    }
    gradients
}

/// Adds the corrections to the weight `[width, inputs]` itself.
pub(crate) fn merge(a: &[f32], b: &[f32], correction: &Correction, inputs: usize, weight: &mut [f32]) {
    let rank = correction.rank;
    for (columns, row, column) in correction.places() {
        let (a, b) = (&a[column * inputs..], &b[row * rank..]);
        let place = Output {
            values: &mut weight[columns.start * inputs..],
            row: inputs,
            add: true,
            scale: correction.scale,
        };
        multiply([columns.len(), inputs, rank], Matrix::rows(b, rank), Matrix::rows(a, inputs), place);
    }
}
