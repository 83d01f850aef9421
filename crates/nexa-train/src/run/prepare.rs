//! What a run is made of before its first step.

use std::sync::Arc;

use nexa_core::event::{Event, EventSink};
use nexa_core::lm::Tokenizer as _;
use nexa_core::table::Tables;
use nexa_model::{ChatTokenizer, Checkpoint, Weights};

use super::steps::Validating;
use super::{Inputs, fingerprint};
use crate::data::{Reading, Set, load_tokenizer};
use crate::model::Model;
use crate::objective::{self, Objective, Sources};
use crate::placement::Placement;
use crate::{Config, Error};

/// Model, data and objective.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Goes with the model into every checkpoint.
    pub(crate) tokenizer: ChatTokenizer,
    /// The training data.
    pub(crate) set: Set,
    /// The validation data, with its objective.
    pub(crate) validation: Validating,
    /// What is made small on the training data.
    pub(crate) objective: Objective,
    /// The model before its first step.
    pub(crate) model: Model,
    /// A hash of all that decides the result.
    pub(crate) fingerprint: String,
}

/// Reads what a run begins with. Tokenised data and what a reference model said are kept in the cache, so that this
/// costs little the second time.
///
/// # Errors
/// Fails on an impossible config, and on a model or data that cannot be read or trained on.
pub(crate) fn prepare(
    config: &Config,
    inputs: &Inputs,
    tables: &dyn Tables,
    events: &dyn EventSink,
) -> Result<Prepared, Error> {
    config.check()?;
    // Before anything that takes long: a device may not be there.
    let placement = Placement::new(config)?;
    if !placement.is_cpu() {
        events.emit(Event::info(format!("computing on {} in {}", config.device, placement.precision())));
    }
    let (tokenizer, weights) = starting_point(config, inputs)?;
    config.check_datasets(&[inputs.train.as_slice(), &inputs.validation].concat())?;
    let cache = config.dataset_prepared_path.as_ref().unwrap_or(&inputs.cache);
    let reading = Reading { config, tokenizer: &tokenizer, tables, cache, events };
    let set = Set::open(&inputs.train, &reading)?;
    let validation = Set::open_validation(&inputs.validation, &reading)?;
    let (set, validation) = if validation.is_empty() { set.split(config) } else { (set, validation) };
    let teacher = inputs.teacher.as_deref().map(Checkpoint::load).transpose()?;
    if let Some(teacher) = &teacher {
        objective::check_vocabulary(&tokenizer, &teacher.tokenizer)?;
    }

    let initial_hash = weights.content_hash();
    let sets = [set.fingerprint(), validation.fingerprint()];
    let teacher_hash = teacher.as_ref().map(|teacher| teacher.weights_hash.to_string()).unwrap_or_default();
    let parts = [
        &weights.config().to_json(),
        initial_hash.as_str(),
        sets[0].as_str(),
        sets[1].as_str(),
        &teacher_hash,
    ];
    let fingerprint = fingerprint::of(config, &parts);
    let model = Model::new(config, weights, placement.clone())?.over(inputs.base.as_deref())?;
    let initial = model.decoder(config);
    let sources = Sources {
        initial: &initial,
        initial_hash: initial_hash.as_str(),
        teacher: teacher.map(|teacher| Arc::new(placement.decoder(&teacher.weights))),
        teacher_hash: &teacher_hash,
        cache: &inputs.cache,
        events,
    };
    let objective = Objective::new(config, &set, &sources)?;
    let validation =
        Validating { objective: Objective::new(config, &validation, &sources)?, set: validation };
    drop(initial);
    Ok(Prepared { tokenizer, set, validation, objective, model, fingerprint })
}

/// The tokenizer and the weights before the first step.
fn starting_point(config: &Config, inputs: &Inputs) -> Result<(ChatTokenizer, Weights), Error> {
    let folder = inputs.tokenizer.as_ref().or(inputs.base.as_ref()).ok_or_else(|| Error::Config {
        key: "model",
        problem: "needs a tokenizer: give one the role `tokenizer`, or a model to go on from the role `base`"
            .to_owned(),
    })?;
    let tokenizer = load_tokenizer(config, folder)?;
    let Some(base) = &inputs.base else {
        let weights = Weights::random(&config.decoder(&tokenizer)?, config.seed)?;
        return Ok((tokenizer, weights));
    };
    let weights = Checkpoint::load(base)?.weights;
    let decoder = weights.config();
    let fail = |key, problem: String| Err(Error::Config { key, problem });
    if tokenizer.vocab_size() > decoder.vocab_size {
        let (tokens, rows) = (tokenizer.vocab_size(), decoder.vocab_size);
        return fail("model", format!("has {rows} tokens, fewer than the {tokens} of the tokenizer"));
    }
    if config.sequence_len > decoder.max_position_embeddings {
        let (length, most) = (config.sequence_len, decoder.max_position_embeddings);
        return fail("sequence_len", format!("is {length}, more than the {most} positions of the model"));
    }
    Ok((tokenizer, weights))
}
