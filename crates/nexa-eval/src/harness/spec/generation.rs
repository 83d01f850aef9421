//! `generation_kwargs`: how answers are generated.

use nexa_core::lm::{Factor, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::harness::spec::{OneOrMany, Spec};

/// Tokens of an answer where nothing is said.
const MAX_GEN_TOKS: usize = 256;

/// What `generation_kwargs` may hold, by the names that task files use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Generation {
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
        let mut merged = spec.generation_kwargs.clone().unwrap_or_else(|| Value::Object(Default::default()));
        if let (Some(merged), Some(Value::Object(overrides))) = (merged.as_object_mut(), overrides) {
            merged.extend(overrides.clone());
        }
        let place = format!("task `{}`, `generation_kwargs`", spec.task);
        let read: Self = nexa_core::config::from_value(merged, &place)?;
        if read.num_beams.is_some_and(|beams| beams != 1) {
            return Err(spec.error("generation_kwargs", "`num_beams`: answers are not searched for by beams"));
        }
        Ok(read)
    }

    /// How tokens are chosen. Answers are greedy unless the task wants to sample and says at what temperature.
    ///
    /// # Source
    /// The defaults of lm-evaluation-harness: 256 tokens, `until` the delimiter between examples, and no sampling where
    /// `do_sample` is false or the temperature is 0.
    pub(crate) fn sampling(&self, spec: &Spec, seed: u64) -> Sampling {
        let temperature = match (self.do_sample, self.temperature) {
            (Some(false), _) => 0.0,
            (Some(true), None) => 1.0,
            (_, temperature) => temperature.unwrap_or(0.0),
        };
        let is_greedy = temperature == 0.0;
        let stop = match &self.until {
            Some(until) => until.0.clone(),
            None => vec![spec.fewshot_delimiter.clone()],
        };
        Sampling {
            temperature,
            top_p: self.top_p.filter(|_| !is_greedy).unwrap_or(1.0),
            top_k: self.top_k.filter(|_| !is_greedy).unwrap_or(0),
            min_p: self.min_p.filter(|_| !is_greedy).unwrap_or(0.0),
            repetition_penalty: Factor(self.repetition_penalty.unwrap_or(1.0)),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            // A greedy answer draws nothing, so that equal questions are one question.
            seed: if is_greedy { 0 } else { self.seed.unwrap_or(seed) },
            max_tokens: self.max_gen_toks.unwrap_or(MAX_GEN_TOKS),
            stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
            ..Sampling::default()
        }
    }
}
