//! Collects a teacher's answers: many calls at once, each answer kept the moment it is there.
//!
//! What determines the answers is the key of the work: teacher, sampling, seed. How they are fetched is not: a run that
//! was killed, throttled or moved to another cap on spending goes on with what is already there, and its table is the
//! same to the last byte.

mod ask;
mod batch;
mod bill;
mod breaker;
mod collection;
mod config;
mod driver;
mod estimate;
mod forecast;
mod job;
mod journal;
mod latency;
mod limits;
mod local;
mod log;
mod money;
mod output;
mod payments;
mod policy;
mod retry;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::env::Environment;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::lab::Lab;
use nexa_core::lm::ModelLoader;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::{Row, Tables};
use serde_json::{Value, json};

use crate::client::{Client, Sampling};
use crate::embedded::{self, EmbeddedTeacher, Faults};
use crate::error::check;
use crate::schema::Schema;
use crate::teacher::{Provider, Source, TeacherSpec};
use crate::{Error, Result, table};

pub(crate) use ask::Asked;
pub use config::{Config, ResponseSchema};
pub use forecast::Forecast;
pub use payments::{Given, Payment, payments};
pub(crate) use policy::Reader;
pub use policy::{Filtered, Misfit, OnFailure, Refused, Truncated};

use batch::Batches;
use collection::{Collection, Work};
use driver::Driver;
use job::{Jobs, Place};
use log::ResponseLog;
use money::{Earlier, Purse};
use output::Collected;
use policy::Policy;

const STAGE: &str = "distill.collect";
/// The finish reason of an answer that is a refusal by the provider's own word; gates read it.
pub(crate) const REFUSAL: &str = "refusal";
/// The file of the run's folder that holds what the run was expected to take before its first call.
const FORECAST: &str = "forecast.json";

/// The stage `distill.collect`: role `inputs` in, for a local teacher also `teacher`; teacher outputs out.
#[derive(Clone)]
pub struct Collect {
    config: Config,
    teacher: TeacherSpec,
    source: Source,
    sampling: Arc<Sampling>,
    loader: Option<Arc<dyn ModelLoader>>,
    reader: Option<Reader>,
}

/// A collection before its first call.
struct Begun {
    jobs: Jobs,
    log: ResponseLog,
    forecast: Forecast,
}

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect").field("config", &self.config).finish_non_exhaustive()
    }
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
        config.check(teacher.provider())?;
        let sampling = config.sampling()?;
        let stage =
            Self { config, teacher, source, sampling: Arc::new(sampling), loader: None, reader: None };
        stage.schema()?;
        Ok(stage)
    }

    /// Lets a checkpoint be the teacher; `loader` opens it.
    #[must_use]
    pub fn with_loader(self, loader: Arc<dyn ModelLoader>) -> Self {
        Self { loader: Some(loader), ..self }
    }

    /// Has answers that whoever asks cannot read asked for again.
    #[must_use]
    pub(crate) fn with_reader(self, reader: Reader) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// The teacher, as it was named.
    pub(crate) fn named(&self) -> &str {
        &self.config.teacher
    }

    /// Whether its calls cost nothing but this machine's time.
    pub fn is_free(&self) -> bool {
        self.teacher.provider().is_here()
    }

    /// Says what the stage would take with some inputs, before anything is called.
    ///
    /// # Errors
    /// Fails when the inputs cannot be read.
    pub fn forecast(&self, lab: &Lab, tables: &dyn Tables, inputs: &Inputs) -> Result<Forecast> {
        let prompts = inputs.require("inputs")?;
        let mut rows = table::read_by(tables, prompts)?;
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        let jobs = Jobs::new(&rows, &self.config, &self.sampling, &prompts.file("parquet")?)?;
        let answers = log::read(lab, &self.log_place(inputs)?)?;
        Ok(Forecast::new(&jobs, &answers, &self.config, (&self.teacher, lab.settings())))
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let inputs = context.inputs.require("inputs")?;
        let mut rows = table::read(context, inputs)?;
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        let begun = self.begin(context, &rows, &inputs.file("parquet")?)?;
        let forecast = first_forecast(context, &begun.forecast)?;
        let (collection, places) = self.finish(context, begun)?;
        Collected::new(&rows, &places, &collection).write(context, &self.config)?;
        context.state("teacher", self.teacher.to_string())?;
        context.state("forecast", forecast)?;
        context.state("reused", collection.reused)?;
        context.state("retries", collection.retries)?;
        context.state("failures", &collection.failures)?;
        if let Some(latency) = collection.latencies.summary() {
            context.state("latency_ms", latency)?;
        }
        Ok(())
    }

    /// Opens the log of answers and tells what is still to be asked for some prompts; nothing is called.
    fn begin(&self, context: &Context<'_>, prompts: &[Row], place: &Path) -> Result<Begun> {
        self.begin_jobs(context, Jobs::new(prompts, &self.config, &self.sampling, place)?)
    }

    fn begin_jobs(&self, context: &Context<'_>, jobs: Jobs) -> Result<Begun> {
        let teacher = self.teacher.to_string();
        if teacher != self.config.teacher && self.teacher.provider() == Provider::OpenRouter {
            context.emit(Event::info(format!("`{}` is `{teacher}`", self.config.teacher)));
        }
        let log = ResponseLog::open(context, &self.log_place(context.inputs)?, &teacher)?;
        let settings = context.services.lab.settings();
        let forecast = Forecast::new(&jobs, log.answers(), &self.config, (&self.teacher, settings));
        if forecast.calls > 0 && !self.is_free() {
            context.emit(Event::info(format!("forecast: {forecast}")));
        }
        Ok(Begun { jobs, log, forecast })
    }

    /// Has every prompt of a collection answered or given up for good, and says which rows want which answer.
    ///
    /// # Errors
    /// Fails where an answer is missing that may come another time; every answer that came is kept.
    fn finish<'a>(
        &'a self,
        context: &'a Context<'a>,
        Begun { jobs, log, .. }: Begun,
    ) -> Result<(Collection<'a>, Vec<Place>)> {
        let Self { config, teacher, .. } = self;
        let batches = Batches::open(context.workspace)?;
        let earlier = Earlier { paid: log.paid(), with_provider: &batches.calls() };
        let purse = Purse::open(context, config, teacher, earlier)?;
        let work = Work { context, config, teacher };
        let mut collection = Collection::new(work, jobs.jobs, self.policy()?, log, purse);
        let fetched = self.fetch(context, &mut collection, batches);
        collection.enter()?;
        fetched?;
        collection.require_settled()?;
        Ok((collection, jobs.places))
    }

    /// Has every job of a collection end.
    fn fetch(&self, context: &Context<'_>, collection: &mut Collection<'_>, batches: Batches) -> Result<()> {
        if collection.open().is_empty() && !batches.are_pending() {
            return Ok(());
        }
        match &self.source {
            // What the provider works on already must not be asked for a second time.
            Source::BaseUrl(base_url) if self.config.batch || batches.are_pending() => {
                let client = self.client(context.services.environment, base_url)?;
                runtime()?.block_on(batches.run(collection, &client))
            }
            Source::BaseUrl(base_url) => self.call(context, collection, base_url),
            Source::EmbeddedVersion(_) => {
                let config = embedded::Config {
                    seed: self.config.seed,
                    faults: self.config.embedded,
                    ..embedded::Config::default()
                };
                let embedded = EmbeddedTeacher::start(config)?;
                self.call(context, collection, &embedded.base_url())
            }
            Source::Input(role) => {
                let checkpoint = context.inputs.require(role)?;
                let name = checkpoint.id().to_string();
                let loader = self.loader.as_ref().ok_or_else(|| Error::Start {
                    what: "a local teacher",
                    message: "this program opens no checkpoints".to_owned(),
                })?;
                let model = loader
                    .load(&checkpoint.path())
                    .map_err(|source| Error::Local { teacher: name.clone(), source })?;
                local::run(collection, model.chat.as_ref(), &name)
            }
        }
    }

    fn call(&self, context: &Context<'_>, collection: &mut Collection<'_>, base_url: &str) -> Result<()> {
        let client = Arc::new(self.client(context.services.environment, base_url)?);
        runtime()?.block_on(Driver::new(collection, client).run())
    }

    fn client(&self, environment: &Environment, base_url: &str) -> Result<Client> {
        let endpoint = self.teacher.endpoint(environment, base_url)?;
        Client::new(endpoint, Duration::from_secs(self.config.timeout_s))
    }

    /// Asks the provider to stop working on the batches of an unfinished run, and returns their names. What it has
    /// answered by then is collected when the stage is run again.
    ///
    /// # Errors
    /// Fails when the key is missing or the provider cannot be reached.
    pub fn cancel_batches(&self, environment: &Environment, run_folder: &Path) -> Result<Vec<String>> {
        let Source::BaseUrl(base_url) = &self.source else { return Ok(Vec::new()) };
        let mut batches = Batches::open(run_folder)?;
        let client = self.client(environment, base_url)?;
        runtime()?.block_on(batches.cancel(&client))
    }

    fn policy(&self) -> Result<Policy> {
        let Config { on_failure, max_tokens_cap, .. } = self.config;
        Ok(Policy { on_failure, max_tokens_cap, schema: self.schema()?, reader: self.reader.clone() })
    }

    /// The schema of answers, if they have one.
    fn schema(&self) -> Result<Option<Schema>> {
        let Some(schema) = &self.sampling.response_schema else { return Ok(None) };
        let bad = |(place, message)| Error::BadSetting {
            stage: STAGE,
            key: "response_schema".to_owned(),
            value: format!("a schema with `{place}`"),
            message,
        };
        Schema::new(schema).map(Some).map_err(bad)
    }

    /// What tells the answers of one teacher from those of every other: where they come from and the model; for the
    /// embedded teacher, what its answers depend on; for a local one, its content.
    fn log_place(&self, inputs: &Inputs) -> Result<Value> {
        Ok(match &self.source {
            Source::BaseUrl(base_url) => json!({"base_url": base_url, "model": self.teacher.model()}),
            Source::EmbeddedVersion(version) => json!({
                "embedded": version,
                "seed": self.config.seed,
                "faults": answer_faults(&self.config.embedded),
            }),
            Source::Input(role) => {
                let checkpoint: &Artifact = inputs.require(role)?;
                json!({"checkpoint": checkpoint.manifest.content_hash})
            }
        })
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
        2
    }

    fn config(&self) -> Value {
        let mut value = self.config.determining(&self.sampling);
        value["teacher"] = json!(self.teacher.to_string());
        value["source"] = json!(self.source);
        if matches!(self.source, Source::EmbeddedVersion(_)) {
            value["embedded"] = answer_faults(&self.config.embedded);
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

/// Keeps the forecast of a run's first attempt for its record, and returns it.
fn first_forecast(context: &Context<'_>, forecast: &Forecast) -> Result<Forecast> {
    let path = context.workspace.join(FORECAST);
    if path.exists() {
        return Ok(files::read_json(&path)?);
    }
    files::write_json(&path, forecast)?;
    Ok(forecast.clone())
}

/// What calls run on: one thread of their own, so that they go on while answers are taken in.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("teacher-calls")
        .enable_all()
        .build()
        .map_err(|e| Error::Start { what: "the HTTP client", message: e.to_string() })
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
        assert_eq!(plain, config(|c| c.cool_down_s = 0.0));
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
        check("limit: 0", "`limit` is 0");
        check("temperature: 3", "`temperature` is 3");
        check("embedded: {wrong: 1.5}", "`embedded.wrong` is 1.5");
        check("embedded: {wrong: 0.6, refusing: 0.6}", "bad answers cannot be more than all answers");
        check("teacher: nobody:x", "unknown provider");
        check("teacher: openai:x", "`OPENAI_BASE_URL` holds a user");
        check("source: {embedded_version: 0}", "`source` is {\"embedded_version\":0}");
    }
}
