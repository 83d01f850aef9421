//! Keys and values of tokens that a model has seen, in pages, and attention of new tokens over them.
//!
//! A page holds 16 successive tokens in every layer. Within it they are stored as the panels that
//! [`super::panel::tile`] multiplies with, so that nothing is packed again when a token comes. A query's scores, their
//! softmax and the mix of the values depend on that query and on the tokens before it alone, whatever stands in the
//! same step, in whichever pages the tokens lie and whoever else reads them. [`one`] is the same for a single token.

mod one;

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::attention::{Heads, visible};
use super::panel::{RightPanel, Strides, pack, store, tile_onto};
use super::rope::RopeTable;
use super::simd::{LANES, softmax, vectorised};

/// Tokens of a page.
pub(crate) const PAGE_TOKENS: usize = LANES;
/// Queries that are multiplied with a page at a time.
const QUERIES: usize = 6;

/// How exactly keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheNumber {
    /// As they are computed.
    #[default]
    F32,
    /// Rounded to half precision, in half the memory.
    F16,
}

/// What a page has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageShape {
    pub(crate) layers: usize,
    pub(crate) heads: Heads,
    pub(crate) number: CacheNumber,
}

impl PageShape {
    /// Panels of the keys of one head of one layer: one for each dimension.
    fn key_panels(self) -> usize {
        self.heads.head_dim
    }

    /// Panels of the values of one head of one layer: for every 16 dimensions, one for each token.
    fn value_panels(self) -> usize {
        self.heads.head_dim.div_ceil(LANES) * PAGE_TOKENS
    }

    fn panels(self) -> usize {
        self.layers * self.heads.key_value * (self.key_panels() + self.value_panels())
    }

    /// Bytes of a page.
    pub(crate) fn bytes(self) -> usize {
        let number = match self.number {
            CacheNumber::F32 => size_of::<f32>(),
            CacheNumber::F16 => size_of::<f16>(),
        };
        self.panels() * LANES * number
    }

    /// Where the keys and the values of one head of one layer lie.
    fn places(self, layer: usize, head: usize) -> [Range<usize>; 2] {
        let (keys, values) = (self.key_panels(), self.value_panels());
        let start = (layer * self.heads.key_value + head) * (keys + values);
        [start..start + keys, start + keys..start + keys + values]
    }
}

/// Keys and values of [`PAGE_TOKENS`] successive tokens.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    shape: PageShape,
    numbers: Numbers,
}

#[derive(Debug, Clone)]
enum Numbers {
    F32(Vec<[f32; LANES]>),
    F16(Vec<[u16; LANES]>),
}

impl Page {
    /// Makes an empty page.
    pub(crate) fn new(shape: PageShape) -> Self {
        let numbers = match shape.number {
            CacheNumber::F32 => Numbers::F32(vec![[0.0; LANES]; shape.panels()]),
            CacheNumber::F16 => Numbers::F16(vec![[0; LANES]; shape.panels()]),
        };
        Self { shape, numbers }
    }

    /// Makes a used page empty again. What stands in places of tokens that do not exist is multiplied by zero, so it
    /// has to be a number.
    pub(crate) fn clear(&mut self) {
        match &mut self.numbers {
            Numbers::F32(panels) => panels.fill([0.0; LANES]),
            Numbers::F16(panels) => panels.fill([0; LANES]),
        }
    }

    /// Stores the key and the value of one token, for one head of one layer.
    fn put(&mut self, [layer, head, token]: [usize; 3], key: &[f32], value: &[f32]) {
        let [keys, values] = self.shape.places(layer, head);
        match &mut self.numbers {
            Numbers::F32(panels) => put(panels, [keys.start, values.start, token], key, value),
            Numbers::F16(panels) => put(panels, [keys.start, values.start, token], key, value),
        }
    }
}

/// A number of a page.
trait Number: Copy {
    fn narrow(value: f32) -> Self;

    /// Panels in single precision: as they are, else in a buffer that is as long.
    fn widen<'a>(panels: &'a [[Self; LANES]], buffer: &'a mut [RightPanel]) -> &'a [RightPanel];
}

impl Number for f32 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn widen<'a>(panels: &'a [[Self; LANES]], _: &'a mut [RightPanel]) -> &'a [RightPanel] {
        panels
    }
}

impl Number for u16 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        // What is too large for a half becomes the largest, so that the product with zero stays zero.
        f16::from_f32(value.clamp(-65_504.0, 65_504.0)).to_bits()
    }

    #[inline(always)]
    fn widen<'a>(panels: &'a [[Self; LANES]], buffer: &'a mut [RightPanel]) -> &'a [RightPanel] {
        for (wide, panel) in buffer.iter_mut().zip(panels) {
            *wide = widened(panel);
        }
        &buffer[..panels.len()]
    }
}

/// Moves exponent and fraction into place and multiplies by 2^112, which mends the bias of the exponent and the numbers
/// that are subnormal in halves: exact for all that are finite, in operations that compilers vectorise.
#[inline(always)]
fn widened(panel: &[u16; LANES]) -> RightPanel {
    const BIAS: f32 = f32::from_bits((127 + 112) << 23);
    let mut widened = [0.0; LANES];
    for lane in 0..LANES {
        let half = u32::from(panel[lane]);
        let magnitude = f32::from_bits((half & 0x7fff) << 13) * BIAS;
        widened[lane] = f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16);
    }
    widened
}

fn put<N: Number>(panels: &mut [[N; LANES]], [keys, values, token]: [usize; 3], key: &[f32], value: &[f32]) {
    for (panel, key) in panels[keys..].iter_mut().zip(key) {
        panel[token] = N::narrow(*key);
    }
    let places = panels[values + token..].iter_mut().step_by(PAGE_TOKENS);
    for (panel, value) in places.zip(value.chunks(LANES)) {
        for (place, value) in panel.iter_mut().zip(value) {
            *place = N::narrow(*value);
        }
    }
}

/// Rotates the queries and keys of new tokens in place, and stores the keys and values.
///
/// # Shapes
/// `qkv` is `[new tokens, qkv_width]`; `first` is the position of the first of them.
///
/// # Panics
/// Panics where a page that is written to is missing or shared.
pub(crate) fn push(pages: &mut [Arc<Page>], layer: usize, first: usize, qkv: &mut [f32], rope: &RopeTable) {
    let Some(shape) = pages.first().map(|page| page.shape) else { return };
    let heads = shape.heads;
    let dim = heads.head_dim;
    for (position, row) in (first..).zip(qkv.chunks_exact_mut(heads.qkv_width())) {
        let (queries, rest) = row.split_at_mut(heads.query * dim);
        let (keys, values) = rest.split_at_mut(heads.key_value * dim);
        for query in queries.chunks_exact_mut(dim) {
            rope.rotate(query, position, heads.scale());
        }
        let page =
            Arc::get_mut(&mut pages[position / PAGE_TOKENS]).expect("who writes to a page has it alone");
        for (head, (key, value)) in keys.chunks_exact_mut(dim).zip(values.chunks_exact(dim)).enumerate() {
            rope.rotate(key, position, 1.0);
            page.put([layer, head, position % PAGE_TOKENS], key, value);
        }
    }
}

/// Rows whose queries attend: successive tokens of one sequence, whose keys and values are in its pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries<'a> {
    pub(crate) pages: &'a [Arc<Page>],
    pub(crate) layer: usize,
    /// The position of the first token.
    pub(crate) first: usize,
    /// How many tokens each sees, itself included; all where there is none.
    pub(crate) window: Option<usize>,
    /// `[tokens, qkv_width]`, after [`push`].
    pub(crate) qkv: &'a [f32],
}

impl Queries<'_> {
    /// Attends with the query heads of one key-value head.
    ///
    /// # Shapes
    /// `output` is `[tokens, width]`; the group's results stand from `column` on.
    pub(crate) fn attend(self, head: usize, output: &mut [f32], width: usize, column: usize) {
        let Some(page) = self.pages.first() else { return };
        match page.numbers {
            Numbers::F32(_) => attend_f32(self, head, output, width, column),
            Numbers::F16(_) => attend_f16(self, head, output, width, column),
        }
    }
}

vectorised! {
    fn attend_f32(queries: Queries<'_>, head: usize, output: &mut [f32], width: usize, column: usize) {
        attend_group(queries, head, Page::singles, &mut Output { values: output, width, column });
    }
}

vectorised! {
    fn attend_f16(queries: Queries<'_>, head: usize, output: &mut [f32], width: usize, column: usize) {
        attend_group(queries, head, Page::halves, &mut Output { values: output, width, column });
    }
}

impl Page {
    /// The panels, where they are in single precision.
    #[inline(always)]
    fn singles(&self) -> &[[f32; LANES]] {
        match &self.numbers {
            Numbers::F32(panels) => panels,
            Numbers::F16(_) => &[],
        }
    }

    /// The panels, where they are in half precision.
    #[inline(always)]
    fn halves(&self) -> &[[u16; LANES]] {
        match &self.numbers {
            Numbers::F16(panels) => panels,
            Numbers::F32(_) => &[],
        }
    }
}

/// Where results go.
struct Output<'a> {
    values: &'a mut [f32],
    width: usize,
    column: usize,
}

/// Attends in strips of queries: the heads of the group, of as many tokens as fit.
#[inline(always)]
fn attend_group<'a, N: Number + 'a>(
    queries: Queries<'a>,
    head: usize,
    panels: impl Fn(&'a Page) -> &'a [[N; LANES]] + Copy,
    output: &mut Output<'_>,
) {
    let heads = queries.pages[0].shape.heads;
    let rows = queries.qkv.len() / heads.qkv_width() * heads.group();
    for (first, count) in strips(rows) {
        let strip = Strip { queries, head, heads, first };
        match count {
            1 => attend_strip::<N, 1>(strip, panels, output),
            2 => attend_strip::<N, 2>(strip, panels, output),
            3 => attend_strip::<N, 3>(strip, panels, output),
            4 => attend_strip::<N, 4>(strip, panels, output),
            _ => attend_strip::<N, QUERIES>(strip, panels, output),
        }
    }
}

/// Rows in strips of as many as are multiplied at a time: the first of each, and how many.
fn strips(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let count = match rows - first {
            0 => return None,
            5 => 4,
            left => left.min(QUERIES),
        };
        first += count;
        Some((first - count, count))
    })
}

/// Some queries of a group: row `i` is head `i % group` of token `i / group`.
#[derive(Clone, Copy)]
struct Strip<'a> {
    queries: Queries<'a>,
    head: usize,
    heads: Heads,
    first: usize,
}

impl Strip<'_> {
    /// The token of a row, counted from the first of the queries, and its head within the group.
    #[inline(always)]
    fn place(&self, row: usize) -> (usize, usize) {
        let row = self.first + row;
        (row / self.heads.group(), row % self.heads.group())
    }
}

/// Attends with `R` queries.
#[inline(always)]
fn attend_strip<'a, N: Number + 'a, const R: usize>(
    strip: Strip<'a>,
    panels: impl Fn(&'a Page) -> &'a [[N; LANES]],
    output: &mut Output<'_>,
) {
    let Strip { queries, head, heads, .. } = strip;
    let dim = heads.head_dim;
    let shape = queries.pages[0].shape;
    let [keys, values] = shape.places(queries.layer, head);
    let seen: [Range<usize>; R] =
        std::array::from_fn(|row| visible(queries.first + strip.place(row).0, queries.window));
    // Scores begin with the page that holds the first token seen by any.
    let start = seen[0].start / PAGE_TOKENS * PAGE_TOKENS;
    let end = seen[R - 1].end;
    let pages = &queries.pages[start / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS)];
    let padded = pages.len() * PAGE_TOKENS;

    let mut left = vec![[0.0; R]; dim];
    for row in 0..R {
        let (token, member) = strip.place(row);
        let start = token * heads.qkv_width() + (head * heads.group() + member) * dim;
        for (entry, value) in left.iter_mut().zip(&queries.qkv[start..start + dim]) {
            entry[row] = *value;
        }
    }
    let mut scores = vec![0.0; R * padded];
    let mut buffer = vec![[0.0; LANES]; dim.max(PAGE_TOKENS)];
    for (page, column) in pages.iter().zip((0..).step_by(PAGE_TOKENS)) {
        let keys = N::widen(&panels(page)[keys.clone()], &mut buffer);
        let sums = tile_onto([[0.0; LANES]; R], &left, keys);
        store(&sums, &mut scores, padded, 0, column);
    }
    for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
        let visible = seen[row].start - start..seen[row].end - start;
        scores[..visible.start].fill(0.0);
        scores[visible.end..].fill(0.0);
        softmax(&mut scores[visible]);
    }
    let weights = pack::<R>(&scores, R, padded, Strides { row: padded, inner: 1 });
    for (index, first) in (0..dim).step_by(LANES).enumerate() {
        let mut sums = [[0.0; LANES]; R];
        for (page, weights) in pages.iter().zip(weights.chunks_exact(PAGE_TOKENS)) {
            let place = values.start + index * PAGE_TOKENS;
            let values = N::widen(&panels(page)[place..place + PAGE_TOKENS], &mut buffer);
            sums = tile_onto(sums, weights, values);
        }
        let count = LANES.min(dim - first);
        for (row, sums) in sums.iter().enumerate() {
            let (token, member) = strip.place(row);
            let start = token * output.width + output.column + member * dim + first;
            output.values[start..start + count].copy_from_slice(&sums[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_widened_exactly() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            let widened = widened(&[bits; LANES])[3];
            assert_eq!(widened.to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#x}");
        }
        assert_eq!(f16::from_bits(<u16 as Number>::narrow(1e9)), f16::MAX);
    }
}
