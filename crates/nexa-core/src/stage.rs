//! How a stage runs: the one door through which every artifact is made, from a pipeline or from a single command.
//!
//! [`execute`] computes the key of the work, skips it where an artifact of that key exists, otherwise opens or resumes
//! a run, hands the stage a workspace that survives kills and an empty draft, and commits the draft with its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::{Artifact, Counts, Draft, Kind, Manifest, Parent, Producer, Store};
use crate::cost::{Entry, Ledger};
use crate::env::Environment;
use crate::event::{Cancel, Event, EventSink};
use crate::files::LineLog;
use crate::hash::ContentHash;
use crate::index::Index;
use crate::lab::{Lab, Project};
use crate::machine::{self, Git, Host};
use crate::run::{self, Attempt, RunId, RunRecord, Status};
use crate::table::Tables;
use crate::{Diagnose, Error, ExitCode, Result, files};

/// An error of any stage.
pub type StageError = Box<dyn Diagnose>;

impl<E: Diagnose> From<E> for StageError {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// One kind of work: inputs and a configuration in, one artifact out.
pub trait Stage: Send + Sync {
    /// The word for it in pipelines and records: `distill.collect`.
    fn name(&self) -> &'static str;

    /// The kind of artifact that it makes.
    fn kind(&self) -> Kind;

    /// Raised whenever the same inputs and configuration would give another result than before.
    fn code_version(&self) -> u32;

    /// The resolved configuration: everything that determines the result, and nothing else.
    fn config(&self) -> Value;

    /// The seed of every random choice.
    fn seed(&self) -> u64 {
        0
    }

    /// Files from outside the lab that it reads.
    fn outside_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The device that it computes on.
    fn device(&self) -> String {
        "cpu".to_owned()
    }

    /// Does the work: writes files into `context.output` and states facts through `context`.
    ///
    /// # Errors
    /// Whatever goes wrong; the draft is dropped then, the workspace is kept for the next attempt.
    fn run(&self, context: &Context<'_>) -> Result<(), StageError>;
}

/// The inputs of a stage, by the role that each plays.
#[derive(Debug, Clone, Default)]
pub struct Inputs(BTreeMap<String, Artifact>);

impl Inputs {
    /// No inputs.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, role: &str, artifact: Artifact) -> Self {
        self.0.insert(role.to_owned(), artifact);
        self
    }

    /// The input of a role, if it was given.
    pub fn get(&self, role: &str) -> Option<&Artifact> {
        self.0.get(role)
    }

    /// The input of a role.
    ///
    /// # Errors
    /// Fails, naming those that were given, when there is none.
    pub fn require(&self, role: &str) -> Result<&Artifact> {
        self.0.get(role).ok_or_else(|| {
            let given = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::NotFound {
                what: "input",
                name: role.to_owned(),
                hint: Some(format!(
                    "the stage was given: {}",
                    if given.is_empty() { "nothing" } else { &given }
                )),
            }
        })
    }

    /// All inputs, by role.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Artifact)> {
        self.0.iter().map(|(role, artifact)| (role.as_str(), artifact))
    }
}

/// What the binary provides to stages.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// Variables and keys.
    pub environment: &'a Environment,
    /// Readers and writers of tables.
    pub tables: &'a dyn Tables,
    /// Where events are shown.
    pub events: &'a dyn EventSink,
    /// Whether the user wants to stop.
    pub cancel: &'a Cancel,
}

/// What a stage works with.
pub struct Context<'a> {
    /// What the binary provides. Its `events` go to the run's `events.jsonl` as well.
    pub services: Services<'a>,
    /// The project.
    pub project: &'a Project,
    /// The inputs; their content has been verified.
    pub inputs: &'a Inputs,
    /// The run's folder: kept between attempts, for whatever makes resuming possible, and for `metrics.jsonl`.
    pub workspace: &'a Path,
    /// The draft's folder: empty at the start of each attempt; its files become the artifact.
    pub output: &'a Path,
    facts: Mutex<Facts>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Facts {
    counts: Counts,
    summary: BTreeMap<String, Value>,
}

impl Context<'_> {
    /// States how many rows the artifact holds.
    pub fn set_rows(&self, rows: u64) {
        self.facts().counts.rows = Some(rows);
    }

    /// States how many tokens the artifact holds.
    pub fn set_tokens(&self, tokens: u64) {
        self.facts().counts.tokens = Some(tokens);
    }

    /// States a fact for the manifest's summary.
    ///
    /// # Errors
    /// Fails when the value cannot be JSON.
    pub fn state(&self, name: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|e| Error::malformed(self.output, format!("summary `{name}`: {e}")))?;
        self.facts().summary.insert(name.to_owned(), value);
        Ok(())
    }

    /// Records what was used and spent, durably. A resumed run's earlier entries are kept.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written.
    pub fn spend(&self, entry: &Entry) -> Result<()> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(entry)
    }

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.services.events.emit(event);
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What is to be done.
pub struct Request<'a> {
    /// The project.
    pub project: &'a Project,
    /// The name of the artifact, without version.
    pub name: &'a str,
    /// The inputs.
    pub inputs: &'a Inputs,
    /// Makes a new version even where one of the same key exists, from the beginning.
    pub force: bool,
}

/// How a stage ended well.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An artifact of this key exists; nothing was done.
    UpToDate(Artifact),
    /// The artifact was made in this run.
    Made(Artifact),
}

impl Outcome {
    /// The artifact.
    pub fn artifact(&self) -> &Artifact {
        match self {
            Self::UpToDate(artifact) | Self::Made(artifact) => artifact,
        }
    }
}

/// The key of a piece of work: equal keys give equal results.
///
/// # Errors
/// Fails when a file from outside cannot be read.
pub fn key(stage: &dyn Stage, inputs: &Inputs) -> Result<ContentHash> {
    let inputs: BTreeMap<_, _> =
        inputs.iter().map(|(role, artifact)| (role, artifact.manifest.content_hash.as_str())).collect();
    let outside = stage
        .outside_files()
        .iter()
        .map(|path| Ok(ContentHash::of_file(path)?.as_str().to_owned()))
        .collect::<Result<Vec<_>>>()?;
    Ok(ContentHash::of_json(&serde_json::json!({
        "stage": stage.name(),
        "code_version": stage.code_version(),
        "config": stage.config(),
        "seed": stage.seed(),
        "inputs": inputs,
        "outside": outside,
    })))
}

/// Finds the artifact that a piece of work would make, if it has been made.
///
/// # Errors
/// Fails on a malformed manifest, or when a file from outside cannot be read.
pub fn existing(
    stage: &dyn Stage,
    services: &Services<'_>,
    request: &Request<'_>,
) -> Result<Option<Artifact>> {
    let key = key(stage, request.inputs)?;
    Store::new(services.lab).by_key(request.project.name(), stage.kind(), request.name, &key)
}

/// The folder of the unfinished run that works, or worked, on a piece of work: its `events.jsonl` is the log.
///
/// # Errors
/// Fails when a file from outside cannot be read, or on a malformed pointer.
pub fn unfinished_run(
    stage: &dyn Stage,
    services: &Services<'_>,
    inputs: &Inputs,
) -> Result<Option<PathBuf>> {
    let pointer = pointer_path(services.lab, &key(stage, inputs)?);
    if !pointer.is_file() {
        return Ok(None);
    }
    Ok(Some(run::folder(services.lab, &files::read_json::<Pointer>(&pointer)?.run)))
}

fn pointer_path(lab: &Lab, key: &ContentHash) -> PathBuf {
    lab.state_folder().join("active").join(format!("{}.json", run::lock_name(key)))
}

/// Does a piece of work, or finds that it has been done.
///
/// # Errors
/// The stage's own error, or one of reading inputs and writing results. The run is recorded as failed or interrupted,
/// and its workspace is kept: the same request goes on where it stopped.
pub fn execute(
    stage: &dyn Stage,
    services: &Services<'_>,
    request: &Request<'_>,
) -> Result<Outcome, StageError> {
    if !request.force
        && let Some(artifact) = existing(stage, services, request)?
    {
        return Ok(Outcome::UpToDate(artifact));
    }
    let key = key(stage, request.inputs)?;
    let what = format!("`{}` of project `{}`", request.name, request.project.name());
    let _lock = run::lock(services.lab, &run::lock_name(&key), &what, false)?;
    // Whoever held the lock before may have made the artifact in the meantime.
    if !request.force
        && let Some(artifact) = existing(stage, services, request)?
    {
        return Ok(Outcome::UpToDate(artifact));
    }
    for (_, artifact) in request.inputs.iter() {
        artifact.verify()?;
    }

    let open = OpenRun::begin(stage, services, request, key)?;
    let started = Instant::now();
    let result = open.attempt(stage, services, request);
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok((draft, facts)) => {
            let artifact = open.finish(stage, services, request, draft, facts, seconds)?;
            Ok(Outcome::Made(artifact))
        }
        Err(error) => {
            open.fail(services, error.as_ref(), seconds)?;
            Err(error)
        }
    }
}

/// Points from a key to the run that works on it, until it is finished.
#[derive(Serialize, Deserialize)]
struct Pointer {
    run: RunId,
}

struct OpenRun {
    folder: PathBuf,
    pointer: PathBuf,
    record: RunRecord,
}

impl OpenRun {
    /// Opens the unfinished run of this key, or a new one.
    fn begin(
        stage: &dyn Stage,
        services: &Services<'_>,
        request: &Request<'_>,
        key: ContentHash,
    ) -> Result<Self> {
        let lab = services.lab;
        let pointer = pointer_path(lab, &key);
        let earlier = if request.force || !pointer.is_file() {
            None
        } else {
            // A pointer to a run that was removed by hand, or whose record was never written, leads nowhere.
            let id = files::read_json::<Pointer>(&pointer)?.run;
            let folder = run::folder(lab, &id);
            folder.join("run.json").is_file().then(|| RunRecord::read(&folder)).transpose()?
        };
        let now = Utc::now();
        let record = match earlier {
            Some(record) => {
                services.events.emit(Event::info(format!("going on with run {}", record.id)));
                resumed(record, &run::folder(lab, &files::read_json::<Pointer>(&pointer)?.run), now, lab)
            }
            None => new_record(stage, services, request, key, now)?,
        };
        let folder = run::folder(lab, &record.id);
        files::create_folder(&folder)?;
        let config = serde_norway::to_string(&record.config)
            .map_err(|e| Error::malformed(&folder, format!("config cannot be written as YAML: {e}")))?;
        files::write_atomic(&folder.join("config.yaml"), config.as_bytes())?;
        record.write(&folder)?;
        files::write_json(&pointer, &Pointer { run: record.id.clone() })?;
        Index::open(lab)?.put_run(&record)?;
        Ok(Self { folder, pointer, record })
    }

    fn attempt(
        &self,
        stage: &dyn Stage,
        services: &Services<'_>,
        request: &Request<'_>,
    ) -> Result<(Draft, Facts), StageError> {
        let draft = Draft::begin(self.folder.join(".draft"))?;
        let events = RunEvents::open(&self.folder, services.events)?;
        let context = Context {
            services: Services { events: &events, ..*services },
            project: request.project,
            inputs: request.inputs,
            workspace: &self.folder,
            output: draft.folder(),
            facts: Mutex::default(),
            ledger: Mutex::new(Ledger::open(&self.folder)?),
        };
        stage.run(&context)?;
        let facts = context.facts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok((draft, facts))
    }

    fn finish(
        mut self,
        stage: &dyn Stage,
        services: &Services<'_>,
        request: &Request<'_>,
        draft: Draft,
        mut facts: Facts,
        seconds: f64,
    ) -> Result<Artifact> {
        self.close(services, Status::Finished, "finished", seconds)?;
        let record = &self.record;
        let artifact = Store::new(services.lab).commit(
            draft,
            request.project.name(),
            stage.kind(),
            request.name,
            |id, files| {
                facts.counts.bytes = files.iter().map(|file| file.bytes).sum();
                Manifest {
                    id,
                    kind: stage.kind(),
                    content_hash: Manifest::hash_files(&files),
                    files,
                    counts: facts.counts,
                    parents: record.inputs.clone(),
                    producer: Producer {
                        stage: record.stage.clone(),
                        code_version: stage.code_version(),
                        key: record.key.clone(),
                        run: record.id.clone(),
                        nexa_version: record.nexa_version.clone(),
                        git: record.git.clone(),
                        config: record.config.clone(),
                        seed: record.seed,
                        host: record.host.clone(),
                        device: record.device.clone(),
                    },
                    spend: record.spend.clone(),
                    summary: facts.summary,
                    created_at: Utc::now(),
                }
            },
        )?;
        self.record.output = Some(artifact.id().clone());
        self.record.write(&self.folder)?;
        files::remove(&self.pointer)?;
        let mut index = Index::open(services.lab)?;
        index.put_artifact(&artifact)?;
        index.put_run(&self.record)?;
        Ok(artifact)
    }

    fn fail(mut self, services: &Services<'_>, error: &dyn Diagnose, seconds: f64) -> Result<()> {
        let message = format!("stopped: {error}");
        LineLog::open(&self.folder.join("events.jsonl"))?
            .append(&KeptEvent { time: Utc::now(), event: &Event::warning(message) })?;
        let status =
            if error.exit_code() == ExitCode::Interrupted { Status::Interrupted } else { Status::Failed };
        self.close(services, status, &error.to_string(), seconds)?;
        self.record.write(&self.folder)?;
        Index::open(services.lab)?.put_run(&self.record)
    }

    /// Closes the attempt in the record, with its time in the ledger.
    fn close(&mut self, services: &Services<'_>, status: Status, reason: &str, seconds: f64) -> Result<()> {
        charge_machine(&self.folder, services.lab, seconds)?;
        let now = Utc::now();
        self.record.status = status;
        self.record.exit_reason = Some(reason.to_owned());
        self.record.ended_at = Some(now);
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.ended_at = Some(now);
        }
        self.record.spend = Ledger::total(&self.folder)?;
        Ok(())
    }
}

fn new_record(
    stage: &dyn Stage,
    services: &Services<'_>,
    request: &Request<'_>,
    key: ContentHash,
    now: DateTime<Utc>,
) -> Result<RunRecord> {
    let mut inputs: Vec<Parent> = request
        .inputs
        .iter()
        .map(|(role, artifact)| Parent {
            role: role.to_owned(),
            id: artifact.id().to_string(),
            content_hash: artifact.manifest.content_hash.clone(),
        })
        .collect();
    for path in stage.outside_files() {
        let content_hash = ContentHash::of_file(&path)?;
        let path = path.canonicalize().map_err(|e| Error::io("resolve", &path, e))?;
        inputs.push(Parent { role: "file".to_owned(), id: format!("file:{}", path.display()), content_hash });
    }
    Ok(RunRecord {
        run_version: run::RUN_VERSION,
        id: RunId::new(stage.name()),
        stage: stage.name().to_owned(),
        project: request.project.name().to_owned(),
        name: request.name.to_owned(),
        key,
        config: stage.config(),
        seed: stage.seed(),
        inputs,
        output: None,
        status: Status::Running,
        exit_reason: None,
        started_at: now,
        ended_at: None,
        attempts: vec![Attempt { started_at: now, ended_at: None, pid: std::process::id() }],
        host: Host::current().clone(),
        device: stage.device(),
        git: Git::of(services.lab.root()),
        nexa_version: machine::nexa_version().to_owned(),
        spend: crate::cost::Spend::default(),
    })
}

/// The record of an unfinished run as a new attempt takes it over. The time of a killed attempt counts up to the last
/// event that it wrote.
fn resumed(mut record: RunRecord, folder: &Path, now: DateTime<Utc>, lab: &Lab) -> RunRecord {
    if let Some(attempt) = record.attempts.last_mut()
        && attempt.ended_at.is_none()
    {
        let last_sign = std::fs::metadata(folder.join("events.jsonl"))
            .and_then(|data| data.modified())
            .map_or(attempt.started_at, DateTime::<Utc>::from);
        let ended = last_sign.max(attempt.started_at);
        attempt.ended_at = Some(ended);
        let seconds = (ended - attempt.started_at).as_seconds_f64();
        // A ledger that cannot be written shows itself in this attempt soon enough.
        let _ = charge_machine(folder, lab, seconds);
    }
    record.attempts.push(Attempt { started_at: now, ended_at: None, pid: std::process::id() });
    record.status = Status::Running;
    record.exit_reason = None;
    record.ended_at = None;
    record.host = Host::current().clone();
    record
}

fn charge_machine(folder: &Path, lab: &Lab, seconds: f64) -> Result<()> {
    let usd = lab.settings().prices.machine_usd_per_hour.map(|price| price * seconds / 3600.0);
    Ledger::open(folder)?.append(&Entry::Machine { seconds, usd })
}

/// Shows events and keeps them in `events.jsonl`; of progress, one a second.
struct RunEvents<'a> {
    shown: &'a dyn EventSink,
    kept: Mutex<(LineLog, Option<Instant>)>,
}

#[derive(Serialize)]
struct KeptEvent<'a> {
    time: DateTime<Utc>,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> RunEvents<'a> {
    fn open(folder: &Path, shown: &'a dyn EventSink) -> Result<Self> {
        let mut log = LineLog::open(&folder.join("events.jsonl"))?;
        log.append(&KeptEvent { time: Utc::now(), event: &Event::info("attempt started") })?;
        Ok(Self { shown, kept: Mutex::new((log, None)) })
    }
}

impl EventSink for RunEvents<'_> {
    fn emit(&self, event: Event) {
        {
            let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let is_progress = matches!(event, Event::Progress { .. });
            let due = !is_progress || kept.1.is_none_or(|last| last.elapsed().as_secs() >= 1);
            if due {
                if is_progress {
                    kept.1 = Some(Instant::now());
                }
                // Events are a convenience: a log that cannot be written must not stop the work.
                let _ = kept.0.append(&KeptEvent { time: Utc::now(), event: &event });
            }
        }
        self.shown.emit(event);
    }
}
