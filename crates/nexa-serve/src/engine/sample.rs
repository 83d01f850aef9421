//! Choosing the next token from logits.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use nexa_core::lm::Sampling;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How many candidates top-p sorts first; most distributions reach their share within them.
const FIRST_CANDIDATES: usize = 128;

/// Draws the tokens of one request, from a generator that no other request touches.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    bias: BTreeMap<u32, f32>,
    penalties: Penalties,
    rng: ChaCha12Rng,
}

/// What tokens pay for having been there.
#[derive(Debug)]
struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// How often tokens stand in the answer; those of the prompt alone, 0 times. Empty where nothing is to be paid.
    seen: BTreeMap<u32, u32>,
}

impl Penalties {
    fn are_due(&self) -> bool {
        self.repetition != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }

    fn apply(&self, logits: &mut [f32]) {
        for (&token, &count) in &self.seen {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
            if count > 0 {
                *logit -= self.frequency * count as f32 + self.presence;
            }
        }
    }
}

impl Sampler {
    /// Prepares for an answer to a prompt.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let mut penalties = Penalties {
            repetition: sampling.repetition_penalty.0,
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            seen: BTreeMap::new(),
        };
        if penalties.repetition != 1.0 {
            penalties.seen.extend(prompt.iter().map(|&token| (token, 0)));
        }
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: f64::from(sampling.top_p),
            min_p: f64::from(sampling.min_p),
            bias: sampling.logit_bias.clone(),
            penalties,
            rng: ChaCha12Rng::seed_from_u64(sampling.seed),
        }
    }

    /// Notes that a token stands in the answer.
    pub(super) fn accept(&mut self, token: u32) {
        if self.penalties.are_due() {
            *self.penalties.seen.entry(token).or_insert(0) += 1;
        }
    }

    /// Chooses a token, or none where no logit is a number. Logits that are NaN or -infinity are never chosen.
    ///
    /// Biases and penalties come first, then temperature, top-k, top-p and min-p, as in Hugging Face's `generate`.
    pub(super) fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        if self.bias.is_empty() && self.penalties.seen.is_empty() {
            return self.choose(logits);
        }
        let mut logits = logits.to_vec();
        for (&token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        self.penalties.apply(&mut logits);
        self.choose(&logits)
    }

    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let (best, &highest) = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| !logit.is_nan() && **logit > f32::NEG_INFINITY)
            // Of equals the first stays, so that greedy decoding has one result.
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        if self.temperature == 0.0 || highest == f32::INFINITY {
            return Some(best as u32);
        }
        let mut candidates: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| !logit.is_nan())
            .map(|(token, logit)| Candidate {
                token: token as u32,
                weight: (f64::from(logit - highest) / f64::from(self.temperature)).exp(),
            })
            .collect();
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, Candidate::order);
            candidates.truncate(self.top_k);
            // Sums below must not depend on the order in which the selection left them.
            candidates.sort_unstable_by(Candidate::order);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut candidates, self.top_p);
        }
        if self.min_p > 0.0 {
            // The most probable candidate has the weight 1.
            candidates.retain(|candidate| candidate.weight >= self.min_p);
        }
        Some(self.draw(&candidates))
    }

    fn draw(&mut self, candidates: &[Candidate]) -> u32 {
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        let mut left = self.unit() * total;
        for candidate in candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding may leave a crumb: the last candidate that can be drawn at all takes it.
        candidates.iter().rev().find(|c| c.weight > 0.0).map_or(0, |c| c.token)
    }

    /// A number in `[0, 1)` with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    /// Probability up to a common factor; the best candidate has 1.
    weight: f64,
}

impl Candidate {
    /// Most probable first, the lower id first among equals: a total order, so that sorting is unambiguous.
    fn order(a: &Self, b: &Self) -> Ordering {
        b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
    }
}

/// Keeps the most probable candidates whose probabilities reach `top_p`, at least one, sorted.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    let target = top_p * candidates.iter().map(|c| c.weight).sum::<f64>();
    let mut sorted = 0;
    let mut mass = 0.0;
    let mut batch = FIRST_CANDIDATES;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let count = batch.min(rest.len());
        if count < rest.len() {
            rest.select_nth_unstable_by(count - 1, Candidate::order);
        }
        rest[..count].sort_unstable_by(Candidate::order);
        for position in sorted..sorted + count {
            mass += candidates[position].weight;
            if mass >= target {
                candidates.truncate(position + 1);
                return;
            }
        }
        sorted += count;
        batch *= 8;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexa_core::lm::Factor;

    use super::*;

    /// The set of tokens that turn up in many draws.
    fn support(logits: &[f32], temperature: f32, top_k: usize, top_p: f32) -> BTreeSet<u32> {
        let sampling = Sampling { temperature, top_k, top_p, seed: 7, ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling, &[]);
        (0..2_000).map(|_| sampler.sample(logits).unwrap()).collect()
    }

    #[test]
    fn each_filter_keeps_exactly_its_tokens() {
        let check = |logits: &[f32], (temperature, top_k, top_p): (f32, usize, f32), expected: &[u32]| {
            let expected: BTreeSet<u32> = expected.iter().copied().collect();
            assert_eq!(support(logits, temperature, top_k, top_p), expected, "{logits:?} {top_k} {top_p}");
        };
        let even = [1.0, 1.0, 1.0, 1.0];
        let ln = |p: f32| p.ln();
        let steep = [ln(0.1), ln(0.5), ln(0.3), ln(0.1)];
        check(&even, (0.0, 0, 1.0), &[0]);
        check(&even, (1.0, 0, 1.0), &[0, 1, 2, 3]);
        check(&even, (1.0, 2, 1.0), &[0, 1]);
        check(&steep, (1.0, 0, 0.45), &[1]);
        check(&steep, (1.0, 0, 0.79), &[1, 2]);
        check(&steep, (1.0, 0, 0.85), &[0, 1, 2]);
        check(&steep, (1.0, 0, 0.0), &[1]);
        check(&steep, (1.0, 2, 0.6), &[1]);
        check(&[f32::NAN, 1.0, f32::NEG_INFINITY, 1.0], (1.0, 0, 1.0), &[1, 3]);
        check(&[0.0, f32::INFINITY], (1.0, 0, 1.0), &[1]);
        check(&[f32::NAN, 2.0, 2.0], (0.0, 0, 1.0), &[1]);
    }

    #[test]
    fn biases_and_penalties_change_the_logits() {
        let check = |sampling: Sampling, logits: &[f32], expected: u32| {
            let mut sampler = Sampler::new(&sampling, &[0]);
            sampler.accept(1);
            sampler.accept(1);
            assert_eq!(sampler.sample(logits), Some(expected), "{sampling:?}");
        };
        let usual = Sampling::default;
        check(usual(), &[1.0, 3.0, 2.0], 1);
        check(Sampling { logit_bias: [(2, 1.5)].into(), ..usual() }, &[1.0, 3.0, 2.0], 2);
        check(Sampling { logit_bias: [(1, -100.0), (9, 5.0)].into(), ..usual() }, &[1.0, 3.0, 2.0], 2);
        check(Sampling { presence_penalty: 1.5, ..usual() }, &[1.0, 3.0, 2.0], 2);
        check(Sampling { presence_penalty: 0.5, ..usual() }, &[1.0, 3.0, 2.0], 1);
        check(Sampling { frequency_penalty: 0.6, ..usual() }, &[1.0, 3.0, 2.0], 2);
        // The prompt counts for repetition alone.
        check(Sampling { repetition_penalty: Factor(2.0), ..usual() }, &[3.0, 3.0, 1.6], 2);
        check(Sampling { repetition_penalty: Factor(2.0), ..usual() }, &[-1.0, -1.0, -1.9], 2);
        check(Sampling { presence_penalty: 2.0, ..usual() }, &[3.0, 3.0, 1.6], 0);
    }

    #[test]
    fn min_p_keeps_what_is_near_the_most_probable() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let draws = |min_p| {
            let sampling = Sampling { temperature: 1.0, min_p, seed: 5, ..Sampling::default() };
            let mut sampler = Sampler::new(&sampling, &[]);
            (0..500).map(|_| sampler.sample(&logits).unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(draws(0.0), BTreeSet::from([0, 1, 2]));
        assert_eq!(draws(0.5), BTreeSet::from([0, 1]));
        assert_eq!(draws(0.7), BTreeSet::from([0]));
        assert_eq!(draws(1.0), BTreeSet::from([0]));
    }

    #[test]
    fn nothing_is_chosen_where_no_logit_is_a_number() {
        let mut sampler = Sampler::new(&Sampling::default(), &[]);
        assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(sampler.sample(&[]), None);
    }

    #[test]
    fn the_nucleus_is_found_beyond_the_first_candidates() {
        let logits = vec![0.0; 4_000];
        let kept = support(&logits, 1.0, 0, 0.25);
        assert!(kept.iter().all(|&token| token < 1_000) && kept.iter().any(|&token| token > 900), "{kept:?}");
    }

    #[test]
    fn frequencies_follow_the_tempered_softmax() {
        let logits = [0.0, 1.0];
        let sampling = Sampling { temperature: 0.5, seed: 3, ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling, &[]);
        let draws = 20_000;
        let ones = (0..draws).filter(|_| sampler.sample(&logits) == Some(1)).count();
        // softmax([0, 2])[1] = 0.8808; four standard errors of 20,000 draws are 0.0092.
        let share = ones as f64 / f64::from(draws);
        assert!((share - 0.8808).abs() < 0.0092, "{share}");
    }

    #[test]
    fn the_seed_decides_the_draws() {
        let draws = |seed| {
            let mut sampler = Sampler::new(&Sampling { temperature: 1.0, seed, ..Sampling::default() }, &[]);
            (0..32).map(|_| sampler.sample(&[0.0; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
