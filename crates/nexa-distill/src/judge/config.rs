//! What judging is set to.

use std::path::PathBuf;

use nexa_core::lm::Calls;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rubric::Rubrics;
use crate::Result;
use crate::collect::{self, ResponseSchema};
use crate::embedded::Faults;
use crate::teacher::{Source, TeacherSpec};

/// What is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each answer by itself.
    #[default]
    Single,
    /// The answers to one prompt in pairs, in both orders; a judge that follows the order has judged a tie. Where there is
    /// an evaluation `versus`, the pairs are its answers and those of the other one.
    Pairs,
}

/// What judges are asked to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Levels from 1 to 5, or what holds of a checklist, as JSON.
    #[default]
    Rubric,
    /// As MT-bench: an explanation, then a rating from 1 to 10 or the better answer in double brackets, turn by turn.
    MtBench,
}

/// A rubric, as it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RubricSource {
    /// A file of YAML or JSON.
    File(PathBuf),
    /// The rubric itself, as records hold it.
    Inline(Box<Rubrics>),
}

/// Who judges, by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What judges are asked to say. Default `rubric`.
    pub protocol: Protocol,
    /// The rubric: a file of YAML or JSON, with `criteria` of five levels, a `checklist`, or in the form of BiGGen-Bench.
    /// Only `protocol: rubric` reads it.
    pub rubric: RubricSource,
    /// The judges, named as teachers are. Several are a jury. `embedded` judges by rules, and is no model.
    pub judges: Vec<String>,
    /// Single answers or pairs. Default `single`, and `pairs` where there is an evaluation `versus`.
    pub mode: Option<Mode>,
    /// Shows judges the reference of an item that has one. Default true.
    pub show_reference: bool,
    /// Verdicts of each judge on each answer or pair. Default 1.
    pub samples: u32,
    /// Sampling temperature. Default 0, at which a judge is most like itself.
    pub temperature: f64,
    /// The longest verdict, in tokens. Default 1024, and 2048 by `protocol: mt_bench`.
    pub max_tokens: Option<u64>,
    /// Asks for the probabilities of so many tokens at each place, of which `expected_score` is made. Default: none.
    pub top_logprobs: Option<u8>,
    /// The seed of sample 0; sample `k` has this plus `k`. Default 0.
    pub seed: u64,
    /// Judges this many rows from the beginning. Default: all.
    pub limit: Option<usize>,
    /// Of two evaluations: stops asking once it is decided which is better, and is wrong about two equally good ones with
    /// a chance of at most this. Default: none, and all items are judged.
    pub stop_when_decided: Option<f64>,
    /// The share of verdicts that may be unreadable without failing the stage. Default 0.2.
    pub max_unreadable_share: f64,
    /// Tells the judges' APIs the shape of verdicts, so that they cannot write anything else. Default: where the judge is
    /// named by a provider whose API takes a schema; of a URL it is not known.
    pub constrain: Option<bool>,
    /// Calls under way at once, at most; does not change the result. Default 64.
    pub max_concurrent_requests: usize,
    /// Calls begun in a minute, at most; does not change the result.
    pub max_requests_per_minute: Option<u64>,
    /// Tokens of prompts and verdicts in a minute, at most; does not change the result.
    pub max_tokens_per_minute: Option<u64>,
    /// Further attempts for a call that failed in passing; does not change the result. Default 6.
    pub max_retries: u32,
    /// Seconds after which a call counts as failed; does not change the result. Default 120.
    pub timeout_s: u64,
    /// The ceiling on what this run may spend on calls, in US dollars; does not change the result. Default: that of
    /// `nexa.yaml`, if any.
    pub max_cost_usd: Option<f64>,
    /// Where verdicts must come from, judge by judge, as the record of a run states it.
    pub sources: Option<Vec<Source>>,
}

impl Default for Config {
    fn default() -> Self {
        let calls = Calls::default();
        Self {
            protocol: Protocol::Rubric,
            rubric: RubricSource::File(PathBuf::from("rubric.yaml")),
            judges: Vec::new(),
            mode: None,
            show_reference: true,
            samples: 1,
            temperature: 0.0,
            max_tokens: None,
            top_logprobs: None,
            seed: 0,
            limit: None,
            stop_when_decided: None,
            max_unreadable_share: 0.2,
            constrain: None,
            max_concurrent_requests: calls.max_concurrent_requests,
            max_requests_per_minute: calls.max_requests_per_minute,
            max_tokens_per_minute: calls.max_tokens_per_minute,
            max_retries: calls.max_retries,
            timeout_s: calls.timeout_s,
            max_cost_usd: calls.max_cost_usd,
            sources: None,
        }
    }
}

impl Config {
    /// The longest verdict, in tokens.
    pub(super) fn max_tokens(&self) -> u64 {
        // That of MT-bench is the reference's own; a rubric's verdict is some sentences and a line of JSON.
        self.max_tokens.unwrap_or(match self.protocol {
            Protocol::Rubric => 1024,
            Protocol::MtBench => 2048,
        })
    }

    /// How the judge at a position is asked, with the shape of its verdicts where they have one.
    pub(super) fn asking(
        &self,
        position: usize,
        schema: Option<Map<String, Value>>,
    ) -> Result<collect::Config> {
        let judge = &self.judges[position];
        let takes_schema = judge.parse::<TeacherSpec>()?.provider().takes_schema();
        let schema = schema.filter(|_| self.constrain.unwrap_or(takes_schema));
        Ok(collect::Config {
            teacher: judge.clone(),
            temperature: self.temperature,
            max_tokens: self.max_tokens(),
            samples_per_prompt: self.samples,
            seed: self.seed,
            top_logprobs: self.top_logprobs,
            max_concurrent_requests: self.max_concurrent_requests,
            max_requests_per_minute: self.max_requests_per_minute,
            max_tokens_per_minute: self.max_tokens_per_minute,
            max_retries: self.max_retries,
            timeout_s: self.timeout_s,
            max_cost_usd: self.max_cost_usd,
            response_schema: schema.map(ResponseSchema::Inline),
            source: self.sources.as_ref().and_then(|sources| sources.get(position)).cloned(),
            // The embedded teacher errs so that gates have something to do; a judge should not.
            embedded: Faults::NONE,
            ..collect::Config::default()
        })
    }
}
