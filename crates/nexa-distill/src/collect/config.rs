//! What a collection is set to.

use std::path::PathBuf;

use nexa_core::lm::Calls;
use nexa_core::{config, files};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::STAGE;
use super::policy::OnFailure;
use crate::Result;
use crate::client::Sampling;
use crate::embedded::Faults;
use crate::error::{check, check_share};
use crate::teacher::{Provider, Source};

/// Which teacher is asked, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The teacher: `openrouter:openai/gpt-4o`, `openai:gpt-4o-mini`, `http://host:port/v1#model`, `local` for the
    /// checkpoint with the role `teacher`, `embedded`, …
    /// Default `embedded`, which needs neither key nor network.
    pub teacher: String,
    /// Sampling temperature. Default 0.7, at which several samples of one prompt differ but stay sensible.
    pub temperature: f64,
    /// Nucleus sampling. Default: the provider's own, as for everything below that has no other.
    pub top_p: Option<f64>,
    /// Keeps the so many most probable tokens, where the provider takes it.
    pub top_k: Option<u32>,
    /// Makes tokens less probable by how often they stand in the answer already.
    pub frequency_penalty: Option<f64>,
    /// Makes tokens less probable that stand in the answer already.
    pub presence_penalty: Option<f64>,
    /// Ends an answer before any of these texts. Default: none.
    pub stop: Vec<String>,
    /// How long a model that reasons may reason: `low`, `medium`, `high`.
    pub reasoning_effort: Option<String>,
    /// The JSON schema of answers: a file, or the schema itself. Answers that do not fit are asked for again.
    pub response_schema: Option<ResponseSchema>,
    /// Keeps the log-probabilities of so many tokens at each place, in the column `logprobs`.
    pub top_logprobs: Option<u8>,
    /// The longest answer, in tokens. Default 512, room for a worked solution.
    pub max_tokens: u64,
    /// The length at which an answer that was cut off at `max_tokens` is asked for once more. Default: none, and what is
    /// cut off stays so.
    pub max_tokens_cap: Option<u64>,
    /// Answers for each prompt. Default 1.
    pub samples_per_prompt: u32,
    /// The seed of sample 0; sample `k` has this plus `k`. Default 0.
    pub seed: u64,
    /// Takes this many prompts from the beginning. Default: all.
    pub limit: Option<usize>,
    /// What becomes of answers that cannot be used as they are.
    pub on_failure: OnFailure,
    /// How often the embedded teacher errs; no other teacher reads it.
    pub embedded: Faults,
    /// Calls under way at once, at most: fewer where the provider says that they are too many. Does not change the
    /// result. Default 64.
    pub max_concurrent_requests: usize,
    /// Calls begun in a minute, at most; the provider's headers may lower it. Does not change the result.
    pub max_requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute, at most; the provider's headers may lower it. Does not change the
    /// result.
    pub max_tokens_per_minute: Option<u64>,
    /// Further attempts for a call that failed in passing; does not change the result. Default 6, about half a minute.
    pub max_retries: u32,
    /// Seconds after which a call counts as failed; does not change the result. Default 120.
    pub timeout_s: u64,
    /// Seconds that an endpoint has to come back once most calls fail; then one call decides whether to go on. 0 stops at
    /// once; does not change the result. Default 15.
    pub cool_down_s: f64,
    /// The ceiling on what this run may spend on calls, in US dollars; does not change the result. Default: that of
    /// `nexa.yaml`, if any.
    pub max_cost_usd: Option<f64>,
    /// The ceiling on the tokens that this run may use, prompts and answers together; does not change the result.
    pub max_total_tokens: Option<u64>,
    /// Hands the calls in as batches, which a provider answers within a day at a lower price; does not change the
    /// result. The command ends once they are handed in, and collects them when it is run again. Default false.
    pub batch: bool,
    /// The share of answers that may fail for good, as the provider does not accept what is asked, without failing the
    /// stage. Default 0.05.
    pub max_failed_share: f64,
    /// Where answers must come from, as the record of a run states it: `{base_url: …}`, `{embedded_version: …}` or
    /// `{input: teacher}`. The stage cannot be made where this lab would ask elsewhere. Default: wherever the teacher's
    /// name and `OPENAI_BASE_URL` lead.
    pub source: Option<Source>,
}

impl Default for Config {
    fn default() -> Self {
        let calls = Calls::default();
        Self {
            teacher: "embedded".to_owned(),
            temperature: 0.7,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            stop: Vec::new(),
            reasoning_effort: None,
            response_schema: None,
            top_logprobs: None,
            max_tokens: 512,
            max_tokens_cap: None,
            samples_per_prompt: 1,
            seed: 0,
            limit: None,
            on_failure: OnFailure::default(),
            embedded: Faults::default(),
            max_concurrent_requests: calls.max_concurrent_requests,
            max_requests_per_minute: calls.max_requests_per_minute,
            max_tokens_per_minute: calls.max_tokens_per_minute,
            max_retries: calls.max_retries,
            timeout_s: calls.timeout_s,
            cool_down_s: 15.0,
            max_cost_usd: calls.max_cost_usd,
            max_total_tokens: calls.max_total_tokens,
            batch: false,
            max_failed_share: calls.max_failed_share,
            source: None,
        }
    }
}

/// The JSON schema of answers, as it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResponseSchema {
    /// The schema itself, as records hold it.
    Inline(Map<String, Value>),
    /// A file that holds it, as JSON or YAML.
    File(PathBuf),
}

impl ResponseSchema {
    fn read(&self) -> Result<Value> {
        match self {
            Self::Inline(schema) => Ok(Value::Object(schema.clone())),
            Self::File(path) => {
                Ok(config::parse_yaml(&files::read_text(path)?, &path.display().to_string())?)
            }
        }
    }
}

impl Config {
    /// Checks what can be checked without a teacher.
    pub(super) fn check(&self, provider: Provider) -> Result<()> {
        let between = |key, value: Option<f64>, low: f64, high: f64, message| match value {
            Some(value) => check(STAGE, key, value).that((low..=high).contains(&value), message),
            None => Ok(()),
        };
        between("temperature", Some(self.temperature), 0.0, 2.0, "it lies between 0 and 2")?;
        between("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "it lies between -2 and 2")?;
        between("presence_penalty", self.presence_penalty, -2.0, 2.0, "it lies between -2 and 2")?;
        between("cool_down_s", Some(self.cool_down_s), 0.0, 3600.0, "it lies between 0 and an hour")?;
        between("max_cost_usd", self.max_cost_usd, 0.0, f64::MAX, "a ceiling is not negative")?;
        if let Some(top_p) = self.top_p {
            check(STAGE, "top_p", top_p).that(top_p > 0.0 && top_p <= 1.0, "it lies above 0 and up to 1")?;
        }
        if let Some(top_k) = self.top_k {
            check(STAGE, "top_k", top_k).that(top_k > 0, "there must be a token to choose from")?;
            check(STAGE, "top_k", top_k)
                .that(provider.takes_top_k(), "this teacher's API does not take it")?;
        }
        let at_least_one = [
            ("max_tokens", self.max_tokens, "an answer needs at least one token"),
            ("samples_per_prompt", self.samples_per_prompt.into(), "there must be at least one"),
            ("max_concurrent_requests", self.max_concurrent_requests as u64, "there must be at least one"),
            ("max_requests_per_minute", self.max_requests_per_minute.unwrap_or(1), "none could be made"),
            ("max_tokens_per_minute", self.max_tokens_per_minute.unwrap_or(1), "none could be used"),
            ("timeout_s", self.timeout_s, "a call takes time"),
            ("limit", self.limit.unwrap_or(1) as u64, "there must be a prompt to ask"),
        ];
        for (key, value, message) in at_least_one {
            check(STAGE, key, value).that(value > 0, message)?;
        }
        if let Some(cap) = self.max_tokens_cap {
            check(STAGE, "max_tokens_cap", cap)
                .that(cap >= self.max_tokens, "it cannot lie below `max_tokens`")?;
        }
        let many_stops = self.stop.len() > 4;
        check(STAGE, "stop", self.stop.len()).that(!many_stops, "providers take at most four texts")?;
        let logprobs = self.top_logprobs.unwrap_or(0);
        check(STAGE, "top_logprobs", logprobs).that(logprobs <= 20, "providers tell at most 20")?;
        let is_told = self.top_logprobs.is_none() || !provider.is_here();
        check(STAGE, "top_logprobs", logprobs).that(is_told, "this teacher does not tell any")?;
        check(STAGE, "batch", self.batch)
            .that(!self.batch || !provider.is_here(), "a teacher on this machine takes no batches")?;
        check_share(STAGE, "max_failed_share", self.max_failed_share)?;
        self.embedded.check(STAGE)
    }

    /// What every request has in common. Reads the schema's file, if there is one.
    pub(super) fn sampling(&self) -> Result<Sampling> {
        Ok(Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            stop: self.stop.clone(),
            reasoning_effort: self.reasoning_effort.clone(),
            response_schema: self.response_schema.as_ref().map(ResponseSchema::read).transpose()?,
            top_logprobs: self.top_logprobs,
        })
    }

    /// The settings that determine the result, over what is the same in every request.
    pub(super) fn determining(&self, sampling: &Sampling) -> Value {
        let mut value = json!(sampling);
        value["max_tokens"] = json!(self.max_tokens);
        value["max_tokens_cap"] = json!(self.max_tokens_cap);
        value["samples_per_prompt"] = json!(self.samples_per_prompt);
        value["seed"] = json!(self.seed);
        value["limit"] = json!(self.limit);
        value["on_failure"] = json!(self.on_failure);
        value
    }
}
