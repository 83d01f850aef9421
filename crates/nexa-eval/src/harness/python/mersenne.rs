//! The random numbers of Python, which decide which examples stand before a question.
//!
//! # Source
//! M. Matsumoto and T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998), seeded by `init_by_array`; on it `random()`,
//! `getrandbits`, `sample`, `choices` and `shuffle` as `random.py` of CPython 3.11 defines them.

use std::collections::HashSet;

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// A stream of Python's `random.Random`.
#[derive(Debug, Clone)]
pub struct MersenneTwister {
    state: [u32; SIZE],
    at: usize,
}

impl MersenneTwister {
    /// Starts the stream of `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut state = [0_u32; SIZE];
        state[0] = 19_650_218;
        for i in 1..SIZE {
            state[i] = 1_812_433_253_u32.wrapping_mul(mixed(state[i - 1])).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..SIZE.max(key.len()) {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == SIZE {
                state[0] = state[SIZE - 1];
                i = 1;
            }
        }
        for _ in 1..SIZE {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == SIZE {
                state[0] = state[SIZE - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: SIZE }
    }

    /// `random()`: a number of 53 bits from `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `randrange(n)`: draws of as many bits as `n` has, until one is below it. 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n || n == 0 {
                return drawn;
            }
        }
    }

    /// `sample(range(n), k)`: `k` different indices below `n`, in the order in which they are drawn. All of them, where
    /// there are no more than `k`.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let k = k.min(n);
        // Python keeps a list of what is left where that takes less memory than a set of what was drawn.
        let mut set_size = 21.0;
        if k > 5 {
            set_size += 4_f64.powf((((3 * k) as f64).ln() / 4_f64.ln()).ceil());
        }
        if n as f64 <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            let draw = |i: usize| {
                let at = self.below(n - i);
                let chosen = pool[at];
                pool[at] = pool[n - i - 1];
                chosen
            };
            return (0..k).map(draw).collect();
        }
        let mut drawn = HashSet::with_capacity(k);
        let draw = |_| {
            loop {
                let at = self.below(n);
                if drawn.insert(at) {
                    break at;
                }
            }
        };
        (0..k).map(draw).collect()
    }

    /// `choices(range(n), k=k)`: `k` indices below `n`, with replacement.
    pub fn choices(&mut self, n: usize, k: usize) -> Vec<usize> {
        (0..k).map(|_| self.choice(n)).collect()
    }

    /// One of `choices(range(n))`.
    pub fn choice(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// `shuffle`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let other = self.below(i + 1);
            items.swap(i, other);
        }
    }

    /// `getrandbits(k)`, for `k` up to 64: the lowest word is drawn first.
    fn bits(&mut self, k: u32) -> usize {
        match k {
            0 => 0,
            1..=32 => (self.word() >> (32 - k)) as usize,
            _ => {
                let low = u64::from(self.word());
                let high = u64::from(self.word() >> (64 - k));
                usize::try_from(high << 32 | low).expect("there are at most as many bits as an index has")
            }
        }
    }

    fn word(&mut self) -> u32 {
        if self.at == SIZE {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..SIZE {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % SIZE] & 0x7fff_ffff);
            let odd = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + MIDDLE) % SIZE] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython 3.11.7, `random.Random(1234)`.
    #[test]
    fn samples_are_those_of_python() {
        let mut large = MersenneTwister::new(1234);
        assert_eq!(large.sample(7473, 5), [6374, 3610, 957, 61, 742]);
        assert_eq!(large.sample(7473, 5), [7462, 6610, 4769, 286, 5501]);
        assert_eq!(MersenneTwister::new(1234).sample(20, 5), [14, 3, 0, 2, 1]);
        let check = |n: usize, expected: &[usize]| {
            assert_eq!(MersenneTwister::new(1234).sample(n, expected.len()), expected, "of {n}");
        };
        check(1, &[0]);
        check(3, &[1, 0, 2]);
        // 85 is where Python goes over from a list to a set, for six to twenty-one draws.
        check(85, &[56, 14, 0, 11, 74, 4]);
        check(86, &[56, 14, 0, 11, 74, 4]);
        check(64, &[56, 7, 0, 5, 58, 51, 37, 2]);
        check(100, &[99, 56, 14, 0, 11, 74, 4, 85]);
        check(30, &[24, 14, 3, 0, 2, 18, 1, 21, 25, 27, 11, 7, 26, 17, 16, 5, 10, 9, 29, 12, 19]);
        let many = [225, 59, 3, 46, 298, 17, 42, 50, 181, 121, 8, 15, 177, 247, 237, 76, 93, 58, 7, 257];
        check(300, &many);
    }

    /// Expected: CPython 3.11.7, `random.Random(0)`.
    #[test]
    fn choices_and_shuffles_are_those_of_python() {
        assert_eq!(MersenneTwister::new(0).choices(10, 10), [8, 7, 4, 2, 5, 4, 7, 3, 4, 5]);
        let mut items: Vec<usize> = (0..10).collect();
        MersenneTwister::new(7).shuffle(&mut items);
        assert_eq!(items, [8, 3, 1, 4, 7, 0, 9, 6, 2, 5]);
        let mut large = MersenneTwister::new(123_456_789_012_345);
        assert_eq!([large.unit(), large.unit()], [0.674_475_008_401_935_6, 0.292_327_578_442_122_2]);
    }
}
