//! Products with a weight matrix for training: many rows at a time, by the same `gemm` that Burn uses.
//!
//! Burn's own matmul on the CPU fills its result with zeros, copies it to aligned memory and only then computes;
//! its derivative of a transposed weight is a transposed view that is copied once more. Calling `gemm` here writes
//! every number once and adds the residual on the way.

use gemm::Parallelism;

/// Multiply-adds below which one thread does the work.
const WORTH_THREADS: usize = 192 * 192 * 192;

/// How a matrix lies in a slice, as distances between rows and between columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `width` columns, row by row. It may be the left part of rows of that width.
    pub(super) fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, row: width, column: 1 }
    }

    /// The transpose of a matrix of `width` columns that lies row by row.
    pub(super) fn columns(values: &'a [f32], width: usize) -> Self {
        Self { values, row: 1, column: width }
    }
}

/// Where a product goes.
#[derive(Debug)]
pub(super) struct Output<'a> {
    /// The first number of the first row, and all that follows.
    pub(super) values: &'a mut [f32],
    /// Distance between rows.
    pub(super) row: usize,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
    /// What the product is multiplied with.
    pub(super) scale: f32,
}

impl<'a> Output<'a> {
    /// Replaces a matrix of `width` columns.
    pub(super) fn replace(values: &'a mut [f32], width: usize) -> Self {
        Self { values, row: width, add: false, scale: 1.0 }
    }

    /// Adds to a matrix of `width` columns.
    pub(super) fn add(values: &'a mut [f32], width: usize) -> Self {
        Self { values, row: width, add: true, scale: 1.0 }
    }
}

/// Computes `x weight^T`, plus `residual` where there is one.
///
/// # Shapes
/// `x` is `[rows, inputs]`, `weight` is `[outputs, inputs]`, `residual` and the result are `[rows, outputs]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], inputs: usize, residual: Option<&[f32]>) -> Vec<f32> {
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    let add = residual.is_some();
    let mut output = residual.map_or_else(|| vec![0.0; rows * outputs], <[f32]>::to_vec);
    let target = Output { values: &mut output, row: outputs, add, scale: 1.0 };
    multiply([rows, outputs, inputs], Matrix::rows(x, inputs), Matrix::columns(weight, inputs), target);
    output
}

/// Computes the gradient of `x` from that of the result.
pub(crate) fn backward_x(gradient: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let rows = gradient.len() / outputs;
    let mut output = vec![0.0; rows * inputs];
    let target = Output::replace(&mut output, inputs);
    multiply([rows, inputs, outputs], Matrix::rows(gradient, outputs), Matrix::rows(weight, inputs), target);
    output
}

/// Computes the gradient of `weight` from that of the result.
pub(crate) fn backward_weight(gradient: &[f32], x: &[f32], inputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let outputs = gradient.len().checked_div(rows).unwrap_or(0);
    let mut output = vec![0.0; outputs * inputs];
    let target = Output::replace(&mut output, inputs);
    multiply([outputs, inputs, rows], Matrix::columns(gradient, outputs), Matrix::rows(x, inputs), target);
    output
}

/// Computes `scale * left x right`, added to the output or in its place, for `[rows, columns, inner]`.
pub(super) fn multiply([m, n, k]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>, output: Output<'_>) {
    let last = |row: usize, column: usize, rows: usize, columns: usize| {
        rows.saturating_sub(1) * row + columns.saturating_sub(1) * column
    };
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= output.row && last(output.row, 1, m, n) < output.values.len(), "the result has its place");
    if k == 0 {
        if !output.add {
            output.values.chunks_mut(output.row).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(last(left.row, left.column, m, k) < left.values.len(), "the left operand covers its shape");
    assert!(last(right.row, right.column, k, n) < right.values.len(), "the right operand covers its shape");
    let threads = if m * n * k < WORTH_THREADS { Parallelism::None } else { Parallelism::Rayon(0) };
    #[expect(unsafe_code, reason = "`gemm` takes pointers")]
    // SAFETY: the largest offset that `gemm` reads from or writes to each matrix is that of its last row and column,
    // which lies inside its slice as asserted; the rows of the output do not overlap, as none is longer than the
    // distance between them; and nothing else refers to the output.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.values.as_mut_ptr(),
            1,
            output.row as isize,
            output.add,
            left.values.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.values.as_ptr(),
            right.column as isize,
            right.row as isize,
            1.0,
            output.scale,
            false,
            false,
            false,
            threads,
        );
    }
}
