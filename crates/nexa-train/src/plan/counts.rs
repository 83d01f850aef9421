//! How much there is to be computed.

use nexa_core::lm::Tokenizer as _;
use serde::Serialize;

use crate::data::{DatasetCounts, Order, Set};
use crate::model::Model;
use crate::run::{Flops, Plan, Prepared};

/// Numbers of the model, of the data and of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Weights of the model, tied ones once; adapters do not count.
    pub parameters: usize,
    /// Numbers that are trained: all weights, or those of the adapters.
    pub trained_parameters: usize,
    /// Samples of the data.
    pub samples: usize,
    /// What each data set gives to an epoch.
    pub datasets: Vec<DatasetCounts>,
    /// Samples that the model is validated with.
    pub validation_samples: usize,
    /// Steps of the run; `max_time_s` and `early_stopping_patience` may end it sooner.
    pub steps: u64,
    /// Passes over the data, a fraction.
    pub epochs: f64,
    /// Tokens of the run.
    pub tokens: u64,
    /// Tokens of the run that carry loss.
    pub trained_tokens: u64,
    /// Share of the room for tokens that holds none. Nothing is computed for it.
    pub padding_waste: f64,
    /// Tokens of the longest micro-batch.
    pub longest_micro_batch: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
}

/// What is computed for some samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) tokens: u64,
    pub(super) trained_tokens: u64,
    pub(super) squared_lengths: u64,
}

impl Size {
    /// The size of one sample.
    pub(super) fn of(set: &Set, sample: usize) -> Self {
        let sequences = set.sequences(sample);
        // The first token of a sequence has nothing to be predicted from.
        let trained = |mask: crate::Mask<'_>| mask.iter().skip(1).filter(|&trained| trained).count() as u64;
        let squared = |length: usize| (length as u64).pow(2);
        Self {
            tokens: sequences.iter().map(|sequence| sequence.token_ids.len() as u64).sum(),
            trained_tokens: sequences.iter().map(|sequence| trained(sequence.trained)).sum(),
            squared_lengths: sequences.iter().map(|sequence| squared(sequence.token_ids.len())).sum(),
        }
    }

    /// Its sum with another.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            trained_tokens: self.trained_tokens + other.trained_tokens,
            squared_lengths: self.squared_lengths + other.squared_lengths,
        }
    }

    /// Its floating-point operations, forward and backward.
    pub(super) fn flops(self, flops: &Flops) -> f64 {
        flops.count(self.tokens, self.trained_tokens, self.squared_lengths)
    }
}

/// Everything that a run computes.
#[derive(Debug)]
pub(super) struct Work {
    /// The whole run.
    pub(super) run: Size,
    /// One validation.
    pub(super) validation: Size,
    /// The micro-batch with the most tokens.
    pub(super) longest: Size,
    /// The step that it belongs to, from 0.
    pub(super) longest_step: u64,
    /// Tokens of the data.
    pub(super) data_tokens: u64,
    samples: usize,
    datasets: Vec<DatasetCounts>,
    validation_samples: usize,
    vocabulary: usize,
    padding_waste: f64,
}

impl Work {
    /// Adds up the steps of a run, without touching their tokens again.
    pub(super) fn of(prepared: &Prepared, order: &mut Order, course: &Plan) -> Self {
        let sizes = |set: &Set| (0..set.len()).map(|sample| Size::of(set, sample)).collect::<Vec<_>>();
        let (sizes, validation) = (sizes(&prepared.set), sizes(&prepared.validation.set));
        let sum = |sizes: &mut dyn Iterator<Item = Size>| sizes.fold(Size::default(), Size::plus);
        let mut work = Self {
            run: Size::default(),
            validation: sum(&mut validation.iter().copied()),
            longest: Size::default(),
            longest_step: 0,
            data_tokens: sizes.iter().chain(&validation).map(|size| size.tokens).sum(),
            samples: sizes.len(),
            datasets: prepared.set.counts(),
            validation_samples: validation.len(),
            vocabulary: prepared.tokenizer.vocab_size(),
            padding_waste: 0.0,
        };
        let (mut empty, mut micro_batches) = (0.0, 0);
        for step in 0..course.total {
            let picked = order.step(step);
            let parts: Vec<Size> =
                picked.iter().map(|samples| sum(&mut samples.iter().map(|&sample| sizes[sample]))).collect();
            work.run = parts.iter().copied().fold(work.run, Size::plus);
            if let Some(longest) = parts.into_iter().max_by_key(|part| part.tokens)
                && longest.tokens > work.longest.tokens
            {
                (work.longest, work.longest_step) = (longest, step);
            }
            empty += picked.iter().map(|samples| order.empty_share(samples)).sum::<f64>();
            micro_batches += picked.len();
        }
        work.padding_waste = empty / (micro_batches as f64).max(1.0);
        work
    }

    /// What a person is told of it.
    pub(super) fn counts(&self, model: &Model, course: &Plan) -> Counts {
        Counts {
            parameters: model.weights().count(),
            trained_parameters: model.trained_count(),
            samples: self.samples,
            datasets: self.datasets.clone(),
            validation_samples: self.validation_samples,
            steps: course.total,
            epochs: course.total as f64 / course.steps_per_epoch,
            tokens: self.run.tokens,
            trained_tokens: self.run.trained_tokens,
            padding_waste: self.padding_waste,
            longest_micro_batch: self.longest.tokens as usize,
            vocabulary: self.vocabulary,
        }
    }
}
