//! The parameters that choose tokens, and those that choose the form of the reply.

use std::collections::BTreeMap;

use nexa_core::lm::{Factor, Sampling};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::form::take_form;
use super::logprobs;
use super::state::Served;

/// Stop strings that one request may have.
const MAX_STOPS: usize = 16;

/// Answers that one request may ask for.
pub(super) const MAX_ANSWERS: usize = 128;

/// The largest bias of a token, either way.
const MAX_BIAS: f64 = 100.0;

/// What holds where a request says nothing.
pub(super) struct Defaults {
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) max_tokens: usize,
}

impl Defaults {
    /// OpenAI's for chats: the answer may fill the context.
    pub(super) const CHAT: Self = Self { temperature: 1.0, top_p: 1.0, max_tokens: usize::MAX };
    /// OpenAI's for completions.
    pub(super) const COMPLETION: Self = Self { temperature: 1.0, top_p: 1.0, max_tokens: 16 };
    /// Those of `/infer`.
    pub(super) const INFER: Self = Self { temperature: 0.7, top_p: 0.95, max_tokens: 512 };
}

/// Takes the parameters of [`Sampling`]. Without a `seed`, one is drawn at random.
pub(super) fn take_sampling(fields: &mut Fields, defaults: &Defaults) -> Result<Sampling, ApiError> {
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(defaults.temperature),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(defaults.top_p),
        // -1 is how vLLM's clients say "all".
        top_k: fields.integer("top_k", -1)?.map_or(0, |top_k| usize::try_from(top_k).unwrap_or(0)),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        repetition_penalty: Factor(fields.number("repetition_penalty", 0.01..=10.0)?.unwrap_or(1.0)),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        logit_bias: take_logit_bias(fields)?,
        seed: fields.integer("seed", i64::MIN)?.map_or_else(rand::random, i64::cast_unsigned),
        max_tokens: take_max_tokens(fields)?.unwrap_or(defaults.max_tokens),
        min_tokens: fields.integer("min_tokens", 0)?.map_or(0, |tokens| usize::try_from(tokens).unwrap_or(0)),
        ignore_eos: fields.flag("ignore_eos")?,
        stop: take_stops(fields)?,
        form: take_form(fields)?,
        ..Sampling::default()
    })
}

/// Takes `n`, the number of answers.
pub(super) fn take_count(fields: &mut Fields) -> Result<usize, ApiError> {
    let count = fields.integer("n", 1)?.unwrap_or(1);
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= MAX_ANSWERS)
        .ok_or_else(|| ApiError::bad_param("n", format!("`n` is {count}, but must be at most {MAX_ANSWERS}")))
}

/// Takes a whole number of probabilities.
pub(super) fn take_logprobs(fields: &mut Fields, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(count) = fields.integer(name, 0)? else { return Ok(None) };
    if count > logprobs::MOST {
        let message = format!("`{name}` is {count}, but must be at most {}", logprobs::MOST);
        return Err(ApiError::bad_param(name, message));
    }
    Ok(usize::try_from(count).ok())
}

/// Takes `prompt_logprobs`, in vLLM's form, which streams do not have.
pub(super) fn take_prompt_logprobs(
    fields: &mut Fields,
    delivery: Delivery,
) -> Result<Option<usize>, ApiError> {
    let name = "prompt_logprobs";
    match take_logprobs(fields, name)? {
        Some(_) if delivery != Delivery::Whole => {
            Err(ApiError::bad_param(name, "`prompt_logprobs` is not for `stream: true`"))
        }
        top => Ok(top),
    }
}

/// Takes `logit_bias`: token ids, as strings, with what is added to their logits.
fn take_logit_bias(fields: &mut Fields) -> Result<BTreeMap<u32, f32>, ApiError> {
    let name = "logit_bias";
    let map = match fields.value(name) {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(name, "an object", &other)),
    };
    map.into_iter()
        .map(|(id, bias)| {
            let known = id.parse().ok().zip(bias.as_f64().filter(|bias| bias.abs() <= MAX_BIAS));
            let (id, bias) = known.ok_or_else(|| {
                let message =
                    format!("`{name}` holds `{id}`: {bias}, but must hold token ids with -100 to 100");
                ApiError::bad_param(name, message)
            })?;
            Ok((id, bias as f32))
        })
        .collect()
}

/// Refuses `logit_bias` for ids that the model has no token for.
pub(super) fn check_logit_bias(sampling: &Sampling, served: &Served) -> Result<(), ApiError> {
    let vocabulary = served.engine.tokenizer().vocab_size();
    match sampling.logit_bias.keys().find(|&&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(id) => {
            let message = format!("`logit_bias` holds {id}, but the vocabulary has {vocabulary} tokens");
            Err(ApiError::bad_param("logit_bias", message))
        }
    }
}

/// Takes `max_tokens` or its newer name.
fn take_max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let newer = fields.integer("max_completion_tokens", 1)?;
    let older = fields.integer("max_tokens", 1)?;
    if let (Some(newer), Some(older)) = (newer, older)
        && newer != older
    {
        let message = format!("`max_tokens` is {older}, but `max_completion_tokens` is {newer}");
        return Err(ApiError::bad_param("max_tokens", message));
    }
    Ok(newer.or(older).map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)))
}

fn take_stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let wanted = "a string or an array of strings";
    let stops = match fields.value("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(stop) => Ok(stop),
                other => Err(wrong_type("stop", wanted, &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("stop", wanted, &other)),
    };
    if stops.len() > MAX_STOPS {
        return Err(ApiError::bad_param("stop", format!("`stop` holds more than {MAX_STOPS} strings")));
    }
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::bad_param("stop", "`stop` holds an empty string"));
    }
    Ok(stops)
}

/// How the reply is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// In one piece.
    Whole,
    /// As server-sent events.
    Stream {
        /// Whether a chunk with the usage stands before the end.
        include_usage: bool,
    },
}

/// Takes `stream` and `stream_options`.
pub(super) fn take_delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    let stream = fields.flag("stream")?;
    let options = match fields.value("stream_options") {
        None => None,
        Some(Value::Object(map)) => Some(map),
        Some(other) => return Err(wrong_type("stream_options", "an object", &other)),
    };
    match (stream, options) {
        (false, None) => Ok(Delivery::Whole),
        (false, Some(_)) => {
            Err(ApiError::bad_param("stream_options", "`stream_options` is only for `stream: true`"))
        }
        (true, options) => {
            let mut options = Fields::from(options.unwrap_or_default());
            // Padding against the measuring of lengths; without it the text is the same.
            options.value("include_obfuscation");
            let include_usage = options.flag("include_usage")?;
            options.finish()?;
            Ok(Delivery::Stream { include_usage })
        }
    }
}
