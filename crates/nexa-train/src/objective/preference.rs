//! Direct preference optimization: the better of two answers is to become likelier, against a reference model.
//!
//! # Source
//! Rafailov et al., "Direct Preference Optimization", 2023, equation 7; Azar et al., "A General Theoretical Paradigm to
//! Understand Learning from Human Preferences", 2023, equation 17, with log-probabilities averaged over the tokens of
//! an answer, as its authors do for answers of different lengths.

use nexa_core::event::Event;
use nexa_core::{files, hash::ContentHash};
use nexa_model::Decoder;

use super::Sources;
use crate::data::Set;
use crate::run::MicroBatch;
use crate::{Config, Error, config::PreferenceLoss};

/// Goes up when the same model and samples give other log-probabilities.
const CODE_VERSION: u32 = 1;
/// Preferences that are scored at once.
const AT_ONCE: usize = 8;

/// The loss of preferences.
#[derive(Debug)]
pub(crate) struct Preference {
    kind: PreferenceLoss,
    beta: f64,
    /// For every sample, the log-probabilities of the better and the worse answer under the reference, in nats.
    reference: Vec<[f64; 2]>,
}

impl Preference {
    /// Asks the reference, which is the model before its first step, about every sample; what it said before of the
    /// same samples is taken from the cache.
    pub(super) fn new(config: &Config, set: &Set, sources: &Sources<'_>) -> Result<Self, Error> {
        let key = serde_json::json!([CODE_VERSION, sources.initial_hash, set.fingerprint()]);
        let name = ContentHash::of_json(&key).to_string().replace(':', "-");
        let path = sources.cache.join(format!("reference-{name}.json"));
        let reference = if path.is_file() {
            files::read_json(&path)?
        } else {
            let reference = score(sources.initial, set, sources);
            files::create_folder(sources.cache)?;
            files::write_json(&path, &reference)?;
            reference
        };
        Ok(Self { kind: config.dpo_loss, beta: config.rl_beta, reference })
    }

    /// Computes the summed loss of the preferences of a micro-batch from the negative log-likelihoods of its tokens,
    /// and its derivative by each of them.
    pub(crate) fn loss(&self, micro_batch: &MicroBatch, losses: &[f32]) -> (f64, Vec<f32>) {
        let mut derivatives = vec![0.0; losses.len()];
        let mut sum = 0.0;
        for (pair, &sample) in micro_batch.sequences.chunks_exact(2).zip(&micro_batch.samples) {
            let margin = self.margin(pair, sample, losses);
            // The derivative by the margin.
            let (loss, slope) = match self.kind {
                PreferenceLoss::Sigmoid => {
                    let z = self.beta * margin;
                    // -ln sigmoid(z), without overflow for either sign.
                    let loss = (-z.abs()).exp().ln_1p() + (-z).max(0.0);
                    (loss, -self.beta / (1.0 + z.exp()))
                }
                PreferenceLoss::Ipo => {
                    let distance = margin - 1.0 / (2.0 * self.beta);
                    (distance * distance, 2.0 * distance)
                }
            };
            sum += loss;
            // The margin falls with the losses of the better answer and rises with those of the worse one.
            for (rows, sign) in pair.iter().zip([-1.0, 1.0]) {
                let share = self.share(rows.len());
                derivatives[rows.clone()].fill((sign * slope * share) as f32);
            }
        }
        (sum, derivatives)
    }

    /// Counts the preferences of a micro-batch that the model shares, relative to the reference.
    pub(crate) fn shared(&self, micro_batch: &MicroBatch, losses: &[f32]) -> u64 {
        let pairs = micro_batch.sequences.chunks_exact(2).zip(&micro_batch.samples);
        pairs.filter(|(pair, sample)| self.margin(pair, **sample, losses) > 0.0).count() as u64
    }

    /// How much more the model prefers the better answer than the reference does.
    fn margin(&self, pair: &[std::ops::Range<usize>], sample: usize, losses: &[f32]) -> f64 {
        let gain = |which: usize| {
            let rows = pair[which].clone();
            (log_probability(&losses[rows.clone()]) - self.reference[sample][which]) * self.share(rows.len())
        };
        gain(0) - gain(1)
    }

    /// What the log-probability of an answer of so many tokens is multiplied with.
    fn share(&self, tokens: usize) -> f64 {
        match self.kind {
            PreferenceLoss::Sigmoid => 1.0,
            PreferenceLoss::Ipo => 1.0 / tokens.max(1) as f64,
        }
    }
}

fn log_probability(losses: &[f32]) -> f64 {
    -losses.iter().map(|&loss| f64::from(loss)).sum::<f64>()
}

/// Computes the log-probabilities of both answers of every sample.
fn score(reference: &Decoder, set: &Set, sources: &Sources<'_>) -> Vec<[f64; 2]> {
    let mut scores = Vec::with_capacity(set.len());
    let all: Vec<usize> = (0..set.len()).collect();
    for samples in all.chunks(AT_ONCE) {
        let micro_batch = MicroBatch::new(set, samples.to_vec());
        let losses = reference.token_losses(&micro_batch.batch);
        let of = |rows: &std::ops::Range<usize>| log_probability(&losses[rows.clone()]);
        scores.extend(micro_batch.sequences.chunks_exact(2).map(|pair| [of(&pair[0]), of(&pair[1])]));
        let (done, total) = (scores.len() as u64, Some(set.len() as u64));
        sources.events.emit(Event::progress(done, total, "preferences", "scored by the reference"));
    }
    scores
}

#[cfg(test)]
mod tests {
    use nexa_model::Batch;

    use super::*;

    fn micro_batch() -> MicroBatch {
        // Two preferences; the sequences have 2, 3, 1 and 2 rows of loss.
        MicroBatch {
            batch: Batch::new(std::iter::empty::<(&[u32], &[bool])>()),
            sequences: vec![0..2, 2..5, 5..6, 6..8],
            samples: vec![1, 0],
            squared_lengths: 0,
        }
    }

    fn preference(kind: PreferenceLoss) -> Preference {
        Preference { kind, beta: 0.3, reference: vec![[-2.0, -1.0], [-1.5, -4.0]] }
    }

    const LOSSES: [f32; 8] = [0.5, 0.7, 2.0, 1.0, 0.4, 3.0, 0.2, 0.9];

    #[test]
    fn the_losses_are_those_of_the_papers() {
        let check = |kind, expected: f64| {
            let (loss, _) = preference(kind).loss(&micro_batch(), &LOSSES);
            assert!((loss - expected).abs() < 1e-6, "{kind:?}: {loss} and {expected}");
        };
        // Margins: (-1.2 + 1.5) - (-3.4 + 4) = -0.3 and (-3 + 2) - (-1.1 + 1) = -0.9.
        let sigmoid = |z: f64| (1.0 + (-z).exp()).ln();
        check(PreferenceLoss::Sigmoid, sigmoid(0.3 * -0.3) + sigmoid(0.3 * -0.9));
        // Averaged over tokens: 0.15 - 0.2 and -1 + 0.05.
        let square = |margin: f64| (margin - 1.0 / 0.6).powi(2);
        check(PreferenceLoss::Ipo, square(0.15 - 0.2) + square(-1.0 + 0.05));
    }

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for kind in [PreferenceLoss::Sigmoid, PreferenceLoss::Ipo] {
            let preference = preference(kind);
            let (_, derivatives) = preference.loss(&micro_batch(), &LOSSES);
            for index in 0..LOSSES.len() {
                let at = |step: f32| {
                    let mut moved = LOSSES;
                    moved[index] += step;
                    preference.loss(&micro_batch(), &moved).0
                };
                let estimate = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (estimate - f64::from(derivatives[index])).abs() < 1e-3,
                    "{kind:?} {index}: {estimate}"
                );
            }
        }
    }

    #[test]
    fn a_preference_is_shared_where_the_margin_is_positive() {
        let preference = preference(PreferenceLoss::Sigmoid);
        assert_eq!(preference.shared(&micro_batch(), &LOSSES), 0);
        let mut better = LOSSES;
        better[0] = 0.0;
        assert_eq!(preference.shared(&micro_batch(), &better), 1);
    }

    #[test]
    fn extreme_margins_stay_finite() {
        let mut losses = LOSSES;
        for (value, index) in [(1e6, 0), (1e6, 2)] {
            losses[index] = value;
            let (loss, derivatives) = preference(PreferenceLoss::Sigmoid).loss(&micro_batch(), &losses);
            assert!(loss.is_finite() && derivatives.iter().all(|derivative| derivative.is_finite()));
            losses = LOSSES;
        }
    }
}
