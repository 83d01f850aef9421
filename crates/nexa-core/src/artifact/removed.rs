//! What retention removed, and what it was: the files are gone, the manifest is kept.
//!
//! ```text
//! data/processed/<project>/registry/removed/<artifact>.manifest.json     the manifest, moved here first
//! data/processed/<project>/registry/removed.jsonl                        one line a removal, only ever appended to
//! ```
//!
//! The move of the manifest is what removes an artifact: it is atomic, and without a manifest there is none. A kill
//! behind it leaves files that belong to nothing, which the next collection sweeps, and perhaps no line, which it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::store::MANIFEST_SUFFIX;
use super::{Artifact, ArtifactId, Kind};
use crate::hash::ContentHash;
use crate::lab::{Lab, Project};
use crate::{Error, Result, files, scan};

/// A line of the log of removals. Lines may gain fields, all optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// What was removed.
    pub id: ArtifactId,
    /// What it was.
    pub kind: Kind,
    /// Its content.
    pub content_hash: ContentHash,
    /// Bytes of its files.
    pub bytes: u64,
    /// Who removed it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// An artifact that is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Removed {
    /// What its manifest said.
    pub manifest: Manifest,
    /// When it was removed; unknown where a kill kept the line from the log.
    pub at: Option<DateTime<Utc>>,
}

/// What was removed from a project.
#[derive(Debug, Clone)]
pub(super) struct Graveyard {
    project: Project,
}

impl Graveyard {
    pub(super) fn new(lab: &Lab, project: &str) -> Result<Self> {
        Ok(Self { project: lab.project(project)? })
    }

    /// The log of removals, oldest first.
    pub(super) fn log(&self) -> Result<Vec<Removal>> {
        files::read_lines(&self.log_path())
    }

    /// Everything that was removed, by id.
    pub(super) fn all(&self) -> Result<Vec<Removed>> {
        let times: BTreeMap<ArtifactId, DateTime<Utc>> =
            self.log()?.into_iter().map(|line| (line.id, line.at)).collect();
        let mut removed = Vec::new();
        for path in scan::entries(&self.folder())? {
            if path.to_str().is_some_and(|path| path.ends_with(MANIFEST_SUFFIX)) {
                let manifest = Manifest::read(&path)?;
                let at = times.get(&manifest.id).copied();
                removed.push(Removed { manifest, at });
            }
        }
        removed.sort_by(|one, other| one.manifest.id.cmp(&other.manifest.id));
        Ok(removed)
    }

    /// One of them.
    pub(super) fn find(&self, id: &ArtifactId) -> Result<Option<Removed>> {
        let path = self.tombstone(id);
        if !path.is_file() {
            return Ok(None);
        }
        let at = self.log()?.into_iter().rfind(|line| line.id == *id).map(|line| line.at);
        Ok(Some(Removed { manifest: Manifest::read(&path)?, at }))
    }

    /// The highest version of a name that was ever removed: versions are given out once.
    pub(super) fn newest_version(&self, name: &str) -> Result<Option<u32>> {
        let stems = scan::entries(&self.folder())?.into_iter().filter_map(|path| {
            let stem = path.file_name()?.to_str()?.strip_suffix(MANIFEST_SUFFIX)?.to_owned();
            format!("{}/{stem}", self.project.name()).parse::<ArtifactId>().ok()
        });
        Ok(stems.filter(|id| id.name == name).map(|id| id.version).max())
    }

    /// Removes an artifact: the manifest first, then the line, then the files. Whoever calls holds the lock of the store.
    pub(super) fn bury(&self, artifact: &Artifact, by: &str) -> Result<()> {
        let (from, to) = (artifact.manifest_path(), self.tombstone(artifact.id()));
        files::create_folder(&self.folder())?;
        std::fs::rename(&from, &to).map_err(|e| Error::io("move to", &to, e))?;
        files::sync_folder(&self.folder())?;
        files::sync_folder(from.parent().unwrap_or(&from))?;
        self.note(&artifact.manifest, by)?;
        artifact.places().iter().try_for_each(|path| files::remove(path))
    }

    /// Writes the lines that kills kept from the log.
    pub(super) fn complete_log(&self, by: &str) -> Result<()> {
        let noted: BTreeSet<ArtifactId> = self.log()?.into_iter().map(|line| line.id).collect();
        let mut missing = self.all()?.into_iter().filter(|removed| !noted.contains(&removed.manifest.id));
        missing.try_for_each(|removed| self.note(&removed.manifest, by))
    }

    fn note(&self, manifest: &Manifest, by: &str) -> Result<()> {
        let mut log = files::LineLog::open(&self.log_path())?;
        log.append(&Removal {
            id: manifest.id.clone(),
            kind: manifest.kind,
            content_hash: manifest.content_hash.clone(),
            bytes: manifest.counts.bytes,
            by: by.to_owned(),
            at: Utc::now(),
        })?;
        log.sync()
    }

    fn tombstone(&self, id: &ArtifactId) -> PathBuf {
        self.folder().join(format!("{}{MANIFEST_SUFFIX}", id.stem()))
    }

    fn folder(&self) -> PathBuf {
        self.project.registry_folder().join("removed")
    }

    fn log_path(&self) -> PathBuf {
        self.project.registry_folder().join("removed.jsonl")
    }
}
