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
struct Matrix<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `width` columns, row by row.
    fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, row: width, column: 1 }
    }

    /// The transpose of a matrix of `width` columns that lies row by row.
    fn columns(values: &'a [f32], width: usize) -> Self {
        Self { values, row: 1, column: width }
    }
}

/// Computes `x weight^T`, plus `residual` where there is one.
///
/// # Shapes
/// `x` is `[rows, inputs]`, `weight` is `[outputs, inputs]`, `residual` and the result are `[rows, outputs]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], inputs: usize, residual: Option<&[f32]>) -> Vec<f32> {
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    let is_sum = residual.is_some();
    let mut output = residual.map_or_else(|| vec![0.0; rows * outputs], <[f32]>::to_vec);
    let shape = [rows, outputs, inputs];
    multiply(shape, Matrix::rows(x, inputs), Matrix::columns(weight, inputs), is_sum, &mut output);
    output
}

/// Computes the gradient of `x` from that of the result.
pub(crate) fn backward_x(gradient: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let rows = gradient.len() / outputs;
    let mut output = vec![0.0; rows * inputs];
    let shape = [rows, inputs, outputs];
    multiply(shape, Matrix::rows(gradient, outputs), Matrix::rows(weight, inputs), false, &mut output);
    output
}

/// Computes the gradient of `weight` from that of the result.
pub(crate) fn backward_weight(gradient: &[f32], x: &[f32], inputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let outputs = gradient.len().checked_div(rows).unwrap_or(0);
    let mut output = vec![0.0; outputs * inputs];
    let shape = [outputs, inputs, rows];
    multiply(shape, Matrix::columns(gradient, outputs), Matrix::rows(x, inputs), false, &mut output);
    output
}

/// Computes `left x right`, added to `output` or in its place, for `[rows, columns, inner]`.
fn multiply([m, n, k]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>, add: bool, output: &mut [f32]) {
    let last = |matrix: Matrix<'_>, rows: usize, columns: usize| {
        rows.saturating_sub(1) * matrix.row + columns.saturating_sub(1) * matrix.column
    };
    assert_eq!(output.len(), m * n, "the result has a number for each row and column");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(last(left, m, k) < left.values.len(), "the left operand covers its shape");
    assert!(last(right, k, n) < right.values.len(), "the right operand covers its shape");
    let threads = if m * n * k < WORTH_THREADS { Parallelism::None } else { Parallelism::Rayon(0) };
    #[expect(unsafe_code, reason = "`gemm` takes pointers")]
    // SAFETY: `output` holds `m * n` numbers, row by row, and nothing else refers to them. The largest offset that
    // `gemm` reads from each operand is that of its last row and column, which lies inside its slice as asserted.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            add,
            left.values.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.values.as_ptr(),
            right.column as isize,
            right.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}
