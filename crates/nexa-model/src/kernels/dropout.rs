//! Dropout whose mask is a function of its place: nothing is drawn in an order, so nothing has to be kept or replayed.
//! A block that is computed again, a run that is resumed and any number of threads meet the same mask.
//!
//! Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014; counters
//! instead of a state as in Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.

use rayon::prelude::*;

use super::simd::vectorised;

/// Numbers below which the work is not worth sharing out.
const LEAST: usize = 1 << 14;

/// Which numbers of a matrix are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    /// Hashes below it are dropped.
    threshold: u32,
    /// What the others are multiplied with, so that the expected sum stays.
    scale: f32,
    key: u64,
}

impl Dropout {
    /// Drops a share of the numbers, between 0 and 1, the latter excluded; `None` where the share is 0.
    pub(crate) fn new(rate: f64, key: u64) -> Option<Self> {
        let threshold = (rate * 2_f64.powi(32)) as u32;
        (rate > 0.0).then(|| Self { threshold, scale: (1.0 / (1.0 - rate)) as f32, key })
    }

    /// The mask of one of several matrices.
    pub(crate) fn of(self, index: usize) -> Self {
        Self { key: mix(self.key, index as u64), ..self }
    }

    /// The factor of every number of `[rows, width]`: zero, or what keeps the expected sum.
    pub(crate) fn factors(&self, rows: usize, width: usize) -> Vec<f32> {
        let mut factors = vec![0.0; rows * width];
        self.apply(&vec![1.0; rows * width], width, &mut factors);
        factors
    }

    /// Writes what is left of `x` to `output`, both `[rows, width]`.
    pub(crate) fn apply(&self, x: &[f32], width: usize, output: &mut [f32]) {
        self.each_row(x, width, output, |x, keys, output| {
            write_row(x, keys, self.threshold, self.scale, output);
        });
    }

    /// Adds what is left of `x` to `output`, both `[rows, width]`.
    pub(crate) fn add(&self, x: &[f32], width: usize, output: &mut [f32]) {
        self.each_row(x, width, output, |x, keys, output| {
            add_row(x, keys, self.threshold, self.scale, output);
        });
    }

    fn each_row(
        &self,
        x: &[f32],
        width: usize,
        output: &mut [f32],
        work: impl Fn(&[f32], [u32; 2], &mut [f32]) + Sync,
    ) {
        let rows_at_once = (LEAST / width.max(1)).max(1);
        let chunks = output.par_chunks_mut(rows_at_once * width).zip(x.par_chunks(rows_at_once * width));
        chunks.enumerate().for_each(|(chunk, (output, x))| {
            let rows = output.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for (row, (output, x)) in (chunk * rows_at_once..).zip(rows) {
                let key = mix(self.key, row as u64);
                work(x, [key as u32, (key >> 32) as u32], output);
            }
        });
    }
}

/// Makes one key of a key and a number (the finaliser of SplitMix64: Steele, Lea and Flood, "Fast Splittable
/// Pseudorandom Number Generators", 2014).
pub(crate) fn mix(key: u64, number: u64) -> u64 {
    let mut z = key.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes a column under the key of its row, in 32 bits, of which a vector holds eight: the finaliser of MurmurHash3,
/// with half of the key before and half within it.
#[inline(always)]
fn hash(column: u32, keys: [u32; 2]) -> u32 {
    let mut h = column.wrapping_mul(0x9e37_79b9).wrapping_add(keys[0]);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b) ^ keys[1];
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

vectorised! {
    fn write_row(x: &[f32], keys: [u32; 2], threshold: u32, scale: f32, output: &mut [f32]) {
        for (column, (output, x)) in (0_u32..).zip(output.iter_mut().zip(x)) {
            *output = if hash(column, keys) < threshold { 0.0 } else { x * scale };
        }
    }
}

vectorised! {
    fn add_row(x: &[f32], keys: [u32; 2], threshold: u32, scale: f32, output: &mut [f32]) {
        for (column, (output, x)) in (0_u32..).zip(output.iter_mut().zip(x)) {
            *output += if hash(column, keys) < threshold { 0.0 } else { x * scale };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_dropped_and_the_rest_makes_up_for_it() {
        assert_eq!(Dropout::new(0.0, 1), None);
        for rate in [0.1, 0.5, 0.9] {
            let factors = Dropout::new(rate, 7).expect("not zero").factors(300, 500);
            let kept = factors.iter().filter(|&&factor| factor > 0.0).count() as f64 / 150_000.0;
            // Five standard deviations of a share of so many independent draws.
            let bound = 5.0 * (rate * (1.0 - rate) / 150_000.0).sqrt();
            assert!((kept - (1.0 - rate)).abs() < bound, "{rate}: {kept}");
            let scale = (1.0 / (1.0 - rate)) as f32;
            assert!(factors.iter().all(|&factor| factor == 0.0 || factor == scale));
        }
    }

    #[test]
    fn rows_columns_keys_and_matrices_have_masks_of_their_own() {
        let dropout = Dropout::new(0.5, 7).expect("not zero");
        let mask = |dropout: Dropout| dropout.factors(64, 64);
        let agreeing = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
        let own = mask(dropout);
        for other in [dropout.of(0), dropout.of(1), Dropout::new(0.5, 8).expect("not zero")] {
            let share = agreeing(&own, &mask(other)) / 4096.0;
            assert!((share - 0.5).abs() < 0.05, "{share}");
        }
        let share = agreeing(&own[..2048], &own[2048..]) / 2048.0;
        assert!((share - 0.5).abs() < 0.06, "{share}");
        assert_eq!(mask(dropout), own);
    }

    #[test]
    fn threads_change_nothing_and_adding_is_writing() {
        let dropout = Dropout::new(0.3, 3).expect("not zero");
        let x: Vec<f32> = (0..700 * 90).map(|index| index as f32).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("starts");
            let mut output = vec![1.0; x.len()];
            pool.install(|| dropout.add(&x, 90, &mut output));
            output
        };
        let (added, mut written) = (run(1), vec![0.0; x.len()]);
        assert_eq!(added, run(3));
        dropout.apply(&x, 90, &mut written);
        assert!(added.iter().zip(&written).all(|(added, written)| *added == written + 1.0));
    }
}
