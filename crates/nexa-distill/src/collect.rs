//! Collects a teacher's answers: many calls at once, each answer kept the moment it is there.
//!
//! What determines the answers is the key of the work: teacher, sampling, seed. How they are fetched is not: a run that
//! was killed, throttled or moved to another cap on spending goes on with what is already there, and its table is the
//! same to the last byte.

mod ask;
mod bill;
mod breaker;
mod driver;
mod job;
mod journal;
mod log;
mod money;
mod retry;

use std::collections::BTreeMap;
use std::time::Duration;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::env::Environment;
use nexa_core::event::Event;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::embedded::{self, EmbeddedTeacher, Faults};
use crate::error::{check, check_share};
use crate::teacher::{Source, TeacherSpec};
use crate::{Error, Result, table};

pub(crate) use ask::Asked;
use driver::{Driver, Results, Work};
use job::Jobs;
use log::ResponseLog;
use money::Purse;

const STAGE: &str = "distill.collect";
/// The file of the run's folder that holds what providers said of what failed for good.
const REASONS: &str = "reasons.jsonl";

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
    /// The share of answers that may fail for good, as the provider does not accept what is asked, without failing the
    /// stage. Default 0.05.
    pub max_failed_share: f64,
    /// Where answers must come from, as the record of a run states it: `{base_url: …}` or `{embedded_version: …}`. The
    /// stage cannot be made where this lab would ask elsewhere. Default: wherever the teacher's name and
    /// `OPENAI_BASE_URL` lead.
    pub source: Option<Source>,
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
            source: None,
        }
    }
}

/// The stage `distill.collect`: role `inputs` in, teacher outputs out.
#[derive(Debug, Clone)]
pub struct Collect {
    config: Config,
    teacher: TeacherSpec,
    source: Source,
}

/// What was collected: rows of answers, and the rows whose calls failed for good, the latter also with the provider's
/// words.
#[derive(Debug, Default)]
struct Collected {
    outputs: Vec<Row>,
    failed: Vec<Row>,
    reasons: Vec<Row>,
}

impl Collect {
    /// Makes the stage. The environment says where some teachers are; their keys are looked for when they are called.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key, and on a teacher that cannot be meant.
    pub fn new(config: Config, environment: &Environment) -> Result<Self> {
        let teacher: TeacherSpec = config.teacher.parse()?;
        let source = teacher.source(environment)?;
        if let Some(recorded) = &config.source {
            let here = "answers would come from elsewhere here; leave it out to ask there";
            check(STAGE, "source", json!(recorded)).that(*recorded == source, here)?;
        }
        check(STAGE, "temperature", config.temperature)
            .that((0.0..=2.0).contains(&config.temperature), "it lies between 0 and 2")?;
        if let Some(top_p) = config.top_p {
            check(STAGE, "top_p", top_p).that(top_p > 0.0 && top_p <= 1.0, "it lies above 0 and up to 1")?;
        }
        check(STAGE, "max_tokens", config.max_tokens)
            .that(config.max_tokens > 0, "an answer needs at least one token")?;
        let samples = config.samples_per_prompt;
        check(STAGE, "samples_per_prompt", samples).that(samples > 0, "there must be at least one")?;
        let concurrent = config.max_concurrent_requests;
        check(STAGE, "max_concurrent_requests", concurrent)
            .that(concurrent > 0, "there must be at least one")?;
        check(STAGE, "timeout_s", config.timeout_s).that(config.timeout_s > 0, "a call takes time")?;
        if let Some(usd) = config.max_cost_usd {
            check(STAGE, "max_cost_usd", usd).that(usd >= 0.0, "a ceiling is not negative")?;
        }
        check_share(STAGE, "max_failed_share", config.max_failed_share)?;
        config.embedded.check(STAGE)?;
        Ok(Self { config, teacher, source })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let Self { config, teacher, source } = self;
        let inputs = context.inputs.require("inputs")?;
        let mut rows = table::read(context, inputs)?;
        rows.truncate(config.limit.unwrap_or(usize::MAX));
        let jobs = Jobs::new(&rows, config, &inputs.file("parquet")?)?;

        let (embedded, base_url) = match source {
            Source::BaseUrl(base_url) => (None, base_url.clone()),
            Source::EmbeddedVersion(_) => {
                let embedded = self.start_embedded()?;
                let base_url = embedded.base_url();
                (Some(embedded), base_url)
            }
        };
        let endpoint = teacher.endpoint(context.services.environment, &base_url)?;
        let log = ResponseLog::open(context, &self.log_place(), &teacher.to_string())?;
        let purse = Purse::open(context, config, &endpoint, log.paid())?;
        let client = Client::new(endpoint, Duration::from_secs(config.timeout_s))?;

        let work = Work { context, config, teacher, jobs: &jobs };
        let results = Driver::new(work, log, purse).run(&client)?;
        drop(embedded);
        results.require_settled(teacher)?;
        let collected = self.sort(&rows, &jobs, &results);
        self.write(context, &collected)?;
        context.state("reused", results.reused)?;
        context.state("retries", results.retries)?;
        Ok(())
    }

    fn start_embedded(&self) -> Result<EmbeddedTeacher> {
        EmbeddedTeacher::start(embedded::Config { seed: self.config.seed, faults: self.config.embedded })
    }

    /// What tells the answers of one teacher from those of every other: where they come from and the model; for the
    /// embedded teacher, what its answers depend on.
    fn log_place(&self) -> Value {
        match &self.source {
            Source::BaseUrl(base_url) => json!({"base_url": base_url, "model": self.teacher.model()}),
            Source::EmbeddedVersion(version) => json!({
                "embedded": version,
                "seed": self.config.seed,
                "faults": answer_faults(&self.config.embedded),
            }),
        }
    }

    /// Puts the results to the rows that wanted them.
    fn sort(&self, rows: &[Row], jobs: &Jobs, results: &Results) -> Collected {
        let mut collected = Collected::default();
        for place in jobs.places() {
            let row = &rows[place.row];
            match results.of(place.job) {
                Ok(answer) => {
                    collected.outputs.push(output_row(row, place.sample_index, &self.config, answer));
                }
                Err(failure) => {
                    let mut row = row.clone();
                    row.insert(columns::SAMPLE_INDEX.to_owned(), json!(place.sample_index));
                    row.insert("failure".to_owned(), json!(failure.kind()));
                    collected.failed.push(row.clone());
                    row.insert("reason".to_owned(), json!(failure.message()));
                    collected.reasons.push(row);
                }
            }
        }
        collected
    }

    fn write(&self, context: &Context<'_>, collected: &Collected) -> Result<()> {
        let Collected { outputs, failed, reasons } = collected;
        if !failed.is_empty() {
            // A provider may word the same refusal anew each time, so its words stay out of the artifact.
            JsonLines.write(&context.workspace.join(REASONS), reasons)?;
        }
        let total = outputs.len() + failed.len();
        let max_share = self.config.max_failed_share;
        if outputs.is_empty() || failed.len() as f64 > max_share * total as f64 {
            let first = reasons.first().map_or_else(String::new, |row| {
                format!(
                    "{}: {}",
                    table::cell(row, "failure").unwrap_or_default(),
                    table::cell(row, "reason").unwrap_or_default()
                )
            });
            let teacher = self.teacher.to_string();
            return Err(Error::TooManyFailed { teacher, failed: failed.len(), total, max_share, first });
        }
        context.services.tables.write(&context.output.join("parquet"), outputs)?;
        if !failed.is_empty() {
            JsonLines.write(&context.output.join("failed.jsonl"), failed)?;
            context.emit(Event::warning(format!(
                "{} of {total} answers failed for good; they stand in `failed.jsonl`, with the provider's words in \
                 `{REASONS}` of the run, and `--force` asks for them again",
                failed.len()
            )));
        }
        self.state(context, collected)
    }

    fn state(&self, context: &Context<'_>, collected: &Collected) -> Result<()> {
        let outputs = &collected.outputs;
        let tokens: u64 = outputs.iter().filter_map(|row| row[columns::COMPLETION_TOKENS].as_u64()).sum();
        let mut endings = BTreeMap::<&str, usize>::new();
        for row in outputs {
            *endings.entry(row[columns::FINISH_REASON].as_str().unwrap_or_default()).or_default() += 1;
        }
        context.set_rows(outputs.len() as u64);
        context.set_tokens(tokens);
        context.state("teacher", self.teacher.to_string())?;
        context.state("failed", collected.failed.len())?;
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
            "source": self.source,
        });
        if matches!(self.source, Source::EmbeddedVersion(_)) {
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
    row.insert(columns::PROMPT_TOKENS.to_owned(), json!(answer.usage.prompt_tokens));
    row.insert(columns::COMPLETION_TOKENS.to_owned(), json!(answer.usage.completion_tokens));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(change: impl FnOnce(&mut Config), environment: &Environment) -> Result<Collect> {
        let mut config = Config::default();
        change(&mut config);
        Collect::new(config, environment)
    }

    #[test]
    fn the_key_holds_what_determines_the_answers_and_nothing_else() {
        let environment = Environment::of([]);
        let config = |change: fn(&mut Config)| made(change, &environment).unwrap().config();
        let plain = config(|_| {});
        assert_eq!(plain, config(|c| c.max_concurrent_requests = 1));
        assert_eq!(plain, config(|c| c.max_cost_usd = Some(1.0)));
        assert_eq!(plain, config(|c| c.embedded.failing = 0.5));
        assert_ne!(plain, config(|c| c.embedded.wrong = 0.5));
        assert_ne!(plain, config(|c| c.temperature = 0.0));
        assert_eq!(plain["source"], json!({"embedded_version": embedded::ANSWER_VERSION}));
    }

    #[test]
    fn a_record_can_be_followed_where_it_leads_to_the_same_source() {
        let config = |teacher: &str, variables: &[(&'static str, &'static str)]| {
            made(|c| c.teacher = teacher.to_owned(), &Environment::of(variables.iter().copied()))
                .unwrap()
                .config()
        };
        let follow = |record: &Value, variables: &[(&'static str, &'static str)]| {
            let config = nexa_core::config::from_value(record.clone(), "record").unwrap();
            Collect::new(config, &Environment::of(variables.iter().copied())).map(|stage| stage.config())
        };
        let own = [("OPENAI_BASE_URL", "http://localhost:1/v1"), ("OPENAI_API_KEY", "hunter2")];
        for (teacher, variables) in [("embedded", &[][..]), ("groq:m", &[]), ("openai:m", &own)] {
            let record = config(teacher, variables);
            assert!(!record.to_string().contains("hunter2"), "{record}");
            assert_eq!(follow(&record, variables).unwrap(), record);
        }
        let error = follow(&config("openai:m", &own), &[]).unwrap_err().to_string();
        assert!(error.contains("`source`") && error.contains("http://localhost:1/v1"), "{error}");
        assert_ne!(config("openai:m", &own), config("openai:m", &[]));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |yaml: &str, expected: &str| {
            let value = nexa_core::config::parse_yaml(yaml, "test").unwrap();
            let config: Config = nexa_core::config::from_value(value, "test").unwrap();
            let environment = Environment::of([("OPENAI_BASE_URL", "http://me:hunter2@host/v1")]);
            let error = Collect::new(config, &environment).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        };
        check("samples_per_prompt: 0", "`samples_per_prompt` is 0");
        check("temperature: 3", "`temperature` is 3");
        check("embedded: {wrong: 1.5}", "`embedded.wrong` is 1.5");
        check("embedded: {wrong: 0.6, refusing: 0.6}", "bad answers cannot be more than all answers");
        check("teacher: nobody:x", "unknown provider");
        check("teacher: openai:x", "`OPENAI_BASE_URL` holds a user");
        check("source: {embedded_version: 0}", "`source` is {\"embedded_version\":0}");
    }
}
