//! Collecting what retention lets go: the artifacts, and what killed processes left.
//!
//! Everything happens under the lock of the store: nothing is committed, tagged or begun meanwhile. Swept is only what
//! provably belongs to nobody: drafts of runs that no process works on, files of artifacts that were removed, files of a
//! commit that a kill cut off, and temporary files where only the holder of the lock writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde::Serialize;

use super::removed::Graveyard;
use super::retention::{self, Held, Reason, Retention};
use super::{Artifact, ArtifactId, Kind, Manifest, Store, Tags, store};
use crate::lab::{Lab, Project};
use crate::review::{Labels, is_reviewable};
use crate::run::{self, RunRecord, Status};
use crate::{Error, Result, files, scan};

/// What is collected, and by whom.
#[derive(Debug, Clone)]
pub struct Collection<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The project.
    pub project: Project,
    /// What is kept.
    pub retention: Retention,
}

/// What a collection would do, or did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Collected {
    /// Artifacts that go, each before what it descends from.
    pub removed: Vec<Gone>,
    /// Artifacts that stay, and why.
    pub kept: Vec<Kept>,
    /// What killed processes left, and goes.
    pub swept: Vec<Leftover>,
}

/// An artifact that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Which.
    pub id: ArtifactId,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its files.
    pub bytes: u64,
}

/// An artifact that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which.
    pub id: ArtifactId,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Something that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes below it.
    pub bytes: u64,
    /// What it is.
    pub what: Remains,
}

/// What is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remains {
    /// The draft of a run that no process works on.
    Draft,
    /// Files of an artifact that was removed.
    Removed,
    /// Files of a commit that a kill cut off.
    Commit,
    /// A temporary file.
    Temporary,
}

impl Remains {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft of a dead run",
            Self::Removed => "files of a removed artifact",
            Self::Commit => "files of a commit that was cut off",
            Self::Temporary => "temporary file",
        }
    }
}

impl Collection<'_> {
    /// Says what would go and what would stay.
    ///
    /// # Errors
    /// Fails on a malformed manifest, run record or log: what cannot be read may need what would go.
    pub fn plan(&self) -> Result<Collected> {
        let _lock = store::lock(self.lab)?;
        Ok(self.decide()?.0)
    }

    /// Removes what may go, children before their parents.
    ///
    /// # Errors
    /// As [`Collection::plan`], and with the path of what cannot be removed; what was removed before it stays so.
    pub fn remove(&self, by: &str) -> Result<Collected> {
        let _lock = store::lock(self.lab)?;
        let (collected, artifacts) = self.decide()?;
        let graveyard = Graveyard::new(self.lab, self.project.name())?;
        graveyard.complete_log(by)?;
        for artifact in &artifacts {
            graveyard.bury(artifact, by)?;
        }
        collected.swept.iter().try_for_each(|leftover| files::remove(&leftover.path))?;
        Ok(collected)
    }

    fn decide(&self) -> Result<(Collected, Vec<Artifact>)> {
        let artifacts = Store::new(self.lab).all()?;
        let runs = run::all(self.lab)?;
        let manifests: Vec<&Manifest> = artifacts.iter().map(|artifact| &artifact.manifest).collect();
        let held = self.held(&artifacts, &runs)?;
        let decided = retention::decide(&manifests, self.project.name(), self.retention, &held, Utc::now());
        let going: Vec<Artifact> = decided
            .removed
            .iter()
            .filter_map(|id| artifacts.iter().find(|artifact| artifact.id() == id).cloned())
            .collect();
        let gone = |artifact: &Artifact| Gone {
            id: artifact.id().clone(),
            kind: artifact.manifest.kind,
            bytes: artifact.manifest.counts.bytes,
        };
        let collected = Collected {
            removed: going.iter().map(gone).collect(),
            kept: decided.kept.into_iter().map(|(id, reasons)| Kept { id, reasons }).collect(),
            swept: self.leftovers(&runs)?,
        };
        Ok((collected, going))
    }

    /// What is kept whatever its age.
    fn held(&self, artifacts: &[Artifact], runs: &[RunRecord]) -> Result<Held> {
        let mut held = Held::default();
        let all = Tags::new(self.lab, self.project.name())?.all()?;
        for artifact in artifacts.iter().filter(|artifact| artifact.id().project == self.project.name()) {
            let id = artifact.id();
            let own = all.iter().filter(|tag| tag.is_of(id));
            let tags: Vec<String> = own.map(|tag| tag.tag.clone()).collect();
            if !tags.is_empty() {
                held.hold(id.clone(), Reason::Tagged { tags });
            }
            if is_reviewable(artifact.manifest.kind) {
                let reviewers = Labels::new(self.lab, id).reviewers()?;
                if !reviewers.is_empty() {
                    held.hold(id.clone(), Reason::Reviewed { reviewers });
                }
            }
        }
        for record in runs.iter().filter(|record| self.may_go_on(record)) {
            let run = record.id.to_string();
            for id in record.inputs.iter().filter_map(|input| input.id.parse::<ArtifactId>().ok()) {
                held.hold(id, Reason::Read { run: run.clone() });
            }
        }
        Ok(held)
    }

    /// Whether a run reads its inputs, or will when the same command is given again.
    fn may_go_on(&self, record: &RunRecord) -> bool {
        record.status != Status::Finished
            && (record.is_alive(self.lab) || run::is_resumable(self.lab, record))
    }

    fn leftovers(&self, runs: &[RunRecord]) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        let own = runs.iter().filter(|record| record.project == self.project.name());
        let dead: Vec<&RunRecord> = own.filter(|record| !record.is_alive(self.lab)).collect();
        for record in &dead {
            let draft = run::folder(self.lab, &record.id).join(store::DRAFT_FOLDER);
            if draft.is_dir() {
                found.push(leftover(draft, Remains::Draft)?);
            }
        }
        let unfinished = dead.iter().filter(|record| record.status != Status::Finished);
        let cut_off: BTreeSet<&str> = unfinished.map(|record| record.name.as_str()).collect();
        for kind in Kind::ALL {
            for path in scan::entries(&self.lab.root().join(kind.folder(self.project.name())))? {
                if let Some(what) = self.remains(&path, kind, &cut_off)? {
                    found.push(leftover(path, what)?);
                }
            }
        }
        Ok(found)
    }

    /// What a path in the folder of a kind is, if it belongs to nothing.
    fn remains(&self, path: &Path, kind: Kind, cut_off: &BTreeSet<&str>) -> Result<Option<Remains>> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        if name.starts_with(files::TEMPORARY_PREFIX) {
            return Ok(Some(Remains::Temporary));
        }
        let stem = if kind.is_folder() { name } else { name.split('.').next().unwrap_or(name) };
        let Ok(id) = format!("{}/{stem}", self.project.name()).parse::<ArtifactId>() else { return Ok(None) };
        let manifest = path.with_file_name(format!("{stem}{}", store::MANIFEST_SUFFIX));
        if manifest.exists() {
            return Ok(None);
        }
        let removed = Graveyard::new(self.lab, self.project.name())?.find(&id)?;
        Ok(match removed {
            // Another kind may have had the name before.
            Some(removed) => (removed.manifest.kind == kind).then_some(Remains::Removed),
            None => cut_off.contains(id.name.as_str()).then_some(Remains::Commit),
        })
    }
}

fn leftover(path: PathBuf, what: Remains) -> Result<Leftover> {
    let size = |path: &Path| -> Result<u64> {
        Ok(std::fs::symlink_metadata(path).map_err(|e| Error::io("read", path, e))?.len())
    };
    let bytes = if path.is_dir() {
        files::walk(&path)?.iter().map(|relative| size(&path.join(relative))).sum::<Result<u64>>()?
    } else {
        size(&path)?
    };
    Ok(Leftover { path, bytes, what })
}
