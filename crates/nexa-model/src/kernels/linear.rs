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
    let (shape, x, weight) =
        ([rows, outputs, inputs], Matrix::rows(x, inputs), Matrix::columns(weight, inputs));
    match residual {
        None => product(shape, x, weight),
        Some(residual) => {
            let mut output = residual.to_vec();
            multiply(shape, x, weight, Output::add(&mut output, outputs));
            output
        }
    }
}

/// Computes the gradient of `x` from that of the result.
pub(crate) fn backward_x(gradient: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let rows = gradient.len() / outputs;
    product([rows, inputs, outputs], Matrix::rows(gradient, outputs), Matrix::rows(weight, inputs))
}

/// Computes the gradient of `weight`, which has so many outputs, from that of the result.
pub(crate) fn backward_weight(gradient: &[f32], x: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    product([outputs, inputs, rows], Matrix::columns(gradient, outputs), Matrix::rows(x, inputs))
}

/// Computes `left x right` for `[rows, columns, inner]`.
pub(super) fn product([m, n, k]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>) -> Vec<f32> {
    if m == 0 || n == 0 || k == 0 {
        return vec![0.0; m * n];
    }
    let mut output = Vec::with_capacity(m * n);
    #[expect(
        unsafe_code,
        reason = "filling memory with zeros first would cost as much as writing the result"
    )]
    // SAFETY: there is room for `m * n` numbers, row by row, and `run` writes every one of them without reading any.
    unsafe {
        run([m, n, k], left, right, Target { values: output.as_mut_ptr(), row: n, add: false, scale: 1.0 });
        output.set_len(m * n);
    }
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
    let target =
        Target { values: output.values.as_mut_ptr(), row: output.row, add: output.add, scale: output.scale };
    #[expect(unsafe_code, reason = "`gemm` takes pointers")]
    // SAFETY: the last row and column of the output lie inside its slice as asserted; its rows do not overlap, as none
    // is longer than the distance between them; and nothing else refers to it.
    unsafe {
        run([m, n, k], left, right, target);
    }
}

/// Where a product goes.
struct Target {
    values: *mut f32,
    row: usize,
    add: bool,
    scale: f32,
}

/// Calls `gemm`; no dimension is zero.
///
/// # Safety
/// `target` points to room for `m` rows of `n` numbers at its distance, which nothing else refers to, and which hold
/// numbers where the product is added to them.
#[expect(unsafe_code, reason = "`gemm` takes pointers")]
unsafe fn run([m, n, k]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>, target: Target) {
    let last = |matrix: Matrix<'_>, rows: usize, columns: usize| {
        (rows - 1) * matrix.row + (columns - 1) * matrix.column
    };
    assert!(last(left, m, k) < left.values.len(), "the left operand covers its shape");
    assert!(last(right, k, n) < right.values.len(), "the right operand covers its shape");
    let threads = if m * n * k < WORTH_THREADS { Parallelism::None } else { Parallelism::Rayon(0) };
    // SAFETY: the largest offset that `gemm` reads from each operand is that of its last row and column, which lies
    // inside its slice as asserted; the caller vouches for the target.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.values,
            1,
            target.row as isize,
            target.add,
            left.values.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.values.as_ptr(),
            right.column as isize,
            right.row as isize,
            1.0,
            target.scale,
            false,
            false,
            false,
            threads,
        );
    }
}
