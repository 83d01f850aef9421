//! Tags: words for versions, such as `prod`, that can be moved from one version of a name to another.
//!
//! ```text
//! data/processed/<project>/registry/tags.jsonl     one line a change, only ever appended to; the last one counts
//! ```
//!
//! The log stands beside the artifacts and is copied with them; who moved a tag, and when, can be read in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::reference::check_tag;
use super::{Artifact, ArtifactId, store};
use crate::lab::{Lab, Project};
use crate::{Error, Result, files};

/// One change of a tag: a line of the log. Lines may gain fields, all optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagChange {
    /// The name whose versions it tells apart.
    pub name: String,
    /// The tag.
    pub tag: String,
    /// The version that has it from now on; none where it was taken away.
    pub version: Option<u32>,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl TagChange {
    /// Whether it gave the tag to a version.
    pub fn is_of(&self, id: &ArtifactId) -> bool {
        self.name == id.name && self.version == Some(id.version)
    }
}

/// How a tag was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tagged {
    /// No version had it.
    New,
    /// The version had it already; nothing was written.
    Already,
    /// It was that of another version before.
    Moved {
        /// The version that it was taken from.
        from: u32,
    },
}

/// What a tag was taken from and given back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The version that had it.
    pub from: u32,
    /// The version that has it again.
    pub to: u32,
}

/// The tags of a project.
#[derive(Debug, Clone)]
pub struct Tags<'a> {
    lab: &'a Lab,
    project: Project,
}

/// Who tags, and whether a tag may be taken from another version.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Who does it.
    pub by: &'a str,
    /// Whether a tag that another version has is moved.
    pub moves: bool,
}

impl<'a> Tags<'a> {
    /// The tags of a project of a lab.
    ///
    /// # Errors
    /// Fails when the name cannot be that of a project.
    pub fn new(lab: &'a Lab, project: &str) -> Result<Self> {
        Ok(Self { lab, project: lab.project(project)? })
    }

    /// Every change that was ever made, oldest first.
    ///
    /// # Errors
    /// Fails with path and line on a malformed log.
    pub fn history(&self) -> Result<Vec<TagChange>> {
        files::read_lines(&self.path())
    }

    /// The tags that stand, by name and tag.
    ///
    /// # Errors
    /// As [`Tags::history`].
    pub fn all(&self) -> Result<Vec<TagChange>> {
        let mut standing = BTreeMap::new();
        for change in self.history()? {
            let key = (change.name.clone(), change.tag.clone());
            match change.version {
                Some(_) => standing.insert(key, change),
                None => standing.remove(&key),
            };
        }
        Ok(standing.into_values().collect())
    }

    /// The tags of one version.
    ///
    /// # Errors
    /// As [`Tags::history`].
    pub fn of(&self, id: &ArtifactId) -> Result<Vec<String>> {
        Ok(self.all()?.into_iter().filter(|change| change.is_of(id)).map(|change| change.tag).collect())
    }

    /// The version of a name that has a tag.
    ///
    /// # Errors
    /// Fails, naming the tags that there are, when none has it, and as [`Tags::history`].
    pub fn version(&self, name: &str, tag: &str) -> Result<u32> {
        let all: Vec<_> = self.all()?.into_iter().filter(|change| change.name == name).collect();
        let found = all.iter().find(|change| change.tag == tag).and_then(|change| change.version);
        found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|change| change.tag.as_str()).collect();
            let hint = match known.as_slice() {
                [] => format!("it has no tags; `nexa data tag {name}@vN {tag}` gives it one"),
                known => format!("its tags are: {}", known.join(", ")),
            };
            Error::NotFound { what: "tag", name: format!("{name}:{tag}"), hint: Some(hint) }
        })
    }

    /// Gives a tag to a version, durably.
    ///
    /// # Errors
    /// Fails on a word that cannot be a tag, when another version has it and it is not to be moved, and when the
    /// artifact is no longer there or the log cannot be written.
    pub fn set(&self, artifact: &Artifact, tag: &str, change: Change<'_>) -> Result<Tagged> {
        check_tag(tag)?;
        let id = artifact.id();
        // Nothing is removed between the look at the artifact and the line that keeps it.
        let _lock = store::lock(self.lab)?;
        super::Store::new(self.lab).get(id)?;
        let before = self.all()?.into_iter().find(|one| one.name == id.name && one.tag == tag);
        let tagged = match before.and_then(|one| one.version) {
            None => Tagged::New,
            Some(version) if version == id.version => return Ok(Tagged::Already),
            Some(from) if change.moves => Tagged::Moved { from },
            Some(from) => {
                let message = format!("{}@v{from} has it; `--move` takes it from there", id.name);
                return Err(Error::BadName { what: "tag", name: tag.to_owned(), message });
            }
        };
        self.append(&id.name, tag, Some(id.version), change.by)?;
        Ok(tagged)
    }

    /// Takes a tag away, durably; says which version had it.
    ///
    /// # Errors
    /// Fails when no version of the name has it, or the log cannot be written.
    pub fn remove(&self, name: &str, tag: &str, by: &str) -> Result<u32> {
        let _lock = store::lock(self.lab)?;
        let version = self.version(name, tag)?;
        self.append(name, tag, None, by)?;
        Ok(version)
    }

    /// Gives a tag back to the version that had it before the one that has it now, durably. Done again, it goes on to the one
    /// before that.
    ///
    /// # Errors
    /// Fails when no version has the tag, when none had it before, when that one is no longer there, or the log cannot be
    /// written.
    pub fn roll_back(&self, name: &str, tag: &str, by: &str) -> Result<RolledBack> {
        let _lock = store::lock(self.lab)?;
        let from = self.version(name, tag)?;
        let mut versions: Vec<u32> = Vec::new();
        for change in self.history()?.into_iter().filter(|change| change.name == name && change.tag == tag) {
            match change.version {
                // A version that comes back takes its successor's place.
                Some(version) if versions.iter().rev().nth(1) == Some(&version) => {
                    versions.pop();
                }
                Some(version) => versions.push(version),
                None => {}
            }
        }
        let before = versions.into_iter().rev().find(|&version| version != from);
        let to = before.ok_or_else(|| Error::NotFound {
            what: "tag",
            name: format!("{name}:{tag} before v{from}"),
            hint: Some("`nexa data tag --history` lists every change".to_owned()),
        })?;
        let id = ArtifactId { project: self.project.name().to_owned(), name: name.to_owned(), version: to };
        super::Store::new(self.lab).get(&id)?;
        self.append(name, tag, Some(to), by)?;
        Ok(RolledBack { from, to })
    }

    fn append(&self, name: &str, tag: &str, version: Option<u32>, by: &str) -> Result<()> {
        let (name, tag, by) = (name.to_owned(), tag.to_owned(), by.to_owned());
        let mut log = files::LineLog::open(&self.path())?;
        log.append(&TagChange { name, tag, version, by, at: Utc::now() })?;
        log.sync()
    }

    fn path(&self) -> PathBuf {
        self.project.registry_folder().join("tags.jsonl")
    }
}
