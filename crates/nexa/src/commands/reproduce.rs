//! `nexa runs reproduce`: a finished run, done again from its record in a lab of its own, and held against the first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexa_core::artifact::{Artifact, Manifest, Parent};
use nexa_core::cost::Entry;
use nexa_core::hash::ContentHash;
use nexa_core::lab::Lab;
use nexa_core::machine::{self, Host};
use nexa_core::run::{self, RunId, RunRecord, Status};
use nexa_core::stage::{self, Inputs, Request, Services, Stage};
use nexa_core::{Diagnose, Error, ExitCode, files};
use nexa_train::verify;

use crate::app::App;
use crate::render::{self, error::Reported, error::reported};
use crate::stages;

/// A run that came to something else when it was done again.
#[derive(Debug, thiserror::Error)]
#[error("run {run} does not come to the same again: {difference}")]
struct NotReproduced {
    run: RunId,
    difference: String,
    copy: PathBuf,
}

impl Diagnose for NotReproduced {
    fn hint(&self) -> Option<String> {
        Some(format!("the copy is kept in {}", self.copy.display()))
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::Integrity
    }
}

/// Does a run again and says whether it came to the same.
pub(crate) fn run(app: &App, id: &str) -> Result<ExitCode> {
    let id: RunId = id.parse()?;
    let folder = run::folder(&app.lab, &id);
    if !folder.join("run.json").is_file() {
        let hint = Some("`nexa runs list` shows what there is".to_owned());
        return Err(Error::NotFound { what: "run", name: id.to_string(), hint }.into());
    }
    let record = RunRecord::read(&folder)?;
    let original = output(app, &record)?;
    let is_paid = |entry: &Entry| matches!(entry, Entry::Tokens { usd, .. } if *usd != Some(0.0));
    if files::read_lines(&folder.join("ledger.jsonl"))?.iter().any(is_paid) {
        let problem = "it asked a paid model, whose answers cost money again and need not be the same";
        return Err(refused(&record, problem).into());
    }
    if original.manifest.summary.get("end").is_some_and(|end| end == "time") {
        let problem =
            "it was ended by `max_time_s`, and what the clock decides does not come out the same again";
        return Err(refused(&record, problem).into());
    }
    // What is proved again is what lies there, not what once did.
    original.verify()?;
    let stage = stage_of(app, &record)?;
    let inputs = inputs(app, &record, stage.as_ref())?;
    tell_differences_of_place(&record);

    // A lab of its own keeps the copy out of lists and leaderboards, and lets a killed reproduction go on.
    let scratch = app.lab.state_folder().join("reproduce").join(id.as_str());
    let lab = Lab::init(&scratch, Some(&record.project))?;
    bring_manifests(app, &lab, &inputs)?;
    let sink = app.screen.sink(&record.name);
    let services = Services { lab: &lab, ..app.services(&sink) };
    let project = lab.project(&record.project)?;
    let request = Request { project: &project, name: &record.name, inputs: &inputs, force: false };
    let outcome = stage::execute(stage.as_ref(), &services, &request).map_err(Reported)?;

    let copy = outcome.artifact();
    let workspace = run::folder(&lab, &copy.manifest.producer.run);
    if let Some(difference) = difference(&original.manifest, &copy.manifest, &folder, &workspace)? {
        return Err(reported(NotReproduced { run: id, difference, copy: scratch }));
    }
    files::remove(&scratch)?;
    render::note(&format!("{} files of {}", original.manifest.files.len(), original.id()));
    render::out("identical");
    Ok(ExitCode::Success)
}

/// The artifact of a finished run.
fn output(app: &App, record: &RunRecord) -> Result<Artifact> {
    match &record.output {
        Some(id) if record.status == Status::Finished => Ok(app.store().get(id)?),
        _ => Err(refused(record, &format!("it is {}, not finished", record.status.as_str())).into()),
    }
}

/// The stage of a run, made from the configuration in its record.
fn stage_of(app: &App, record: &RunRecord) -> Result<Box<dyn Stage>> {
    let kind = stages::find(&record.stage)
        .ok_or_else(|| refused(record, &format!("this version has no stage `{}`", record.stage)))?;
    let mut config = record.config.clone();
    if let Some(config) = config.as_object_mut().filter(|_| kind.seeded) {
        config.insert("seed".to_owned(), record.seed.into());
    }
    // Keys name no device where it was the CPU; `auto` might be another here.
    if let Some(config) = config.as_object_mut().filter(|_| record.stage == "train") {
        config.entry("device").or_insert_with(|| record.device.clone().into());
    }
    let place = format!("the record of run {}", record.id);
    Ok((kind.build)(config, &place, &app.lab).map_err(Reported)?)
}

/// The inputs of a run, with the content that they had.
fn inputs(app: &App, record: &RunRecord, stage: &dyn Stage) -> Result<Inputs> {
    let changed = |parent: &Parent| refused(record, &format!("its input {} has changed since", parent.id));
    let (files, artifacts): (Vec<_>, Vec<_>) = record.inputs.iter().partition(|parent| parent.is_file());
    let mut inputs = Inputs::none();
    for parent in artifacts {
        let artifact = app.store().get(&parent.id.parse()?)?;
        if artifact.manifest.content_hash != parent.content_hash {
            return Err(changed(parent).into());
        }
        inputs = inputs.with(&parent.role, artifact);
    }
    let mut read = Vec::new();
    for path in stage::files_read(stage, &inputs)? {
        let content_hash = ContentHash::of_file(&path)?;
        // Labels of a reviewer who began later would have a say in the copy.
        if !files.iter().any(|parent| parent.content_hash == content_hash) {
            let problem = format!("{} is new or has changed since", app.show(&path));
            return Err(refused(record, &problem).into());
        }
        read.push(content_hash);
    }
    match files.into_iter().find(|parent| !read.contains(&parent.content_hash)) {
        Some(parent) => Err(changed(parent).into()),
        None => Ok(inputs),
    }
}

/// Brings the manifests of everything that the inputs descend from into a lab: a stage may state what its data were made
/// of, and no more than that is needed for it.
fn bring_manifests(app: &App, lab: &Lab, inputs: &Inputs) -> Result<()> {
    let mut open: Vec<Artifact> = inputs.iter().map(|(_, artifact)| artifact.clone()).collect();
    let mut brought = BTreeSet::new();
    while let Some(artifact) = open.pop() {
        let path = artifact.manifest_path();
        let path = lab.root().join(path.strip_prefix(app.lab.root())?);
        if !brought.insert(path.clone()) {
            continue;
        }
        path.parent().map_or(Ok(()), files::create_folder)?;
        artifact.manifest.write(&path)?;
        // Files that are inputs have no manifest, and what was removed since is not known.
        for id in artifact.manifest.parents.iter().filter_map(|parent| parent.id.parse().ok()) {
            match app.store().get(&id) {
                Ok(parent) => open.push(parent),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Says beforehand what could make a difference although nothing is wrong.
fn tell_differences_of_place(record: &RunRecord) {
    let (then, now) = (&record.host, Host::current());
    if (&then.cpu, then.threads) != (&now.cpu, now.threads) {
        let text = format!("made on {} with {} threads, ", then.cpu, then.threads);
        render::note(&format!("{text}done again on {} with {}", now.cpu, now.threads));
    }
    if record.nexa_version != machine::nexa_version() {
        let version = machine::nexa_version();
        render::note(&format!("made by nexa {}, done again by {version}", record.nexa_version));
    }
}

/// What differs between a run and its copy: files, and for a training the first step and tensor.
fn difference(
    original: &Manifest,
    copy: &Manifest,
    folder: &Path,
    workspace: &Path,
) -> Result<Option<String>> {
    let is_training = folder.join("metrics.jsonl").is_file() && original.producer.stage == "train";
    if original.content_hash == copy.content_hash {
        let metrics = is_training.then(|| verify::compare_metrics(folder, workspace)).transpose();
        return Ok(metrics.map_err(reported)?.flatten());
    }
    let names = original.files.iter().filter(|file| !copy.files.contains(file)).map(|file| &file.name);
    let added = copy.files.iter().map(|file| &file.name);
    let added = added.filter(|name| original.files.iter().all(|file| file.name != **name));
    let mut text = names.chain(added).map(String::as_str).collect::<Vec<_>>().join(", ");
    if is_training {
        let comparison = verify::compare_runs(folder, workspace).map_err(reported)?;
        text.push_str(&format!(": {comparison}"));
    }
    Ok(Some(text))
}

fn refused(record: &RunRecord, problem: &str) -> Error {
    Error::BadName { what: "run", name: record.id.to_string(), message: problem.to_owned() }
}
