//! Picking rows of a matrix by index, and the derivative, which adds rows back in the order of the indices.

/// Copies the rows `indices` of a matrix.
///
/// # Shapes
/// `matrix` is `[rows, width]`; returns `[indices.len(), width]`.
pub(crate) fn forward(matrix: &[f32], width: usize, indices: &[u32]) -> Vec<f32> {
    let mut output = Vec::with_capacity(indices.len() * width);
    for &index in indices {
        let start = index as usize * width;
        output.extend_from_slice(&matrix[start..start + width]);
    }
    output
}

/// Adds the rows of `gradient` to the rows `indices` of a zero matrix.
pub(crate) fn backward(rows: usize, width: usize, indices: &[u32], gradient: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; rows * width];
    add_rows(&mut output, width, indices, gradient);
    output
}

/// Adds the rows of `gradient` to the rows `indices` of a matrix.
pub(crate) fn add_rows(output: &mut [f32], width: usize, indices: &[u32], gradient: &[f32]) {
    for (&index, gradient) in indices.iter().zip(gradient.chunks_exact(width)) {
        let start = index as usize * width;
        for (sum, value) in output[start..start + width].iter_mut().zip(gradient) {
            *sum += value;
        }
    }
}
