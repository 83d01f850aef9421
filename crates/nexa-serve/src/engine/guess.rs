//! Guesses of the next tokens from those that stand there already: what follows the last few of them elsewhere.
//!
//! The model then sees the guesses together with the token before them and says at once which of them it would have
//! chosen. What it chooses is what it would have chosen one by one, so guesses change how long an answer takes and
//! nothing else.
//!
//! # Source
//! Saxena, "Prompt Lookup Decoding", 2023.

/// Tokens that must stand elsewhere for what follows them to be a guess, tried from the longest.
const LENGTHS: [usize; 3] = [4, 3, 2];

/// Guesses at most `most` tokens after `token_ids`.
pub(super) fn guess(token_ids: &[u32], most: usize) -> &[u32] {
    for length in LENGTHS {
        let Some(start) = token_ids.len().checked_sub(length).filter(|&start| start > 0 && most > 0) else {
            continue;
        };
        let last = &token_ids[start..];
        // The nearest place is the likeliest to go on alike.
        let places = token_ids[..token_ids.len() - 1].windows(length);
        if let Some(place) =
            places.enumerate().rev().find(|(_, window)| *window == last).map(|(place, _)| place)
        {
            let first = place + length;
            return &token_ids[first..token_ids.len().min(first + most)];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_what_followed_the_longest_and_nearest_match() {
        let check = |token_ids: &[u32], most, expected: &[u32]| {
            assert_eq!(guess(token_ids, most), expected, "{token_ids:?}")
        };
        check(&[1, 2, 3, 1, 2], 4, &[3, 1, 2]);
        check(&[1, 2, 3, 1, 2], 1, &[3]);
        check(&[9, 1, 2, 7, 8, 1, 2, 5, 9, 1, 2], 2, &[7, 8]);
        check(&[1, 2, 7, 1, 2, 5, 1, 2], 2, &[5, 1]);
        check(&[4, 4, 4, 4, 4, 4], 3, &[4]);
        check(&[1, 2, 3], 4, &[]);
        check(&[1, 1], 4, &[]);
        check(&[1, 2, 3, 1, 2], 0, &[]);
        check(&[], 4, &[]);
    }
}
