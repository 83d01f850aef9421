//! Rotary position embedding in the half-split form of Hugging Face Llama: dimension `d` is paired with
//! `d + head_dim / 2`.
//!
//! Source: Su et al., "RoFormer", 2021, section 3.2; the pairing is that of `transformers`.

/// Cosines and sines of every position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RopeTable {
    /// Computes the table for `positions` positions.
    pub(crate) fn new(positions: usize, head_dim: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angles = (0..positions).flat_map(|position| {
            (0..half).map(move |d| {
                // `transformers` computes the frequency and the angle in f32; so does this, to agree at long range.
                let frequency = 1.0 / (theta.powf((2 * d) as f64 / head_dim as f64) as f32);
                position as f32 * frequency
            })
        });
        let (sin, cos) =
            angles.map(|angle| (f64::from(angle).sin() as f32, f64::from(angle).cos() as f32)).unzip();
        Self { cos, sin, half }
    }

    /// Returns the cosines and sines of a position, `head_dim / 2` of each.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
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
