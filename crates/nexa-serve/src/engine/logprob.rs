//! How probable tokens were, for callers who ask.

use serde::{Deserialize, Serialize};

/// A token with its probability under the model, before any bias, penalty or temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub token_id: u32,
    /// Natural logarithm of its probability.
    pub logprob_nats: f32,
    /// 1 + the number of tokens that were more probable.
    pub rank: usize,
    /// The most probable tokens in its place with theirs, the most probable first.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprob {
    /// Rates a token by a row of logits, and lists the `top` most probable.
    pub(super) fn new(logits: &[f32], token_id: u32, top: usize) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        let logprob = |logit: f32| (f64::from(logit - highest) - total.ln()) as f32;
        let mut best: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        let top = top.min(best.len());
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if top > 0 && top < best.len() {
            best.select_nth_unstable_by(top - 1, order);
        }
        best.truncate(top);
        best.sort_unstable_by(order);
        let own = logits.get(token_id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        Self {
            token_id,
            logprob_nats: logprob(own),
            rank: 1 + logits.iter().filter(|&&logit| logit > own).count(),
            top: best.into_iter().map(|(id, logit)| (id, logprob(logit))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let logits = [0.0, 2.0, 1.0, 2.0];
        let rated = TokenLogprob::new(&logits, 2, 3);
        let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let expected = |logit: f32| logit - total.ln();
        assert!((rated.logprob_nats - expected(1.0)).abs() < 1e-6);
        let ids: Vec<u32> = rated.top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 2]);
        assert_eq!((rated.rank, TokenLogprob::new(&logits, 3, 0).rank), (3, 1));
        assert!(rated.top.iter().all(|&(id, nats)| (nats - expected(logits[id as usize])).abs() < 1e-6));
        assert_eq!(TokenLogprob::new(&logits, 0, 0).top, []);
        assert_eq!(TokenLogprob::new(&logits, 0, 99).top.len(), 4);
    }
}
