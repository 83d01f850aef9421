//! Rotary position embedding in the half-split form of Hugging Face Llama: dimension `d` is paired with
//! `d + head_dim / 2`.
//!
//! Source: Su et al., "RoFormer", 2021, section 3.2; the pairing is that of `transformers`.

use std::ops::Range;

/// Cosines and sines of a range of positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    positions: Range<usize>,
}

impl RopeTable {
    /// Computes the table for some positions from the angle that each pair of dimensions turns by from one position
    /// to the next. Cosines and sines are multiplied by `scale`.
    pub(crate) fn new(positions: Range<usize>, frequencies: &[f32], scale: f32) -> Self {
        // `transformers` computes the angle in f32; so does this, to agree at long range.
        let angles = positions
            .clone()
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency));
        let (cos, sin) = angles
            .map(|angle| {
                let angle = f64::from(angle);
                (angle.cos() as f32 * scale, angle.sin() as f32 * scale)
            })
            .unzip();
        Self { cos, sin, half: frequencies.len(), positions }
    }

    /// Returns the positions that the table covers.
    pub(crate) fn positions(&self) -> Range<usize> {
        self.positions.clone()
    }

    /// Returns the cosines and sines of a position, `head_dim / 2` of each.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let index = position - self.positions.start;
        let range = index * self.half..(index + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// Rotates one head at a position and scales it.
    #[inline(always)]
    pub(crate) fn rotate(&self, head: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = self.at(position);
        let (first, second) = head.split_at_mut(self.half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (x, y) = (*a * scale, *b * scale);
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }

    /// Undoes [`Self::rotate`]'s rotation and applies the scale: the derivative of `rotate`.
    #[inline(always)]
    pub(crate) fn rotate_back(&self, head: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = self.at(position);
        let (first, second) = head.split_at_mut(self.half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (x, y) = (*a * scale, *b * scale);
            *a = x * cos + y * sin;
            *b = y * cos - x * sin;
        }
    }
}
