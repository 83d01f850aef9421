//! Key, skip, resume, attempt, commit: what happens around a stage's own work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::events::RunEvents;
use super::{Context, Facts, Inputs, Outcome, Request, Services, Stage, StageError, files_read};
use crate::artifact::{self, Artifact, Column, DRAFT_FOLDER, Draft, Manifest, Parent, Producer, Store};
use crate::cost::{Entry, Ledger, Spend};
use crate::event::{Event, NoEvents};
use crate::hash::ContentHash;
use crate::index::Index;
use crate::lab::Lab;
use crate::machine::{self, Git, Host};
use crate::run::{self, Attempt, RunId, RunRecord, Status};
use crate::table::main_table_of;
use crate::{Diagnose, Error, ExitCode, Result, files};

/// The key of a piece of work: equal keys give equal results.
///
/// # Errors
/// Fails when a file from outside cannot be read.
pub fn key(stage: &dyn Stage, inputs: &Inputs) -> Result<ContentHash> {
    let outside = files_read(stage, inputs)?
        .iter()
        .map(|path| Ok(ContentHash::of_file(path)?.as_str().to_owned()))
        .collect::<Result<Vec<_>>>()?;
    let inputs: BTreeMap<_, _> =
        inputs.iter().map(|(role, artifact)| (role, artifact.manifest.content_hash.as_str())).collect();
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
    request: &Request<'_>,
) -> Result<Option<PathBuf>> {
    let pointer = run::pointer_path(services.lab, &work_name(request, &key(stage, request.inputs)?));
    if !pointer.is_file() {
        return Ok(None);
    }
    Ok(Some(run::folder(services.lab, &files::read_json::<Pointer>(&pointer)?.run)))
}

fn work_name(request: &Request<'_>, key: &ContentHash) -> String {
    run::work_name(request.project.name(), request.name, key)
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
    let key = key(stage, request.inputs)?;
    let work = work_name(request, &key);
    let find = || Store::new(services.lab).by_key(request.project.name(), stage.kind(), request.name, &key);
    if !request.force
        && let Some(artifact) = find()?
    {
        settle(services, &work, &artifact)?;
        return Ok(Outcome::UpToDate(artifact));
    }
    // Found out now, and not when the work is done.
    Store::new(services.lab).check_name(request.project.name(), stage.kind(), request.name)?;
    let what = format!("`{}` of project `{}`", request.name, request.project.name());
    let _lock = run::lock(services.lab, &work, &what, false)?;
    // Whoever held the lock before may have made the artifact in the meantime.
    if !request.force
        && let Some(artifact) = find()?
    {
        return Ok(Outcome::UpToDate(artifact));
    }
    for (_, artifact) in request.inputs.iter() {
        artifact.verify()?;
    }

    let mut open = OpenRun::begin(stage, services, request, key.clone())?;
    let started = Instant::now();
    let attempted = open.attempt(stage, services, request);
    let seconds = started.elapsed().as_secs_f64();
    let charged = open.charge(services, seconds);
    let made = attempted.and_then(|(draft, facts)| {
        charged?;
        Ok(open.commit(stage, services, request, draft, facts)?)
    });
    match made {
        Ok(artifact) => Ok(Outcome::Made(artifact)),
        Err(error) => {
            // What stopped the stage is what the user must hear, even where a full disk keeps the record from it.
            let _ = open.fail(services, error.as_ref());
            Err(error)
        }
    }
}

/// Points from a piece of work to the run that works on it, until it is finished.
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
        // A run keeps its inputs from being collected from the moment at which its record names them.
        let _lock = artifact::lock(lab)?;
        for (_, artifact) in request.inputs.iter() {
            Store::new(lab).get(artifact.id())?;
        }
        let pointer = run::pointer_path(lab, &work_name(request, &key));
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
                resumed(record, stage, lab, now)
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
        index(services, |index| index.put_run(&record));
        Ok(Self { folder, pointer, record })
    }

    fn attempt(
        &self,
        stage: &dyn Stage,
        services: &Services<'_>,
        request: &Request<'_>,
    ) -> Result<(Draft, Facts), StageError> {
        let draft = Draft::begin(self.folder.join(DRAFT_FOLDER))?;
        let events = RunEvents::open(&self.folder, services.events)?;
        events.keep(&Event::info("attempt started"))?;
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

    /// Turns the draft into an artifact and closes the run.
    fn commit(
        &mut self,
        stage: &dyn Stage,
        services: &Services<'_>,
        request: &Request<'_>,
        draft: Draft,
        mut facts: Facts,
    ) -> Result<Artifact> {
        let record = &self.record;
        let schema = schema(&draft, stage, services)?;
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
                    schema,
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
        index(services, |index| index.put_artifact(&artifact));
        self.finish(services, &artifact)?;
        Ok(artifact)
    }

    /// Records that the run made its artifact.
    fn finish(&mut self, services: &Services<'_>, artifact: &Artifact) -> Result<()> {
        self.record.output = Some(artifact.id().clone());
        self.close(services, Status::Finished, "finished", Some(&artifact.manifest))?;
        files::remove(&self.pointer)
    }

    /// Records that the attempt ended with an error.
    fn fail(&mut self, services: &Services<'_>, error: &dyn Diagnose) -> Result<()> {
        RunEvents::open(&self.folder, &NoEvents)?.keep(&Event::warning(format!("stopped: {error}")))?;
        let status =
            if error.exit_code() == ExitCode::Interrupted { Status::Interrupted } else { Status::Failed };
        self.close(services, status, &error.to_string(), None)
    }

    /// Puts the time of the attempt into the ledger, and the ledger's sum into the record.
    fn charge(&mut self, services: &Services<'_>, seconds: f64) -> Result<()> {
        charge_machine(&self.folder, services.lab, seconds)?;
        self.record.spend = Ledger::total(&self.folder)?;
        Ok(())
    }

    /// Writes how the run stands at the end of an attempt.
    fn close(
        &mut self,
        services: &Services<'_>,
        status: Status,
        reason: &str,
        made: Option<&Manifest>,
    ) -> Result<()> {
        let now = Utc::now();
        self.record.status = status;
        self.record.exit_reason = Some(reason.to_owned());
        self.record.ended_at = Some(now);
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.ended_at.get_or_insert(now);
        }
        self.record.write(&self.folder)?;
        index(services, |index| index.put_run(&self.record));
        run::report::write(&self.folder, &self.record, made)
    }
}

/// The columns of the main table of a draft, where it has one whose format states them.
fn schema(draft: &Draft, stage: &dyn Stage, services: &Services<'_>) -> Result<Vec<Column>> {
    let files = files::walk(draft.folder())?;
    let names = files.iter().filter_map(|name| name.to_str());
    match main_table_of(stage.kind(), names, services.tables) {
        Some(name) => services.tables.schema(&draft.folder().join(name)),
        None => Ok(Vec::new()),
    }
}

/// Closes the record of a run that was killed after it had committed its artifact.
fn settle(services: &Services<'_>, work: &str, artifact: &Artifact) -> Result<()> {
    let pointer = run::pointer_path(services.lab, work);
    if !pointer.is_file() {
        return Ok(());
    }
    // Whoever holds the lock is about to do the same.
    let Ok(_lock) = run::lock(services.lab, work, "run", false) else { return Ok(()) };
    let folder = run::folder(services.lab, &files::read_json::<Pointer>(&pointer)?.run);
    if !folder.join("run.json").is_file() {
        return files::remove(&pointer);
    }
    let record = RunRecord::read(&folder)?;
    let mut open = OpenRun { folder, pointer, record };
    if artifact.manifest.producer.run == open.record.id {
        index(services, |index| index.put_artifact(artifact));
        open.record.spend = Ledger::total(&open.folder)?;
        if let Some(attempt) = open.record.attempts.last_mut() {
            attempt.ended_at.get_or_insert(artifact.manifest.created_at);
        }
        open.finish(services, artifact)?;
    }
    Ok(())
}

/// Brings the index up to date. It can be rebuilt from the files, so it never stops the work that it lists.
fn index(services: &Services<'_>, change: impl FnOnce(&mut Index) -> Result<()>) {
    if let Err(error) = Index::open(services.lab).and_then(|mut index| change(&mut index)) {
        let text = format!("{error}; the work goes on, and `nexa doctor --reindex` builds the index again");
        services.events.emit(Event::warning(text));
    }
}

/// A sum that does not hold the attempt at work yet: until it is closed, its time is unknown, not 0.
fn unfinished(mut spend: Spend) -> Spend {
    spend.unknown.push("time of the unfinished attempt".to_owned());
    spend
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
    let root = services.lab.root();
    let root = root.canonicalize().map_err(|e| Error::io("resolve", root, e))?;
    for path in files_read(stage, request.inputs)? {
        let content_hash = ContentHash::of_file(&path)?;
        let path = path.canonicalize().map_err(|e| Error::io("resolve", &path, e))?;
        inputs.push(Parent::file(&root, &path, content_hash));
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
        spend: unfinished(Spend::default()),
    })
}

/// The record of an unfinished run as a new attempt takes it over. The time of a killed attempt counts up to the last
/// event that it wrote.
fn resumed(mut record: RunRecord, stage: &dyn Stage, lab: &Lab, now: DateTime<Utc>) -> RunRecord {
    let folder = run::folder(lab, &record.id);
    let attempts = record.attempts.len();
    if let Some(attempt) = record.attempts.last_mut()
        && attempt.ended_at.is_none()
    {
        let last_sign = std::fs::metadata(folder.join("events.jsonl"))
            .and_then(|data| data.modified())
            .map_or(attempt.started_at, DateTime::<Utc>::from);
        let ended = last_sign.max(attempt.started_at);
        attempt.ended_at = Some(ended);
        // Every attempt has one entry for its time; a kill after that entry leaves an attempt that is not closed.
        if charged_attempts(&folder) < attempts {
            // A ledger that cannot be written shows itself in this attempt soon enough.
            let _ = charge_machine(&folder, lab, (ended - attempt.started_at).as_seconds_f64());
        }
    }
    // A ledger that cannot be read shows itself when this attempt is charged.
    record.spend = unfinished(Ledger::total(&folder).unwrap_or_default());
    record.attempts.push(Attempt { started_at: now, ended_at: None, pid: std::process::id() });
    record.status = Status::Running;
    record.exit_reason = None;
    record.ended_at = None;
    record.host = Host::current().clone();
    record.device = stage.device();
    record.git = Git::of(lab.root());
    record.nexa_version = machine::nexa_version().to_owned();
    record
}

/// Counts the attempts whose time is in the ledger.
fn charged_attempts(folder: &Path) -> usize {
    let entries = files::read_lines::<Entry>(&folder.join("ledger.jsonl")).unwrap_or_default();
    entries.iter().filter(|entry| matches!(entry, Entry::Machine { .. })).count()
}

fn charge_machine(folder: &Path, lab: &Lab, seconds: f64) -> Result<()> {
    let usd = lab.settings().prices.machine_usd_per_hour.map(|price| price * seconds / 3600.0);
    Ledger::open(folder)?.append(&Entry::Machine { seconds, usd })
}
