//! The rotations of a decoder: which frequencies its config asks for, and tables of them as far as they are needed.
//!
//! Source: the definitions of `transformers` (`modeling_rope_utils`), in f32 where it is f32; Peng et al., "YaRN",
//! 2023, for that scaling.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::DecoderConfig;
use crate::config::{Llama3Scaling, RopeScaling, YarnScaling};
use crate::kernels::rope::RopeTable;

/// Rotations for every sequence that comes, computed once as far as the longest so far.
#[derive(Debug)]
pub(crate) struct Rope {
    head_dim: usize,
    theta: f64,
    scaling: Option<RopeScaling>,
    max_position_embeddings: usize,
    frequencies: Vec<f32>,
    scale: f32,
    table: Mutex<Arc<RopeTable>>,
}

impl Rope {
    /// Prepares the rotations of a decoder.
    pub(crate) fn new(config: &DecoderConfig) -> Self {
        let (head_dim, theta) = (config.head_dim, config.rope_theta);
        let frequencies = plain_frequencies(head_dim, theta);
        let (frequencies, scale) = match config.rope_scaling {
            None | Some(RopeScaling::Dynamic { .. }) => (frequencies, 1.0),
            Some(RopeScaling::Linear { factor }) => {
                (frequencies.iter().map(|frequency| frequency / factor as f32).collect(), 1.0)
            }
            Some(RopeScaling::Yarn(scaling)) => yarn(scaling, &frequencies, theta),
            Some(RopeScaling::Llama3(scaling)) => (llama3(scaling, &frequencies), 1.0),
        };
        Self::of(config, frequencies, scale)
    }

    /// Prepares rotations that turn nothing, for layers without positions.
    pub(crate) fn still(config: &DecoderConfig) -> Self {
        let frequencies = vec![0.0; config.head_dim / 2];
        Self { scaling: None, ..Self::of(config, frequencies, 1.0) }
    }

    fn of(config: &DecoderConfig, frequencies: Vec<f32>, scale: f32) -> Self {
        Self {
            head_dim: config.head_dim,
            theta: config.rope_theta,
            scaling: config.rope_scaling,
            max_position_embeddings: config.max_position_embeddings,
            table: Mutex::new(Arc::new(RopeTable::new(0..0, &frequencies, scale))),
            frequencies,
            scale,
        }
    }

    /// Returns a table that covers the newest positions of a sequence, which ends with the last of them.
    ///
    /// With dynamic scaling the frequencies follow the sequence's length, so that keys that were rotated earlier keep
    /// the rotation of the length at that time, as they do in `transformers`. Whoever feeds a sequence in parts stops before
    /// that.
    pub(crate) fn table(&self, positions: Range<usize>) -> Arc<RopeTable> {
        /// Positions that are computed at least.
        const FIRST: usize = 256;

        if let Some(RopeScaling::Dynamic { factor }) = self.scaling
            && positions.end > self.max_position_embeddings
        {
            let growth = factor * positions.end as f64 / self.max_position_embeddings as f64 - (factor - 1.0);
            let exponent = self.head_dim as f64 / (self.head_dim as f64 - 2.0);
            let frequencies = plain_frequencies(self.head_dim, self.theta * growth.powf(exponent));
            return Arc::new(RopeTable::new(positions, &frequencies, self.scale));
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions().end < positions.end {
            let end = positions.end.next_power_of_two().max(FIRST);
            *table = Arc::new(RopeTable::new(0..end, &self.frequencies, self.scale));
        }
        table.clone()
    }
}

fn plain_frequencies(head_dim: usize, theta: f64) -> Vec<f32> {
    (0..head_dim / 2).map(|d| 1.0 / (theta.powf((2 * d) as f64 / head_dim as f64) as f32)).collect()
}

fn llama3(scaling: Llama3Scaling, frequencies: &[f32]) -> Vec<f32> {
    let Llama3Scaling { factor, low_freq_factor, high_freq_factor, .. } = scaling;
    let original = scaling.original_max_position_embeddings as f64;
    let scaled = frequencies.iter().map(|&frequency| {
        let frequency = f64::from(frequency);
        let wavelength = TAU / frequency;
        if wavelength < original / high_freq_factor {
            frequency
        } else if wavelength > original / low_freq_factor {
            frequency / factor
        } else {
            let kept = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    });
    scaled.map(|frequency| frequency as f32).collect()
}

/// Returns the frequencies and what cosines and sines are multiplied by.
fn yarn(scaling: YarnScaling, frequencies: &[f32], theta: f64) -> (Vec<f32>, f32) {
    let factor = scaling.factor;
    let implied = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let scale = scaling.attention_factor.unwrap_or_else(|| match (scaling.mscale, scaling.mscale_all_dim) {
        (Some(above), Some(below)) if above != 0.0 && below != 0.0 => implied(above) / implied(below),
        _ => implied(1.0),
    });

    let head_dim = (2 * frequencies.len()) as f64;
    // The dimension that turns this often within the original length.
    let original = scaling.original_max_position_embeddings as f64;
    let dimension = |rotations: f64| head_dim * (original / (rotations * TAU)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (dimension(scaling.beta_fast), dimension(scaling.beta_slow));
    if scaling.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(head_dim - 1.0));
    if low == high {
        high += 0.001; // so that the ramp is a step
    }
    let mixed = frequencies.iter().enumerate().map(|(d, &frequency)| {
        let interpolated = ((d as f64 - low) / (high - low)).clamp(0.0, 1.0);
        let frequency = f64::from(frequency);
        (frequency / factor * interpolated + frequency * (1.0 - interpolated)) as f32
    });
    (mixed.collect(), scale as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;

    #[test]
    fn tables_grow_and_keep_their_numbers() {
        let rope = Rope::new(&DecoderConfig { max_position_embeddings: 1 << 40, ..small() });
        let short = rope.table(0..3);
        assert_eq!(short.positions(), 0..256);
        let long = rope.table(290..300);
        assert_eq!(long.positions(), 0..512);
        assert!((0..256).all(|position| short.at(position) == long.at(position)));
        assert!(Arc::ptr_eq(&long, &rope.table(0..512)));
    }

    #[test]
    fn a_still_layer_turns_nothing() {
        let scaling = Some(RopeScaling::Yarn(YarnScaling::new(4.0, 16)));
        let rope = Rope::still(&DecoderConfig { rope_scaling: scaling, ..small() });
        let mut head = [1.0, -2.0, 3.0, 4.0, 5.0, 6.0];
        rope.table(0..100).rotate(&mut head, 99, 1.0);
        assert_eq!(head, [1.0, -2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn dynamic_scaling_starts_beyond_the_first_training() {
        let scaled = DecoderConfig { rope_scaling: Some(RopeScaling::Dynamic { factor: 2.0 }), ..small() };
        let (scaled, plain) = (Rope::new(&scaled), Rope::new(&small()));
        assert_eq!(scaled.table(0..64).at(63), plain.table(0..64).at(63));
        let longer = scaled.table(64..65);
        assert_eq!(longer.positions(), 64..65);
        assert_ne!(longer.at(64), plain.table(0..65).at(64));
    }
}
