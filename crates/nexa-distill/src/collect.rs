//! Collects a teacher's answers: many calls at once, each answer kept the moment it is there.
//!
//! What determines the answers is the key of the work: teacher, sampling, seed. How they are fetched is not: a run that
//! was killed, throttled or moved to another cap on spending goes on with what is already there, and its table is the
//! same to the last byte.

mod breaker;
mod driver;
mod job;
mod log;
mod money;
mod retry;

use std::collections::BTreeMap;
use std::time::Duration;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::embedded::{self, EmbeddedTeacher, Faults};
use crate::error::{check, check_share};
use crate::teacher::{Endpoint, Provider, TeacherSpec};
use crate::{Error, Result, table};

use driver::{Driver, Results};
use job::Jobs;
use log::ResponseLog;
use money::Purse;

const STAGE: &str = "distill.collect";

/// Which teacher is asked, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The teacher: `openrouter:openai/gpt-4o`, `openai:gpt-4o-mini`, `http://host:port/v1#model`, `embedded`, …
    /// Default `embedded`, which needs neither key nor network.
    pub teacher: String,
    /// Sampling temperature. Default 0.7, at which several samples of one prompt differ but stay sensible.
    pub temperature: f64,
    /// Nucleus sampling. Default: the provider's own.
    pub top_p: Option<f64>,
    /// The longest answer, in tokens. Default 512, room for a worked solution.
    pub max_tokens: u64,
    /// Answers for each prompt. Default 1.
    pub samples_per_prompt: u32,
    /// The seed of sample 0; sample `k` has this plus `k`. Default 0.
    pub seed: u64,
    /// Takes this many prompts from the beginning. Default: all.
    pub limit: Option<usize>,
    /// How often the embedded teacher errs; no other teacher reads it.
    pub embedded: Faults,
    /// Calls under way at once; does not change the result. Default 16, which small accounts still allow.
    pub max_concurrent_requests: usize,
    /// Further attempts for a call that failed in passing; does not change the result. Default 6, about half a minute.
    pub max_retries: u32,
    /// Seconds after which a call counts as failed; does not change the result. Default 120.
    pub timeout_s: u64,
    /// The ceiling on what this run may spend on calls, in US dollars; does not change the result. Default: that of
    /// `nexa.yaml`, if any.
    pub max_cost_usd: Option<f64>,
    /// The share of answers that may fail for good without failing the stage. Default 0.05.
    pub max_failed_share: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            teacher: "embedded".to_owned(),
            temperature: 0.7,
            top_p: None,
            max_tokens: 512,
            samples_per_prompt: 1,
            seed: 0,
            limit: None,
            embedded: Faults::default(),
            max_concurrent_requests: 16,
            max_retries: 6,
            timeout_s: 120,
            max_cost_usd: None,
            max_failed_share: 0.05,
        }
    }
}

/// The stage `distill.collect`: role `inputs` in, teacher outputs out.
#[derive(Debug, Clone)]
pub struct Collect {
    config: Config,
    teacher: TeacherSpec,
}

impl Collect {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key, and on a teacher that cannot be meant.
    pub fn new(config: Config) -> Result<Self> {
        let teacher = config.teacher.parse()?;
        check(
            STAGE,
            "temperature",
            config.temperature,
            (0.0..=2.0).contains(&config.temperature),
            "it lies between 0 and 2",
        )?;
        if let Some(top_p) = config.top_p {
            check(STAGE, "top_p", top_p, top_p > 0.0 && top_p <= 1.0, "it lies above 0 and up to 1")?;
        }
        check(
            STAGE,
            "max_tokens",
            config.max_tokens,
            config.max_tokens > 0,
            "an answer needs at least one token",
        )?;
        let samples = config.samples_per_prompt;
        check(STAGE, "samples_per_prompt", samples, samples > 0, "there must be at least one")?;
        let concurrent = config.max_concurrent_requests;
        check(STAGE, "max_concurrent_requests", concurrent, concurrent > 0, "there must be at least one")?;
        check(STAGE, "timeout_s", config.timeout_s, config.timeout_s > 0, "a call takes time")?;
        if let Some(usd) = config.max_cost_usd {
            check(STAGE, "max_cost_usd", usd, usd >= 0.0, "a ceiling is not negative")?;
        }
        check_share(STAGE, "max_failed_share", config.max_failed_share)?;
        config.embedded.check(STAGE)?;
        Ok(Self { config, teacher })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let inputs = context.inputs.require("inputs")?;
        let mut rows = table::read(context, inputs)?;
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        let jobs = Jobs::new(&rows, &self.config, &inputs.file("parquet")?)?;

        let embedded = self.start_embedded()?;
        let base_url = embedded.as_ref().map(EmbeddedTeacher::base_url);
        let endpoint = self.teacher.endpoint(context.services.environment, base_url.as_deref())?;
        let purse = Purse::open(context, &self.config, &endpoint)?;
        let place = self.log_place(&endpoint);
        let client = Client::new(endpoint, Duration::from_secs(self.config.timeout_s))?;
        let log = ResponseLog::open(context, &place, &self.teacher.to_string())?;

        let results = Driver::new(context, &self.config, &self.teacher, &jobs, log, purse)?.run(&client)?;
        self.write(context, &rows, &jobs, &results)
    }

    fn start_embedded(&self) -> Result<Option<EmbeddedTeacher>> {
        let config = embedded::Config { seed: self.config.seed, faults: self.config.embedded };
        (self.teacher.provider() == Provider::Embedded).then(|| EmbeddedTeacher::start(config)).transpose()
    }

    /// What tells the answers of one teacher from those of every other: its address and model; for the embedded
    /// teacher, whose address changes, what its answers depend on.
    fn log_place(&self, endpoint: &Endpoint) -> Value {
        match endpoint.provider {
            Provider::Embedded => json!({
                "embedded": embedded::ANSWER_VERSION,
                "seed": self.config.seed,
                "faults": answer_faults(&self.config.embedded),
            }),
            _ => json!({"base_url": endpoint.base_url, "model": endpoint.model}),
        }
    }

    fn write(&self, context: &Context<'_>, rows: &[Row], jobs: &Jobs, results: &Results) -> Result<()> {
        let mut outputs = Vec::new();
        let mut failed = Vec::new();
        for place in jobs.places() {
            let row = &rows[place.row];
            match results.of(place.job) {
                Ok(answer) => outputs.push(output_row(row, place.sample_index, &self.config, answer)),
                Err(failure) => {
                    let mut row = row.clone();
                    row.insert(columns::SAMPLE_INDEX.to_owned(), json!(place.sample_index));
                    row.insert("failure".to_owned(), json!(failure.kind()));
                    row.insert("reason".to_owned(), json!(failure.message()));
                    failed.push(row);
                }
            }
        }
        let total = outputs.len() + failed.len();
        let max_share = self.config.max_failed_share;
        if outputs.is_empty() || failed.len() as f64 > max_share * total as f64 {
            let first = failed.first().map_or_else(String::new, |row| {
                format!(
                    "{}: {}",
                    table::cell(row, "failure").unwrap_or_default(),
                    table::cell(row, "reason").unwrap_or_default()
                )
            });
            let teacher = self.teacher.to_string();
            return Err(Error::TooManyFailed { teacher, failed: failed.len(), total, max_share, first });
        }
        context.services.tables.write(&context.output.join("parquet"), &outputs)?;
        if !failed.is_empty() {
            JsonLines.write(&context.output.join("failed.jsonl"), &failed)?;
            context.emit(Event::warning(format!(
                "{} of {total} answers failed for good; they stand in `failed.jsonl`, and `--force` asks for them again",
                failed.len()
            )));
        }
        self.state(context, &outputs, failed.len(), results)
    }

    fn state(&self, context: &Context<'_>, outputs: &[Row], failed: usize, results: &Results) -> Result<()> {
        let tokens: u64 = outputs.iter().filter_map(|row| row[columns::COMPLETION_TOKENS].as_u64()).sum();
        let mut endings = BTreeMap::<&str, usize>::new();
        for row in outputs {
            *endings.entry(row[columns::FINISH_REASON].as_str().unwrap_or_default()).or_default() += 1;
        }
        context.set_rows(outputs.len() as u64);
        context.set_tokens(tokens);
        context.state("teacher", self.teacher.to_string())?;
        context.state("failed", failed)?;
        context.state("reused", results.reused)?;
        context.state("retries", results.retries)?;
        context.state("finish_reasons", endings)?;
        Ok(())
    }
}

impl Stage for Collect {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::TeacherOutputs
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        let config = &self.config;
        let mut value = json!({
            "teacher": self.teacher.to_string(),
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_tokens,
            "samples_per_prompt": config.samples_per_prompt,
            "seed": config.seed,
            "limit": config.limit,
        });
        if self.teacher.provider() == Provider::Embedded {
            value["embedded"] = answer_faults(&config.embedded);
        }
        value
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// The faults that change answers. Those of the transport only change how long it takes.
fn answer_faults(faults: &Faults) -> Value {
    json!({
        "wrong": faults.wrong,
        "refusing": faults.refusing,
        "truncated": faults.truncated,
        "repetitive": faults.repetitive,
    })
}

fn output_row(input: &Row, sample_index: u32, config: &Config, answer: &Answer) -> Row {
    let mut row = input.clone();
    if config.samples_per_prompt > 1 {
        let id = table::cell(input, columns::ID).unwrap_or_default();
        row.insert(columns::ID.to_owned(), json!(format!("{id}-s{sample_index}")));
    }
    row.insert(columns::SAMPLE_INDEX.to_owned(), json!(sample_index));
    row.insert(columns::TEACHER_OUTPUT.to_owned(), json!(answer.text));
    row.insert(columns::MODEL_ID.to_owned(), json!(answer.model_id));
    row.insert(columns::FINISH_REASON.to_owned(), json!(answer.finish_reason.as_str()));
    row.insert(columns::PROMPT_TOKENS.to_owned(), json!(answer.prompt_tokens));
    row.insert(columns::COMPLETION_TOKENS.to_owned(), json!(answer.completion_tokens));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_holds_what_determines_the_answers_and_nothing_else() {
        let config = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            Collect::new(config).unwrap().config()
        };
        let plain = config(|_| {});
        assert_eq!(plain, config(|c| c.max_concurrent_requests = 1));
        assert_eq!(plain, config(|c| c.max_cost_usd = Some(1.0)));
        assert_eq!(plain, config(|c| c.embedded.failing = 0.5));
        assert_ne!(plain, config(|c| c.embedded.wrong = 0.5));
        assert_ne!(plain, config(|c| c.temperature = 0.0));
        let again: Config = nexa_core::config::from_value(plain, "record").unwrap();
        assert_eq!(again, Config::default());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |yaml: &str, expected: &str| {
            let value = nexa_core::config::parse_yaml(yaml, "test").unwrap();
            let config: Config = nexa_core::config::from_value(value, "test").unwrap();
            let error = Collect::new(config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("samples_per_prompt: 0", "`samples_per_prompt` is 0");
        check("temperature: 3", "`temperature` is 3");
        check("embedded: {wrong: 1.5}", "`embedded.wrong` is 1.5");
        check("embedded: {wrong: 0.6, refusing: 0.6}", "bad answers cannot be more than all answers");
        check("teacher: nobody:x", "unknown provider");
    }
}
