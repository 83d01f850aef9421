//! What repeats in a text: spans, and runs of words (n-grams), all told apart by hash.
//!
//! The hash of an n-gram is the difference of two sums over the text, so that it costs the same for every `n`. Two
//! n-grams of equal hash are taken as equal: for a document of 100,000 words the chance of one mistake is below 1e-8.

use super::hash;
use super::words::Word;

/// Multiplies the sum before each word joins it; any odd number of many bits will do.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads a hash over a table, by its upper bits.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// What is left of a text's spans once each has been seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Repeated {
    /// All spans.
    pub(crate) spans: u64,
    /// Those that had been seen before.
    pub(crate) duplicates: u64,
    /// The characters of these.
    pub(crate) characters: u64,
}

/// Counts the spans that occurred before. `at_most` bounds their number.
pub(crate) fn duplicates<'t>(
    spans: impl Iterator<Item = &'t str>,
    at_most: usize,
    seen: &mut Seen,
) -> Repeated {
    seen.clear(at_most);
    let mut repeated = Repeated::default();
    for span in spans {
        repeated.spans += 1;
        if !seen.insert(hash(span.as_bytes())) {
            repeated.duplicates += 1;
            repeated.characters += span.chars().count() as u64;
        }
    }
    repeated
}

/// A set of hashes, cleared and used again for each text.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    slots: Vec<u64>,
    shift: u32,
}

impl Seen {
    /// Empties the set and makes room for some hashes.
    fn clear(&mut self, at_most: usize) {
        let slots = slots_for(at_most);
        self.shift = 64 - slots.trailing_zeros();
        self.slots.clear();
        self.slots.resize(slots, 0);
    }

    /// Adds a hash; false if it was there.
    fn insert(&mut self, hash: u64) -> bool {
        let hash = hash.max(1);
        let mask = self.slots.len() - 1;
        let mut at = slot(hash, self.shift);
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = hash;
                    return true;
                }
                other if other == hash => return false,
                _ => at = (at + 1) & mask,
            }
        }
    }
}

/// At least twice as many slots as hashes, so that a search always ends at an empty one, and soon.
fn slots_for(hashes: usize) -> usize {
    (hashes.max(8) * 2).next_power_of_two()
}

fn slot(hash: u64, shift: u32) -> usize {
    (hash.wrapping_mul(SPREAD) >> shift) as usize
}

/// The words of a text, summed up so that any run of them has its hash and length in constant time.
#[derive(Debug, Default)]
pub(crate) struct WordIndex {
    /// Before each word and behind the last: the hash of all words so far, and their characters.
    sums: Vec<(u64, u64)>,
}

impl WordIndex {
    /// Sums up the words of a text, in place of those before.
    pub(crate) fn build(&mut self, words: &[Word]) {
        self.sums.clear();
        self.sums.reserve(words.len() + 1);
        let mut sum = (0u64, 0u64);
        self.sums.push(sum);
        for word in words {
            sum = (sum.0.wrapping_mul(BASE).wrapping_add(word.hash), sum.1 + u64::from(word.characters));
            self.sums.push(sum);
        }
    }

    /// Every run of `n` words, by hash and characters.
    fn grams(&self, n: usize) -> impl Iterator<Item = (u64, u64)> {
        let power = BASE.wrapping_pow(n as u32);
        self.sums.iter().zip(self.sums.iter().skip(n)).map(move |(before, behind)| {
            (behind.0.wrapping_sub(before.0.wrapping_mul(power)), behind.1 - before.1)
        })
    }

    /// The characters in n-grams that occurred before, read from the left; a found one is passed over whole.
    pub(crate) fn duplicate_characters(&self, n: usize, seen: &mut Seen) -> u64 {
        seen.clear(self.sums.len());
        let (mut characters, mut skip) = (0, 0);
        for (hash, length) in self.grams(n) {
            if skip > 0 {
                skip -= 1;
            } else if !seen.insert(hash) {
                characters += length;
                skip = n - 1;
            }
        }
        characters
    }

    /// The characters of the most frequent n-gram, blanks between its words included, times its frequency. Of several
    /// equally frequent ones the first counts.
    pub(crate) fn top_characters(&self, n: usize, grams: &mut Grams) -> u64 {
        grams.clear(self.sums.len());
        let mut top = Gram::default();
        let mut top_characters = 0;
        for (position, (hash, length)) in self.grams(n).enumerate() {
            let gram = grams.count(hash, position as u64);
            if gram.count > top.count || (gram.count == top.count && gram.first < top.first) {
                top = gram;
                top_characters = length + n as u64 - 1;
            }
        }
        top_characters * top.count
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Gram {
    hash: u64,
    count: u64,
    /// Where it occurred first.
    first: u64,
}

/// How often each n-gram occurred, cleared and used again for each text.
#[derive(Debug, Default)]
pub(crate) struct Grams {
    slots: Vec<Gram>,
    shift: u32,
}

impl Grams {
    fn clear(&mut self, at_most: usize) {
        let slots = slots_for(at_most);
        self.shift = 64 - slots.trailing_zeros();
        self.slots.clear();
        self.slots.resize(slots, Gram::default());
    }

    /// Counts an n-gram once more and returns what is known of it.
    fn count(&mut self, hash: u64, position: u64) -> Gram {
        let mask = self.slots.len() - 1;
        let mut at = slot(hash, self.shift);
        loop {
            let gram = &mut self.slots[at];
            if gram.count == 0 {
                *gram = Gram { hash, count: 1, first: position };
                return *gram;
            }
            if gram.hash == hash {
                gram.count += 1;
                return *gram;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::text::Words;

    fn indexed(text: &str) -> WordIndex {
        let mut index = WordIndex::default();
        index.build(Words::default().of(text));
        index
    }

    #[test]
    fn spans_count_from_their_second_time_on() {
        let check = |spans: &[&str], expected: (u64, u64, u64)| {
            let found = duplicates(spans.iter().copied(), spans.len(), &mut Seen::default());
            assert_eq!((found.spans, found.duplicates, found.characters), expected, "{spans:?}");
        };
        check(&[], (0, 0, 0));
        check(&["a", "b"], (2, 0, 0));
        check(&["ab", "é漢", "ab", "é漢", "ab"], (5, 3, 6));
        check(&["", ""], (2, 1, 0));
    }

    #[test]
    fn the_top_gram_is_the_most_frequent_and_of_equals_the_first() {
        let check = |text: &str, n: usize, expected: u64| {
            assert_eq!(indexed(text).top_characters(n, &mut Grams::default()), expected, "{text} {n}");
        };
        check("one two three", 2, 7);
        check("aa b aa b aa b", 2, 12);
        check("a bb a bb c", 2, 8);
        check("cc d x cc d y e f z e f", 2, 8);
        check("one two", 3, 0);
        check("", 2, 0);
    }

    #[test]
    fn a_repeated_gram_is_passed_over_whole() {
        let check = |text: &str, n: usize, expected: u64| {
            assert_eq!(indexed(text).duplicate_characters(n, &mut Seen::default()), expected, "{text} {n}");
        };
        check("a b c d e", 2, 0);
        check("a b a b a b", 2, 4);
        check("a b c d e a b c d e", 5, 5);
        check("a b c d e a b c d e a b c d e f", 5, 10);
    }
}
