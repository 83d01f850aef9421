//! The random numbers of resampling.
//!
//! ChaCha with 8 rounds, keyed by the seed's eight little-endian bytes and zeros: the keystream is fixed by its
//! specification, so results do not change with the version of a library.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random choices.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    /// Starts the stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Draws from `0..n` by the high half of a product, whose bias of at most `n / 2^64` no test could see.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        let product = u128::from(self.0.next_u64()) * n as u128;
        usize::try_from(product >> 64).expect("the high half is below n")
    }

    /// Draws 64 fair bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: the first bytes of the ChaCha8 keystream for a key and nonce of zeros, as published with the eSTREAM
    /// test vectors: 3e00ef2f895f40d6.
    #[test]
    fn the_stream_is_that_of_the_specification() {
        assert_eq!(Draws::new(0).bits().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
    }

    #[test]
    fn indices_cover_their_range_evenly() {
        let mut draws = Draws::new(7);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[draws.index(5)] += 1;
        }
        // The standard deviation of each count is 89.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 450), "{counts:?}");
    }
}
