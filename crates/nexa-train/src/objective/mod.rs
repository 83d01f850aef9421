//! What is made small: the loss of a micro-batch and its gradients.
//!
//! All objectives go through one loop. They differ in how the losses of tokens become a number, and in what that
//! number is divided by: trained tokens, or preferences.

mod distillation;
mod preference;

use std::path::Path;
use std::sync::Arc;

use nexa_core::event::EventSink;
use nexa_model::{Decoder, Gradients, Objective as Loss};

use self::distillation::Distillation;
pub(crate) use self::distillation::check_vocabulary;
use self::preference::Preference;
use crate::data::Set;
use crate::run::MicroBatch;
use crate::{Config, Error, config};

/// What is made small on one set of samples.
#[derive(Debug)]
pub(crate) enum Objective {
    /// The negative log-likelihood of the trained tokens.
    Likelihood,
    /// The loss of choosing the worse of two answers.
    Preference(Preference),
    /// A divergence from a teacher, mixed with the negative log-likelihood.
    Distillation(Distillation),
}

/// What the objectives of a run are made from.
pub(crate) struct Sources<'a> {
    /// The model before its first step.
    pub(crate) initial: &'a Decoder,
    /// A hash of that model.
    pub(crate) initial_hash: &'a str,
    /// The teacher.
    pub(crate) teacher: Option<Arc<Decoder>>,
    /// A hash of the teacher.
    pub(crate) teacher_hash: &'a str,
    /// Where what is slow to compute is kept.
    pub(crate) cache: &'a Path,
    /// Where events go.
    pub(crate) events: &'a dyn EventSink,
}

impl Objective {
    /// Prepares the objective of a configuration for a set.
    ///
    /// # Errors
    /// Fails when the samples are not of the kind that it needs, or when the teacher is missing or of another
    /// vocabulary.
    pub(crate) fn new(config: &Config, set: &Set, sources: &Sources<'_>) -> Result<Self, Error> {
        let wants_preferences = config.objective == config::Objective::Dpo;
        if !set.is_empty() && set.has_preferences() != wants_preferences {
            let problem = if wants_preferences {
                "is `dpo`, but the samples are no preferences (rows with `prompt`, `chosen` and `rejected`)"
            } else {
                "is not `dpo`, but the samples are preferences"
            };
            return Err(Error::Config { key: "objective", problem: problem.to_owned() });
        }
        Ok(match config.objective {
            config::Objective::Pretrain | config::Objective::Sft => Self::Likelihood,
            config::Objective::Dpo => Self::Preference(Preference::new(config, set, sources)?),
            config::Objective::Distill => Self::Distillation(Distillation::new(config, set, sources)?),
        })
    }

    /// Computes the loss of a micro-batch, summed, and its gradients.
    pub(crate) fn gradients(&self, decoder: &Decoder, micro_batch: &MicroBatch) -> Gradients {
        let batch = &micro_batch.batch;
        match self {
            Self::Likelihood => decoder.gradients(batch, Loss::CrossEntropy),
            Self::Preference(preference) => {
                decoder.gradients(batch, Loss::Of(&|losses| preference.loss(micro_batch, losses)))
            }
            Self::Distillation(distillation) => {
                let teacher = distillation.teach(micro_batch);
                decoder.gradients(batch, Loss::Distill(&teacher, distillation.divergence()))
            }
        }
    }

    /// Computes the loss of a micro-batch, summed, and nothing for a backward pass.
    pub(crate) fn loss(&self, decoder: &Decoder, micro_batch: &MicroBatch) -> f64 {
        let batch = &micro_batch.batch;
        let sum = |losses: Vec<f32>| losses.into_iter().map(f64::from).sum::<f64>();
        match self {
            Self::Likelihood => sum(decoder.token_losses(batch)),
            Self::Preference(preference) => preference.loss(micro_batch, &decoder.token_losses(batch)).0,
            Self::Distillation(distillation) => {
                let teacher = distillation.teach(micro_batch);
                sum(decoder.divergences(batch, &teacher, distillation.divergence()))
            }
        }
    }

    /// What the loss of a micro-batch is a sum over: its trained tokens, or its preferences.
    pub(crate) fn terms(&self, micro_batch: &MicroBatch) -> u64 {
        match self {
            Self::Likelihood | Self::Distillation(_) => micro_batch.batch.trained_tokens() as u64,
            Self::Preference(_) => micro_batch.samples.len() as u64,
        }
    }

    /// Counts the preferences of a micro-batch that the model shares, from the negative log-likelihoods of its tokens.
    pub(crate) fn shared_preferences(&self, micro_batch: &MicroBatch, losses: &[f32]) -> Option<u64> {
        match self {
            Self::Preference(preference) => Some(preference.shared(micro_batch, losses)),
            Self::Likelihood | Self::Distillation(_) => None,
        }
    }
}
