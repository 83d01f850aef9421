//! Draws that depend on nothing but a seed and some words, so that neither order nor threads can change them.

/// Draws a number from `[0, 1)`.
pub fn unit(seed: u64, words: &[&str]) -> f64 {
    // 53 bits are what a double holds exactly.
    (bits(seed, words) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws an index below `count`; 0 where `count` is 0.
pub fn below(count: usize, seed: u64, words: &[&str]) -> usize {
    // The bias of the remainder is below 2^-50 for any count that occurs here.
    usize::try_from(bits(seed, words) % count.max(1) as u64).unwrap_or(0)
}

/// Draws 64 bits.
pub fn bits(seed: u64, words: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for word in words {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    let mut first = [0_u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_evenly_and_depend_on_every_word() {
        let draws: Vec<f64> = (0..10_000_u32).map(|n| unit(7, &["test", &n.to_string()])).collect();
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert_ne!(bits(7, &["ab", "c"]), bits(7, &["a", "bc"]));
        assert_ne!(bits(7, &["ab"]), bits(8, &["ab"]));
        assert_eq!(below(0, 1, &[]), 0);
    }
}
