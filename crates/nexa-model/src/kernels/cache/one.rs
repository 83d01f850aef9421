//! Attention of one token over many: in parts small enough that all threads have some, however few heads there are.
//!
//! Scores of pages depend on no other page, and dimensions of the mixed values on no other dimension, so both can be computed
//! apart, each in the order in which [`super::Queries::attend`] computes it: the result is the same to the last bit.

use std::ops::Range;

use super::super::panel::{Strides, pack, tile_onto};
use super::super::simd::{LANES, prefetch, softmax, vectorised};
use super::{Number, Numbers, PAGE_TOKENS, Page, QUERIES, Queries, RightPanel, strips, visible};

impl Queries<'_> {
    /// The pages that one token sees.
    pub(crate) fn seen_pages(&self) -> Range<usize> {
        let seen = visible(self.first, self.window);
        seen.start / PAGE_TOKENS..seen.end.div_ceil(PAGE_TOKENS)
    }

    /// Scores some of the pages with the queries of the group of one key-value head.
    ///
    /// # Shapes
    /// `scores` is `[pages, group]`, with the tokens of a page in each entry.
    pub(crate) fn score(self, head: usize, pages: Range<usize>, scores: &mut [RightPanel]) {
        match self.pages[pages.start].numbers {
            Numbers::F32(_) => score_f32(self, head, pages, scores),
            Numbers::F16(_) => score_f16(self, head, pages, scores),
        }
    }

    /// Mixes the values of the seen pages by their scores, in some blocks of [`LANES`] dimensions.
    ///
    /// # Shapes
    /// `scores` is `[seen pages, group]`, `output` is `[blocks, group]`.
    pub(crate) fn mix(
        self,
        head: usize,
        scores: &[RightPanel],
        blocks: Range<usize>,
        output: &mut [RightPanel],
    ) {
        match self.pages[self.seen_pages().start].numbers {
            Numbers::F32(_) => mix_f32(self, head, scores, blocks, output),
            Numbers::F16(_) => mix_f16(self, head, scores, blocks, output),
        }
    }
}

vectorised! {
    fn score_f32(queries: Queries<'_>, head: usize, pages: Range<usize>, scores: &mut [RightPanel]) {
        score_group(queries, head, pages, Page::singles, scores);
    }
}

vectorised! {
    fn score_f16(queries: Queries<'_>, head: usize, pages: Range<usize>, scores: &mut [RightPanel]) {
        score_group(queries, head, pages, Page::halves, scores);
    }
}

vectorised! {
    fn mix_f32(queries: Queries<'_>, head: usize, scores: &[RightPanel], blocks: Range<usize>, output: &mut [RightPanel]) {
        mix_group(queries, head, Page::singles, scores, blocks, output);
    }
}

vectorised! {
    fn mix_f16(queries: Queries<'_>, head: usize, scores: &[RightPanel], blocks: Range<usize>, output: &mut [RightPanel]) {
        mix_group(queries, head, Page::halves, scores, blocks, output);
    }
}

#[inline(always)]
fn score_group<'a, N: Number + 'a>(
    queries: Queries<'a>,
    head: usize,
    pages: Range<usize>,
    panels: impl Fn(&'a Page) -> &'a [[N; LANES]] + Copy,
    scores: &mut [RightPanel],
) {
    let shape = queries.pages[0].shape;
    let [keys, _] = shape.places(queries.layer, head);
    let (group, dim) = (shape.heads.group(), shape.heads.head_dim);
    let rows = &queries.qkv[head * group * dim..][..group * dim];
    let mut buffer = vec![[0.0; LANES]; dim];
    for (first, count) in strips(group) {
        let left = &rows[first * dim..(first + count) * dim];
        for (at, scores) in pages.clone().zip(scores.chunks_exact_mut(group)) {
            if let Some(next) = queries.pages.get(at + 1) {
                panels(next)[keys.clone()].iter().for_each(|panel| prefetch(panel, 0));
            }
            let page = &queries.pages[at];
            let keys = N::widen(&panels(page)[keys.clone()], &mut buffer);
            let scores = &mut scores[first..first + count];
            match count {
                1 => multiply::<1>(left, dim, keys, scores),
                2 => multiply::<2>(left, dim, keys, scores),
                3 => multiply::<3>(left, dim, keys, scores),
                4 => multiply::<4>(left, dim, keys, scores),
                _ => multiply::<QUERIES>(left, dim, keys, scores),
            }
        }
    }
}

#[inline(always)]
fn mix_group<'a, N: Number + 'a>(
    queries: Queries<'a>,
    head: usize,
    panels: impl Fn(&'a Page) -> &'a [[N; LANES]] + Copy,
    scores: &[RightPanel],
    blocks: Range<usize>,
    output: &mut [RightPanel],
) {
    let shape = queries.pages[0].shape;
    let [_, values] = shape.places(queries.layer, head);
    let group = shape.heads.group();
    let seen = visible(queries.first, queries.window);
    let pages = queries.seen_pages();
    let padded = pages.len() * PAGE_TOKENS;
    let visible = seen.start - pages.start * PAGE_TOKENS..seen.end - pages.start * PAGE_TOKENS;
    let mut weights = vec![0.0; group * padded];
    for (member, weights) in weights.chunks_exact_mut(padded).enumerate() {
        let own = scores.iter().skip(member).step_by(group);
        for (weights, scores) in weights.chunks_exact_mut(PAGE_TOKENS).zip(own) {
            weights.copy_from_slice(scores);
        }
        weights[..visible.start].fill(0.0);
        weights[visible.end..].fill(0.0);
        softmax(&mut weights[visible.clone()]);
    }
    let mut buffer = vec![[0.0; LANES]; PAGE_TOKENS];
    for (first, count) in strips(group) {
        let weights = &weights[first * padded..(first + count) * padded];
        for (block, output) in blocks.clone().zip(output.chunks_exact_mut(group)) {
            let place = values.start + block * PAGE_TOKENS;
            let values =
                queries.pages[pages.clone()].iter().map(|page| &panels(page)[place..place + PAGE_TOKENS]);
            let output = &mut output[first..first + count];
            match count {
                1 => mix_strip::<N, 1>(weights, padded, values, &mut buffer, output),
                2 => mix_strip::<N, 2>(weights, padded, values, &mut buffer, output),
                3 => mix_strip::<N, 3>(weights, padded, values, &mut buffer, output),
                4 => mix_strip::<N, 4>(weights, padded, values, &mut buffer, output),
                _ => mix_strip::<N, QUERIES>(weights, padded, values, &mut buffer, output),
            }
        }
    }
}

/// Multiplies `R` rows of `inner` numbers with one panel.
#[inline(always)]
fn multiply<const R: usize>(left: &[f32], inner: usize, right: &[RightPanel], output: &mut [RightPanel]) {
    let mut sums = [[0.0; LANES]; R];
    for (at, right) in right.iter().enumerate() {
        for row in 0..R {
            let left = left[row * inner + at];
            for lane in 0..LANES {
                sums[row][lane] = left.mul_add(right[lane], sums[row][lane]);
            }
        }
    }
    output.copy_from_slice(&sums);
}

/// Mixes a block of dimensions with the weights of `R` queries, page after page.
#[inline(always)]
fn mix_strip<'a, N: Number + 'a, const R: usize>(
    weights: &[f32],
    padded: usize,
    values: impl Iterator<Item = &'a [[N; LANES]]>,
    buffer: &mut [RightPanel],
    output: &mut [RightPanel],
) {
    let weights = pack::<R>(weights, R, padded, Strides { row: padded, inner: 1 });
    let mut sums = [[0.0; LANES]; R];
    for (values, weights) in values.zip(weights.chunks_exact(PAGE_TOKENS)) {
        sums = tile_onto(sums, weights, N::widen(values, buffer));
    }
    output.copy_from_slice(&sums);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::attention::Heads;
    use super::super::{CacheNumber, PageShape};
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn in_parts_it_is_what_it_is_in_one_piece() {
        let shapes = [(3, 1, 20), (8, 1, 16), (10, 2, 40), (5, 5, 33)];
        for (query, key_value, head_dim) in shapes {
            let heads = Heads { query, key_value, head_dim };
            for number in [CacheNumber::F32, CacheNumber::F16] {
                for (tokens, window) in [(1, None), (16, None), (17, Some(5)), (100, None), (100, Some(40))] {
                    check(PageShape { layers: 2, heads, number }, tokens, window);
                }
            }
        }
    }

    fn check(shape: PageShape, tokens: usize, window: Option<usize>) {
        let PageShape { heads, .. } = shape;
        let (group, dim) = (heads.group(), heads.head_dim);
        let mut pages: Vec<Page> = (0..tokens.div_ceil(PAGE_TOKENS)).map(|_| Page::new(shape)).collect();
        for token in 0..tokens {
            for head in 0..heads.key_value {
                let [key, value] = [1, 2].map(|which| numbers(dim, 31 * token + 7 * head + which));
                pages[token / PAGE_TOKENS].put([1, head, token % PAGE_TOKENS], &key, &value);
            }
        }
        let pages: Vec<Arc<Page>> = pages.into_iter().map(Arc::new).collect();
        let qkv = numbers(heads.qkv_width(), 5);
        let queries = Queries { pages: &pages, layer: 1, first: tokens - 1, window, qkv: &qkv };
        for head in 0..heads.key_value {
            let mut whole = vec![0.0; group * dim];
            queries.attend(head, &mut whole, group * dim, 0);
            let seen = queries.seen_pages();
            let mut scores = vec![[0.0; LANES]; seen.len() * group];
            for (page, scores) in seen.zip(scores.chunks_exact_mut(group)) {
                queries.score(head, page..page + 1, scores);
            }
            let blocks = dim.div_ceil(LANES);
            let mut mixed = vec![[0.0; LANES]; blocks * group];
            for (block, mixed) in mixed.chunks_exact_mut(group).enumerate() {
                queries.mix(head, &scores, block..block + 1, mixed);
            }
            for member in 0..group {
                let own = mixed.iter().skip(member).step_by(group).flatten().take(dim);
                let own: Vec<f32> = own.copied().collect();
                assert_eq!(own, whole[member * dim..(member + 1) * dim], "{shape:?} {tokens} {window:?}");
            }
        }
    }
}
