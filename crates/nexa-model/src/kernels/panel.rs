//! Small matrix products on packed operands.
//!
//! Both operands are packed into strips that the inner loop reads front to back: the left one into strips of
//! [`ROWS`] rows, the right one into panels of [`LANES`] columns. One tile of `ROWS x LANES` sums stays in registers
//! while the inner dimension runs. Every sum is one chain of fused multiply-adds from the first to the last element
//! of the inner dimension, so it depends on its own row and column alone.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::simd::{Features, LANES, vectorised};
use super::team;

/// Rows of a tile: 6 x 16 sums fill 12 of the 16 vector registers of AVX2. AVX-512 has registers for two tiles.
pub(crate) const ROWS: usize = 6;

/// One strip of the left operand: for each step of the inner dimension, the values of `ROWS` rows.
pub(crate) type LeftStrip = [f32; ROWS];

/// One panel of the right operand: for each step of the inner dimension, the values of `LANES` columns.
pub(crate) type RightPanel = [f32; LANES];

/// How a matrix lies in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strides {
    /// Distance between two rows.
    pub(crate) row: usize,
    /// Distance between two steps of the inner dimension.
    pub(crate) inner: usize,
}

/// Packs `rows x inner` values into strips of `WIDTH` rows; rows past the end are zero.
///
/// # Shapes
/// Returns `[ceil(rows / WIDTH), inner]` entries of `WIDTH` values.
#[inline(always)]
pub(crate) fn pack<const WIDTH: usize>(
    source: &[f32],
    rows: usize,
    inner: usize,
    strides: Strides,
) -> Vec<[f32; WIDTH]> {
    let mut packed = vec![[0.0; WIDTH]; rows.div_ceil(WIDTH) * inner];
    pack_into(&mut packed, source, rows, inner, strides);
    packed
}

/// As [`pack`], to a place that is all zeros.
#[inline(always)]
fn pack_into<const WIDTH: usize>(
    packed: &mut [[f32; WIDTH]],
    source: &[f32],
    rows: usize,
    inner: usize,
    strides: Strides,
) {
    for (strip, first_row) in packed.chunks_exact_mut(inner.max(1)).zip((0..rows).step_by(WIDTH)) {
        for row in first_row..rows.min(first_row + WIDTH) {
            let values = source[row * strides.row..].iter().step_by(strides.inner);
            for (entry, value) in strip.iter_mut().zip(values) {
                entry[row - first_row] = *value;
            }
        }
    }
}

/// Packs the columns of rows of `width` numbers into panels, so that the inner dimension of a product runs over the
/// rows; columns past the end are zero.
///
/// # Shapes
/// Returns `[ceil(width / LANES), rows]` entries of `LANES` values.
#[inline(always)]
pub(crate) fn pack_columns(source: &[f32], width: usize) -> Vec<RightPanel> {
    let rows = source.len() / width;
    let mut packed = vec![[0.0; LANES]; width.div_ceil(LANES) * rows];
    for (panel, column) in packed.chunks_exact_mut(rows).zip((0..width).step_by(LANES)) {
        for (entry, row) in panel.iter_mut().zip(source.chunks_exact(width)) {
            match row[column..].first_chunk() {
                Some(whole) => *entry = *whole,
                None => entry[..width - column].copy_from_slice(&row[column..]),
            }
        }
    }
    packed
}

/// Multiplies one strip with one panel.
#[inline(always)]
pub(crate) fn tile<const R: usize>(left: &[[f32; R]], right: &[RightPanel]) -> [[f32; LANES]; R] {
    tile_onto([[0.0; LANES]; R], left, right)
}

/// Multiplies one strip with one panel and goes on with sums that were begun.
#[inline(always)]
pub(crate) fn tile_onto<const R: usize>(
    mut sums: [[f32; LANES]; R],
    left: &[[f32; R]],
    right: &[RightPanel],
) -> [[f32; LANES]; R] {
    for (left, right) in left.iter().zip(right) {
        for row in 0..R {
            for lane in 0..LANES {
                sums[row][lane] = left[row].mul_add(right[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// Multiplies one strip with two panels at a time, so that each number of the strip is read once.
#[inline(always)]
fn tile_pair<const R: usize>(
    left: &[[f32; R]],
    first: &[RightPanel],
    second: &[RightPanel],
) -> [[[f32; LANES]; R]; 2] {
    let (mut first_sums, mut second_sums) = ([[0.0; LANES]; R], [[0.0; LANES]; R]);
    for ((left, first), second) in left.iter().zip(first).zip(second) {
        for row in 0..R {
            for lane in 0..LANES {
                first_sums[row][lane] = left[row].mul_add(first[lane], first_sums[row][lane]);
                second_sums[row][lane] = left[row].mul_add(second[lane], second_sums[row][lane]);
            }
        }
    }
    [first_sums, second_sums]
}

/// Multiplies `R` rows, which need not be packed as their length is known, with one panel; the inner dimension runs
/// over some of their columns, which are the rows of `right`.
#[inline(always)]
pub(crate) fn tile_rows<const R: usize, const N: usize>(
    left: &[[f32; N]; R],
    columns: Range<usize>,
    right: &[RightPanel],
) -> [[f32; LANES]; R] {
    let mut sums = [[0.0; LANES]; R];
    let columns = columns.start..columns.end.min(N);
    for (column, right) in columns.zip(right) {
        for row in 0..R {
            for lane in 0..LANES {
                sums[row][lane] = left[row][column].mul_add(right[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// Multiplies `R` columns, from `first` on, of some rows with one panel; the inner dimension runs over the rows.
#[inline(always)]
pub(crate) fn tile_columns<const R: usize, const N: usize>(
    left: &[[f32; N]],
    first: usize,
    right: &[RightPanel],
) -> [[f32; LANES]; R] {
    let mut sums = [[0.0; LANES]; R];
    assert!(first + R <= N, "the columns lie within the rows");
    for (left, right) in left.iter().zip(right) {
        let left = &left[first..first + R];
        for row in 0..R {
            for lane in 0..LANES {
                sums[row][lane] = left[row].mul_add(right[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// Writes a tile into a row-major matrix, cutting it at the edges.
#[inline(always)]
pub(crate) fn store<const R: usize>(
    sums: &[[f32; LANES]; R],
    output: &mut [f32],
    width: usize,
    first_row: usize,
    first_column: usize,
) {
    let columns = (width - first_column).min(LANES);
    let rows = (output.len() / width - first_row).min(R);
    for (row, sums) in sums.iter().enumerate().take(rows) {
        let start = (first_row + row) * width + first_column;
        // Whole rows are one vector, for which nothing has to be called.
        match output[start..start + columns].as_mut_array::<LANES>() {
            Some(whole) => *whole = *sums,
            None => output[start..start + columns].copy_from_slice(&sums[..columns]),
        }
    }
}

/// A step of a panel where a line of the processor's cache begins: read as one vector, it lies in one line.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct AlignedStep(RightPanel);

/// A weight matrix `[outputs, inputs]`, packed once to be multiplied with many rows.
#[derive(Debug, Clone)]
pub(crate) struct PackedLinear {
    /// `[ceil(outputs / LANES), inputs]`.
    panels: Vec<AlignedStep>,
    inputs: usize,
    outputs: usize,
}

impl PackedLinear {
    /// Packs a row-major weight `[outputs, inputs]`.
    pub(crate) fn new(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        let mut panels = vec![AlignedStep::zeroed(); outputs.div_ceil(LANES) * inputs];
        let steps: &mut [RightPanel] = bytemuck::cast_slice_mut(&mut panels);
        pack_into(steps, weight, outputs, inputs, Strides { row: inputs, inner: 1 });
        Self { panels, inputs, outputs }
    }

    /// A product with some panels, which make so many columns.
    fn product<'a>(&self, rows: &'a [f32], panels: &'a [RightPanel], outputs: usize) -> Product<'a> {
        Product { rows, panels, inputs: self.inputs, outputs }
    }

    /// The shape of the weight, `[outputs, inputs]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    /// Packs rows to be multiplied with the panels; rows that fill up the last strip are zero.
    pub(super) fn strips(&self, rows: &[f32]) -> Vec<LeftStrip> {
        pack(rows, rows.len() / self.inputs, self.inputs, Strides { row: self.inputs, inner: 1 })
    }

    /// `[ceil(outputs / LANES), inputs]`.
    pub(super) fn panels(&self) -> &[RightPanel] {
        bytemuck::cast_slice(&self.panels)
    }

    /// Computes `rows x weight^T`. A row of the result depends on its own input row alone, bit for bit.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`; returns `[n, outputs]`.
    pub(crate) fn forward(&self, rows: &[f32]) -> Vec<f32> {
        /// Rows up to which threads share the panels of the weight; above, they share the rows.
        const FEW_ROWS: usize = 8 * ROWS;
        /// Numbers of the rows of a part: half a megabyte, which stays in the second cache of most processors. The more rows,
        /// the less often the weight is read.
        const PART: usize = 1 << 17;

        let count = rows.len() / self.inputs;
        let mut output = vec![0.0; count * self.outputs];
        if count > FEW_ROWS {
            let most = (PART / self.inputs / ROWS * ROWS).max(FEW_ROWS);
            let rows_per_part = count.div_ceil(team::threads()).next_multiple_of(ROWS).min(most);
            team::chunks(&mut output, rows_per_part * self.outputs, |index, output| {
                let count = output.len() / self.outputs;
                let rows = &rows[index * rows_per_part * self.inputs..][..count * self.inputs];
                self.product(rows, self.panels(), self.outputs).run(output);
            });
            return output;
        }
        // Few rows wait for the weight to be read, so threads share its panels. A part's columns lie apart from each
        // other in the result, so it has a place of its own for them.
        let parts = team::parts(count * self.inputs * self.outputs);
        let panels_per_part = self.outputs.div_ceil(LANES).div_ceil(parts);
        let columns = panels_per_part * LANES;
        let mut shares = vec![0.0; self.panels.len() / self.inputs * LANES * count];
        team::chunks(&mut shares, columns * count, |index, share| {
            let first = index * panels_per_part * self.inputs;
            let width = share.len() / count;
            let panels = &self.panels()[first..][..width / LANES * self.inputs];
            self.product(rows, panels, width).run(share);
        });
        for (share, first) in shares.chunks(columns * count).zip((0..).step_by(columns)) {
            let width = share.len() / count;
            let kept = width.min(self.outputs - first);
            for (row, share) in output.chunks_exact_mut(self.outputs).zip(share.chunks_exact(width)) {
                row[first..first + kept].copy_from_slice(&share[..kept]);
            }
        }
        output
    }

    /// Bytes that a product reads of the weight.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.panels.as_slice())
    }
}

/// Rows, panels of a weight and where their product goes.
struct Product<'a> {
    /// `[n, inputs]`.
    rows: &'a [f32],
    /// `[ceil(outputs / LANES), inputs]`.
    panels: &'a [RightPanel],
    inputs: usize,
    outputs: usize,
}

impl Product<'_> {
    /// Computes the product `[n, outputs]`, with two panels at a time where the processor has registers for them.
    fn run(&self, output: &mut [f32]) {
        if Features::detect() == Features::Avx512 {
            linear_rows_in_pairs(self, output);
        } else {
            linear_rows(self, output);
        }
    }

    #[inline(always)]
    fn all_strips<const IN_PAIRS: bool>(&self, output: &mut [f32]) {
        let count = self.rows.len() / self.inputs;
        let whole = count - count % ROWS;
        self.strips::<ROWS, IN_PAIRS>(0..whole, output);
        match count - whole {
            0 => {}
            1 => self.strips::<1, IN_PAIRS>(whole..count, output),
            2 => self.strips::<2, IN_PAIRS>(whole..count, output),
            3 => self.strips::<3, IN_PAIRS>(whole..count, output),
            4 => self.strips::<4, IN_PAIRS>(whole..count, output),
            _ => self.strips::<{ ROWS - 1 }, IN_PAIRS>(whole..count, output),
        }
    }

    /// Computes some rows, a multiple of `R`.
    #[inline(always)]
    fn strips<const R: usize, const IN_PAIRS: bool>(&self, rows: Range<usize>, output: &mut [f32]) {
        let Self { panels, inputs, outputs, .. } = *self;
        let values = &self.rows[rows.start * inputs..rows.end * inputs];
        let packed = pack::<R>(values, rows.len(), inputs, Strides { row: inputs, inner: 1 });
        let output = &mut output[rows.start * outputs..rows.end * outputs];
        multiply_strips::<R, IN_PAIRS>(&packed, panels, inputs, outputs, output);
    }
}

/// Multiplies strips of `R` rows with panels that make so many columns.
///
/// # Shapes
/// `output` is `[rows, outputs]`; rows and columns that only fill up the last strip and panel are left out.
#[inline(always)]
pub(super) fn multiply_strips<const R: usize, const IN_PAIRS: bool>(
    strips: &[[f32; R]],
    panels: &[RightPanel],
    inputs: usize,
    outputs: usize,
    output: &mut [f32],
) {
    let together = if IN_PAIRS { 2 } else { 1 };
    for (group, column) in panels.chunks(together * inputs).zip((0..outputs).step_by(together * LANES)) {
        let (first, second) = group.split_at(inputs);
        for (strip, row) in strips.chunks_exact(inputs).zip((0..).step_by(R)) {
            if !IN_PAIRS || second.is_empty() {
                store(&tile(strip, first), output, outputs, row, column);
            } else {
                let [left, right] = tile_pair(strip, first, second);
                store(&left, output, outputs, row, column);
                store(&right, output, outputs, row, column + LANES);
            }
        }
    }
}

vectorised! {
    fn linear_rows(product: &Product<'_>, output: &mut [f32]) {
        product.all_strips::<false>(output);
    }
}

vectorised! {
    fn linear_rows_in_pairs(product: &Product<'_>, output: &mut [f32]) {
        product.all_strips::<true>(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (inputs, outputs, count) = (37, 45, 200);
        let weight: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 31 % 97) as f32 - 48.0) / 50.0).collect();
        let rows: Vec<f32> = (0..inputs * count).map(|i| ((i * 17 % 89) as f32 - 44.0) / 40.0).collect();
        let linear = PackedLinear::new(&weight, outputs, inputs);
        let together = linear.forward(&rows);
        for (row, values) in rows.chunks(inputs).enumerate() {
            let alone = linear.forward(values);
            assert_eq!(alone, together[row * outputs..(row + 1) * outputs], "row {row}");
            for (column, value) in alone.iter().enumerate() {
                let exact: f64 =
                    (0..inputs).map(|k| f64::from(values[k]) * f64::from(weight[column * inputs + k])).sum();
                assert!((f64::from(*value) - exact).abs() < 1e-4);
            }
        }
    }
}
