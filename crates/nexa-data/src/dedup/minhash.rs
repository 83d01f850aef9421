//! Shingles of a document, their MinHash signature, and the keys of its bands.
//!
//! Two documents whose shingle sets have the Jaccard similarity `s` agree in one row of their signatures with
//! probability `s`, and in all rows of at least one band with probability `1 - (1 - s^rows)^bands`.
//!
//! # Source
//! Broder, "On the resemblance and containment of documents", 1997; bands as in Leskovec, Rajaraman and Ullman, "Mining of
//! Massive Datasets", chapter 3. The default of 14 bands of 8 rows over 5-word shingles is that of datatrove and FineWeb.
//!
//! # Departures
//! Rows hold 32 bits, so that eight fit a vector register: what a collision lets through is verified later on. Shingles
//! and band keys are hashes of 64 bits.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::rows::Words;

/// Rows that are computed at once, in registers.
const LANES: usize = 16;

/// Chooses the permutations. Another number would give other signatures: raise the stage's code version then.
const SEED: u64 = 0x6e65_7861_6d69_6e68;

/// Puts the hashes of every run of `size` words into a buffer, sorted and once each. A text of fewer words has none.
pub(super) fn shingles(words: &Words, size: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.extend((size..=words.len()).map(|end| xxh3_64(words.span(end - size, size))));
    hashes.sort_unstable();
    hashes.dedup();
}

/// The share of two sets' shingles that they have in common; both are sorted, and not empty.
pub(super) fn jaccard(one: &[u64], other: &[u64]) -> f64 {
    let (mut at, mut common) = (0, 0);
    for shingle in one {
        // Neither step branches on the data, which is as good as random.
        while at < other.len() && other[at] < *shingle {
            at += 1;
        }
        common += usize::from(other.get(at) == Some(shingle));
    }
    common as f64 / (one.len() + other.len() - common) as f64
}

/// The probability that documents of a similarity share a band.
pub(super) fn probability(similarity: f64, bands: usize, rows: usize) -> f64 {
    let power = |base: f64, exponent: usize| (0..exponent).fold(1.0, |product, _| product * base);
    1.0 - power(1.0 - power(similarity, rows), bands)
}

/// The permutations of a signature, in bands.
pub(super) struct MinHash {
    bands: usize,
    rows: usize,
    /// For each permutation what is xor-ed and multiplied with, filled up to whole blocks of lanes.
    blocks: Vec<([u32; LANES], [u32; LANES])>,
}

impl MinHash {
    /// Draws `bands` times `rows` permutations, the same every time.
    pub(super) fn new(bands: usize, rows: usize) -> Self {
        let mut state = SEED;
        let mut draw = || {
            let bits = split_mix(&mut state);
            // An odd factor makes the multiplication a permutation of all 32-bit numbers.
            ((bits >> 32) as u32, bits as u32 | 1)
        };
        let blocks = (0..(bands * rows).div_ceil(LANES))
            .map(|_| {
                let drawn: [(u32, u32); LANES] = std::array::from_fn(|_| draw());
                (drawn.map(|(mask, _)| mask), drawn.map(|(_, factor)| factor))
            })
            .collect();
        Self { bands, rows, blocks }
    }

    /// The keys of the bands of a set of shingles, which is not empty.
    pub(super) fn band_keys(&self, shingles: &[u64]) -> Vec<u64> {
        let signature: Vec<u8> = self
            .blocks
            .iter()
            .flat_map(|(masks, factors)| minima(shingles, masks, factors))
            .flat_map(u32::to_le_bytes)
            .collect();
        let band_bytes = self.rows * size_of::<u32>();
        signature
            .chunks_exact(band_bytes)
            .take(self.bands)
            .enumerate()
            .map(|(band, rows)| xxh3_64_with_seed(rows, band as u64))
            .collect()
    }
}

/// The smallest value of every permutation: `LANES` of them over all shingles, which the compiler keeps in vectors.
fn minima(shingles: &[u64], masks: &[u32; LANES], factors: &[u32; LANES]) -> [u32; LANES] {
    let mut smallest = [u32::MAX; LANES];
    for shingle in shingles {
        let folded = (*shingle ^ (*shingle >> 32)) as u32;
        for lane in 0..LANES {
            let permuted = (folded ^ masks[lane]).wrapping_mul(factors[lane]);
            smallest[lane] = smallest[lane].min(permuted);
        }
    }
    smallest
}

/// A step of SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shingles_are_runs_of_words_as_a_set() {
        let check = |text: &str, expected: &[&str]| {
            let mut words = Words::default();
            words.read(text, false);
            let mut found = vec![7];
            shingles(&words, 2, &mut found);
            let mut expected: Vec<u64> = expected.iter().map(|text| xxh3_64(text.as_bytes())).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text:?}");
        };
        check("a b c", &["a b", "b c"]);
        check("a b a b", &["a b", "b a"]);
        check("a", &[]);
    }

    #[test]
    fn similarity_is_the_share_in_common() {
        let check = |one: &[u64], other: &[u64], expected: f64| {
            assert!((jaccard(one, other) - expected).abs() < 1e-12, "{one:?} {other:?}");
            assert!((jaccard(other, one) - expected).abs() < 1e-12, "{one:?} {other:?}");
        };
        check(&[1, 2, 3], &[2, 3, 4], 0.5);
        check(&[1, 2], &[1, 2], 1.0);
        check(&[1], &[2, 3], 0.0);
        check(&[5, 9], &[1, 2, 9], 0.25);
    }

    /// Pairs of sets of a known similarity share a band as often as the curve says.
    #[test]
    fn bands_are_shared_as_often_as_the_curve_says() {
        const PAIRS: u64 = 1_000;
        let (bands, rows) = (14, 8);
        let minhash = MinHash::new(bands, rows);
        let check = |common: u64, own: u64| {
            let similarity = common as f64 / (common + 2 * own) as f64;
            let shared = (0..PAIRS)
                .filter(|pair| {
                    let mut state = *pair << 32 | common;
                    let mut draw = |count: u64| (0..count).map(|_| split_mix(&mut state)).collect::<Vec<_>>();
                    let (both, one, other) = (draw(common), draw(own), draw(own));
                    let keys = |own: &[u64]| minhash.band_keys(&[&both[..], own].concat());
                    keys(&one).iter().zip(keys(&other)).any(|(one, other)| *one == other)
                })
                .count() as f64
                / PAIRS as f64;
            let expected = probability(similarity, bands, rows);
            // Four standard deviations of the share, and as much again as one pair.
            let tolerance = 4.0 * (expected * (1.0 - expected) / PAIRS as f64).sqrt() + 1.0 / PAIRS as f64;
            assert!((shared - expected).abs() <= tolerance, "s = {similarity}: {shared}, not {expected}");
        };
        check(60, 30); // 0.5
        check(70, 15); // 0.7
        check(80, 10); // 0.8
        check(90, 5); // 0.9
        check(1, 60); // nearly nothing
    }

    #[test]
    fn the_curve_is_the_published_one() {
        let check = |similarity: f64, expected: f64| {
            assert!((probability(similarity, 14, 8) - expected).abs() < 0.006, "{similarity}");
        };
        check(0.7, 0.57);
        check(0.75, 0.77);
        check(0.8, 0.92);
        check(0.9, 1.0);
        check(0.0, 0.0);
    }
}
