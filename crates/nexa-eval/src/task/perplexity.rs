//! The probability of the reference conversations' assistant turns.
//!
//! Every number is a ratio over the corpus: nats over tokens, bits over bytes. Means of per-item ratios would give short
//! items more weight than long ones.

use nexa_core::lm::Score;

use crate::Result;
use crate::ask::{Asker, Request, Sample};
use crate::statistics::{Clusters, Estimate, Ratio, clustered_ratio};
use crate::task::item::asked;
use crate::task::{Item, Task};

/// The task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Perplexity;

impl Perplexity {
    /// Asks a model for the probabilities of some items.
    ///
    /// # Errors
    /// As [`Asker::scores`].
    pub fn scores(&self, asker: &mut Asker<'_>, items: &[Item]) -> Result<Vec<Sample<Score>>> {
        let request = |item: &Item| Request::ScoreChat { messages: item.messages.clone() };
        asker.scores(Task::Perplexity.as_str(), &asked(items, request))
    }

    /// Nats per token. As below, `clusters` are those of items that share sources.
    pub fn loss(scores: &[Score], clusters: Option<&Clusters>, seed: u64) -> Option<Estimate> {
        clustered_ratio(&Self::nats_per_token(scores), clusters, seed, |loss| loss)
    }

    /// The exponential of nats per token.
    pub fn perplexity(scores: &[Score], clusters: Option<&Clusters>, seed: u64) -> Option<Estimate> {
        clustered_ratio(&Self::nats_per_token(scores), clusters, seed, f64::exp)
    }

    /// Bits per UTF-8 byte: comparable between tokenizers.
    pub fn bits_per_byte(scores: &[Score], clusters: Option<&Clusters>, seed: u64) -> Option<Estimate> {
        let items: Vec<Ratio> = scores.iter().map(Self::bits_and_bytes).collect();
        clustered_ratio(&items, clusters, seed, |bits| bits)
    }

    /// What one item adds to bits per byte.
    pub fn bits_and_bytes(score: &Score) -> Ratio {
        Ratio { numerator: -score.logprob_nats / std::f64::consts::LN_2, denominator: score.bytes as f64 }
    }

    /// What one item adds to nats per token.
    pub fn nats_and_tokens(score: &Score) -> Ratio {
        Ratio { numerator: -score.logprob_nats, denominator: score.tokens as f64 }
    }

    fn nats_per_token(scores: &[Score]) -> Vec<Ratio> {
        scores.iter().map(Self::nats_and_tokens).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// By hand: 30 nats over 20 tokens and 60 bytes. The mean of the per-item losses would be 1.25.
    #[test]
    fn numbers_are_ratios_over_the_corpus() {
        let score = |logprob_nats, tokens, bytes| Score {
            logprob_nats,
            tokens,
            bytes,
            is_greedy: false,
            cut_tokens: 0,
        };
        let scores = [score(-5.0, 5, 20), score(-15.0, 10, 30), score(-10.0, 5, 10)];
        assert_close(Perplexity::loss(&scores, None, 0).unwrap().value, 1.5, 1e-15, "loss");
        assert_close(
            Perplexity::perplexity(&scores, None, 0).unwrap().value,
            1.5_f64.exp(),
            1e-12,
            "perplexity",
        );
        let bits = 0.5 / std::f64::consts::LN_2;
        assert_close(
            Perplexity::bits_per_byte(&scores, None, 0).unwrap().value,
            bits,
            1e-15,
            "bits per byte",
        );
    }
}
