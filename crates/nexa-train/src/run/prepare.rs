//! What a run is made of before its first step.

use std::sync::Arc;

use nexa_core::event::{Event, EventSink};
use nexa_core::lm::Tokenizer as _;
use nexa_core::table::Tables;
use nexa_model::{ChatTokenizer, Checkpoint, DecoderConfig, Weights};

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
    /// The configuration, with the device and what depends on the model filled in.
    pub(crate) config: Config,
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
    let (config, reason) = config.resolve();
    if let Some(reason) = reason {
        events.emit(Event::info(format!("computing on the CPU; {reason}")));
    }
    let config = &fitted(&config, inputs, events)?;
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
    if validation.is_empty() && config.validates_on_the_way() {
        check_goes_without_validation(config)?;
        let text = "nothing is validated, as there are no validation data: give some, or `val_set_size`";
        events.emit(Event::warning(text));
    }
    let teacher = inputs.teacher.as_deref().map(Checkpoint::load).transpose()?;
    if let Some(teacher) = &teacher {
        objective::check_vocabulary(&tokenizer, &teacher.tokenizer, "teacher")?;
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
    let model = Model::new(config, weights, placement.clone())?.over(inputs)?;
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
    Ok(Prepared { config: config.clone(), tokenizer, set, validation, objective, model, fingerprint })
}

/// Refuses what chooses by validations, where there are none.
fn check_goes_without_validation(config: &Config) -> Result<(), Error> {
    for (key, given) in [
        ("early_stopping_patience", config.early_stopping_patience.is_some()),
        ("load_best_model_at_end", config.load_best_model_at_end),
    ] {
        if given {
            let problem = "needs validation data: give some, or `val_set_size`".to_owned();
            return Err(Error::Config { key, problem });
        }
    }
    Ok(())
}

/// Fills in what depends on the model to go on from, and tells what that is.
fn fitted(config: &Config, inputs: &Inputs, events: &dyn EventSink) -> Result<Config, Error> {
    let base = inputs.base.as_ref().map(|base| DecoderConfig::load(&base.join("config.json"))).transpose()?;
    let fitted = config.fitted_to(base.as_ref());
    if config.learning_rate.is_none() {
        let of = match (&base, &config.adapter) {
            (None, _) => "a model from scratch",
            (Some(_), None) => "a given model",
            (Some(_), Some(_)) => "adapters of a given model",
        };
        events.emit(Event::info(format!("`learning_rate` is {:e}, as for {of}", fitted.learning_rate())));
    }
    Ok(fitted)
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
    let Checkpoint { weights, tokenizer: own, .. } = Checkpoint::load(base)?;
    if inputs.tokenizer.is_some() {
        objective::check_vocabulary(&tokenizer, &own, "base")?;
    }
    let decoder = weights.config();
    let fail = |key, problem: String| Err(Error::Config { key, problem });
    if tokenizer.vocab_size() > decoder.vocab_size {
        let (tokens, rows) = (tokenizer.vocab_size(), decoder.vocab_size);
        return fail("model", format!("has {rows} tokens, fewer than the {tokens} of the tokenizer"));
    }
    let (length, most) = (config.sequence_len(), decoder.context_length());
    if length > most {
        return fail("sequence_len", format!("is {length}, more than the {most} positions of the model"));
    }
    Ok((tokenizer, weights))
}

#[cfg(test)]
mod tests {
    use nexa_model::Llama;

    use super::*;
    use crate::Adapter;
    use crate::config::Objective;

    #[test]
    fn what_is_not_said_follows_from_the_model_to_go_on_from() {
        let decoder = |positions| DecoderConfig {
            max_position_embeddings: positions,
            ..DecoderConfig::llama(Llama {
                hidden_size: 8,
                intermediate_size: 8,
                layers: 1,
                heads: 2,
                key_value_heads: 1,
                vocab_size: 300,
            })
        };
        let check = |change: fn(&mut Config), base: Option<usize>, expected| {
            let mut config = Config::default();
            change(&mut config);
            let fitted = config.fitted_to(base.map(decoder).as_ref());
            assert_eq!((fitted.learning_rate(), fitted.sequence_len()), expected);
        };
        check(|_| {}, None, (2e-3, 512));
        check(|config| config.adapter = Some(Adapter::Lora), None, (2e-3, 512));
        check(|_| {}, Some(2048), (2e-5, 512));
        check(|_| {}, Some(192), (2e-5, 192));
        check(|config| config.adapter = Some(Adapter::Lora), Some(2048), (2e-5 * 10.0, 512));
        check(|config| config.objective = Objective::Dpo, Some(2048), (1e-6, 512));
        let given = |config: &mut Config| {
            (config.learning_rate, config.sequence_len) = (Some(0.5), Some(64));
        };
        check(given, Some(2048), (0.5, 64));
    }
}
