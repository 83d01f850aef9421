//! `generation_kwargs`: how answers are generated.

use nexa_core::lm::{Factor, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;
use crate::harness::spec::{OneOrMany, Spec};

/// Tokens of an answer where nothing is said.
const MAX_GEN_TOKS: usize = 256;

/// How a task's answers are generated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generation {
    settings: Settings,
    /// As the reference writes it: what the task and the command line say, or its own defaults.
    pub(crate) kwargs: Value,
}

/// What `generation_kwargs` may hold, by the names that task files use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    until: Option<OneOrMany>,
    #[serde(alias = "max_new_tokens", alias = "max_tokens", alias = "max_completion_tokens")]
    max_gen_toks: Option<usize>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<u64>,
    /// The first beam of one is greedy; more are refused.
    num_beams: Option<usize>,
}

impl Generation {
    /// Reads the settings of a task, over which those of the command line go.
    pub(crate) fn of(spec: &Spec, overrides: Option<&Value>) -> Result<Self> {
        let defaults = || json!({"temperature": 0.0, "do_sample": false, "max_gen_toks": MAX_GEN_TOKS});
        let mut kwargs = spec.generation_kwargs.clone().unwrap_or_else(defaults);
        if let Some(kwargs) = kwargs.as_object_mut() {
            kwargs.entry("until").or_insert_with(|| json!([spec.fewshot_delimiter]));
            kwargs.extend(overrides.and_then(Value::as_object).cloned().unwrap_or_default());
        }
        let place = format!("task `{}`, `generation_kwargs`", spec.task);
        let settings: Settings = nexa_core::config::from_value(kwargs.clone(), &place)?;
        if settings.num_beams.is_some_and(|beams| beams != 1) {
            return Err(spec.error("generation_kwargs", "`num_beams`: answers are not searched for by beams"));
        }
        Ok(Self { settings, kwargs })
    }

    /// How tokens are chosen. Answers are greedy unless the task wants to sample and says at what temperature.
    ///
    /// # Source
    /// The defaults of lm-evaluation-harness: 256 tokens, `until` the delimiter between examples, and no sampling where
    /// `do_sample` is false or the temperature is 0.
    pub(crate) fn sampling(&self, seed: u64) -> Sampling {
        let set = &self.settings;
        let temperature = match (set.do_sample, set.temperature) {
            (Some(false), _) => 0.0,
            (Some(true), None) => 1.0,
            (_, temperature) => temperature.unwrap_or(0.0),
        };
        let is_greedy = temperature == 0.0;
        let stop = set.until.iter().flat_map(|until| until.0.clone());
        Sampling {
            temperature,
            top_p: set.top_p.filter(|_| !is_greedy).unwrap_or(1.0),
            top_k: set.top_k.filter(|_| !is_greedy).unwrap_or(0),
            min_p: set.min_p.filter(|_| !is_greedy).unwrap_or(0.0),
            repetition_penalty: Factor(set.repetition_penalty.unwrap_or(1.0)),
            frequency_penalty: set.frequency_penalty.unwrap_or(0.0),
            presence_penalty: set.presence_penalty.unwrap_or(0.0),
            // A greedy answer draws nothing, so that equal questions are one question.
            seed: if is_greedy { 0 } else { set.seed.unwrap_or(seed) },
            max_tokens: set.max_gen_toks.unwrap_or(MAX_GEN_TOKS),
            stop: stop.filter(|text| !text.is_empty()).collect(),
            ..Sampling::default()
        }
    }
}
