//! Where artifacts are found, begun, committed and verified.

use std::path::{Path, PathBuf};

use super::reference::{Reference, Wanted};
use super::removed::{Graveyard, Removal, Removed};
use super::tags::Tags;
use crate::artifact::{ArtifactId, FileEntry, Kind, Manifest};
use crate::hash::ContentHash;
use crate::lab::Lab;
use crate::run::{self, Lock};
use crate::scan::{self, Scan};
use crate::{Error, Result, files};

/// What follows the stem in the name of a manifest.
pub(super) const MANIFEST_SUFFIX: &str = ".manifest.json";

/// The folder of a run in which its draft stands.
pub(crate) const DRAFT_FOLDER: &str = ".draft";

/// Keeps the artifacts of a lab as they are: whoever commits, tags, removes, or begins to read holds it.
///
/// # Errors
/// Fails when the file of the lock cannot be opened.
pub(crate) fn lock(lab: &Lab) -> Result<Lock> {
    run::lock(lab, "commit", "the store of artifacts", true)
}

/// An artifact that is there: its manifest and where its files lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// What its manifest says.
    pub manifest: Manifest,
    /// The folder of the manifest.
    folder: PathBuf,
}

impl Artifact {
    /// Says that an artifact of a kind is wanted for a purpose.
    ///
    /// # Errors
    /// Fails when it is of another kind.
    pub fn expect_kind(&self, kind: Kind) -> Result<()> {
        if self.manifest.kind == kind {
            return Ok(());
        }
        Err(Error::BadName {
            what: "artifact",
            name: self.id().to_string(),
            message: format!("it is a {}, but a {kind} is wanted", self.manifest.kind),
        })
    }

    /// The artifact's id.
    pub fn id(&self) -> &ArtifactId {
        &self.manifest.id
    }

    /// The manifest's file.
    pub fn manifest_path(&self) -> PathBuf {
        self.folder.join(format!("{}{MANIFEST_SUFFIX}", self.id().stem()))
    }

    /// Where a file of the artifact lies, by its name in the manifest (`parquet`, `train.jsonl`, `config.json`).
    ///
    /// # Errors
    /// Fails when the artifact has no such file, naming those that it has.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        if self.manifest.files.iter().any(|file| file.name == name) {
            return Ok(self.place(name));
        }
        let names = self.manifest.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error::NotFound {
            what: "file",
            name: format!("{name} of {}", self.id()),
            hint: Some(format!("it holds: {names}")),
        })
    }

    /// The folder that holds the files of an artifact of a folder kind, such as a checkpoint.
    pub fn path(&self) -> PathBuf {
        if self.manifest.kind.is_folder() { self.folder.join(self.id().stem()) } else { self.folder.clone() }
    }

    /// Whether every file is there with its size: cheap, and enough to decide that nothing needs to be made again.
    pub fn is_present(&self) -> bool {
        self.manifest.files.iter().all(|file| {
            std::fs::metadata(self.place(&file.name)).is_ok_and(|found| found.len() == file.bytes)
        })
    }

    /// Hashes every file and compares with the manifest.
    ///
    /// # Errors
    /// Fails on the first file that is missing or differs.
    pub fn verify(&self) -> Result<()> {
        for file in &self.manifest.files {
            let path = self.place(&file.name);
            if !path.is_file() {
                return Err(Error::Integrity { path, message: "the file is missing".to_owned() });
            }
            let found = ContentHash::of_file(&path)?;
            if found != file.hash {
                let message =
                    format!("its content is {} but the manifest says {}", found.short(), file.hash.short());
                return Err(Error::Integrity { path, message });
            }
        }
        let found = Manifest::hash_files(&self.manifest.files);
        if found != self.manifest.content_hash {
            return Err(Error::Integrity {
                path: self.manifest_path(),
                message: "its content hash does not belong to its list of files".to_owned(),
            });
        }
        Ok(())
    }

    /// Everything that it holds on the disk, but for its manifest.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        if self.manifest.kind.is_folder() {
            return vec![self.path()];
        }
        self.manifest.files.iter().map(|file| self.place(&file.name)).collect()
    }

    fn place(&self, name: &str) -> PathBuf {
        place(&self.folder, self.manifest.kind, &self.id().stem(), name)
    }
}

fn place(folder: &Path, kind: Kind, stem: &str, name: &str) -> PathBuf {
    if kind.is_folder() { folder.join(stem).join(name) } else { folder.join(format!("{stem}.{name}")) }
}

/// A folder in which a stage writes the files of an artifact before it is committed.
///
/// Files are named by what will follow the stem: `parquet`, `train.jsonl`, `model.safetensors`.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
}

impl Draft {
    /// Begins an empty draft in a folder; what an interrupted attempt left there is removed.
    ///
    /// # Errors
    /// Fails when the folder cannot be emptied or made.
    pub fn begin(folder: PathBuf) -> Result<Self> {
        files::remove(&folder)?;
        files::create_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Syncs and hashes every file.
    pub(crate) fn seal(&self) -> Result<Vec<FileEntry>> {
        files::sync_tree(&self.folder)?;
        let mut entries = Vec::new();
        for relative in files::walk(&self.folder)? {
            let path = self.folder.join(&relative);
            let bytes = std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
            let name = relative.to_str().ok_or_else(|| Error::malformed(&path, "the name is not UTF-8"))?;
            entries.push(FileEntry { name: name.to_owned(), bytes, hash: ContentHash::of_file(&path)? });
        }
        if entries.is_empty() {
            return Err(Error::malformed(&self.folder, "the stage made no file"));
        }
        Ok(entries)
    }
}

/// The artifacts of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    lab: &'a Lab,
}

impl<'a> Store<'a> {
    /// The artifacts of a lab.
    pub fn new(lab: &'a Lab) -> Self {
        Self { lab }
    }

    /// Every artifact of one kind in a project, oldest version first.
    ///
    /// # Errors
    /// Fails on a malformed manifest.
    pub fn of_kind(&self, project: &str, kind: Kind) -> Result<Vec<Artifact>> {
        self.scan_kind(project, kind)?.complete()
    }

    /// Every artifact of a project, in the order of kinds.
    ///
    /// # Errors
    /// As [`Store::of_kind`].
    pub fn of_project(&self, project: &str) -> Result<Vec<Artifact>> {
        let mut artifacts = Vec::new();
        for kind in Kind::ALL {
            artifacts.extend(self.of_kind(project, kind)?);
        }
        Ok(artifacts)
    }

    /// Every artifact of the lab.
    ///
    /// # Errors
    /// As [`Store::of_kind`].
    pub fn all(&self) -> Result<Vec<Artifact>> {
        self.scan()?.complete()
    }

    /// Every artifact of the lab by project and kind, and the manifests that cannot be read.
    ///
    /// # Errors
    /// Fails when a folder cannot be listed.
    pub fn scan(&self) -> Result<Scan<Artifact>> {
        let mut scan = Scan::empty();
        for project in self.lab.projects()? {
            for kind in Kind::ALL {
                let own = self.scan_kind(&project, kind)?;
                scan.found.extend(own.found);
                scan.problems.extend(own.problems);
            }
        }
        Ok(scan)
    }

    fn scan_kind(&self, project: &str, kind: Kind) -> Result<Scan<Artifact>> {
        let folder = self.folder(project, kind);
        let mut scan = Scan::empty();
        for path in scan::entries(&folder)? {
            if path.to_str().is_some_and(|path| path.ends_with(MANIFEST_SUFFIX)) {
                match Manifest::read(&path) {
                    Ok(manifest) => scan.found.push(Artifact { manifest, folder: folder.clone() }),
                    Err(error) => scan.note(&path, error),
                }
            }
        }
        scan.found.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(scan)
    }

    /// The artifact of an id.
    ///
    /// # Errors
    /// Fails when there is none, or its manifest is malformed.
    pub fn get(&self, id: &ArtifactId) -> Result<Artifact> {
        for kind in Kind::ALL {
            let folder = self.folder(&id.project, kind);
            let path = folder.join(format!("{}{MANIFEST_SUFFIX}", id.stem()));
            if path.is_file() {
                return Ok(Artifact { manifest: Manifest::read(&path)?, folder });
            }
        }
        let hint = match Graveyard::new(self.lab, &id.project)?.find(id)? {
            Some(removed) => {
                let at = removed.at.map_or(String::new(), |at| at.format(" on %Y-%m-%d").to_string());
                format!("`nexa data gc` removed it{at}; `nexa lineage {id}` tells what it was")
            }
            None => self.names(&id.project)?,
        };
        Err(Error::NotFound { what: "artifact", name: id.to_string(), hint: Some(hint) })
    }

    /// What was removed from a project, by id.
    ///
    /// # Errors
    /// Fails on a malformed manifest or log.
    pub fn removed(&self, project: &str) -> Result<Vec<Removed>> {
        Graveyard::new(self.lab, project)?.all()
    }

    /// Every removal from a project, oldest first.
    ///
    /// # Errors
    /// Fails with path and line on a malformed log.
    pub fn removals(&self, project: &str) -> Result<Vec<Removal>> {
        Graveyard::new(self.lab, project)?.log()
    }

    /// The lab that holds the artifacts.
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// The artifact that a person means: an id, `name_vN`, `name@vN`, `name:tag` or `name` (its newest version) of a
    /// project, or the path of its manifest, folder or one of its files.
    ///
    /// # Errors
    /// Fails when there is none.
    pub fn resolve(&self, project: &str, text: &str) -> Result<Artifact> {
        if let Ok(id) = text.parse::<ArtifactId>() {
            return self.get(&id);
        }
        if let Ok(id) = format!("{project}/{text}").parse::<ArtifactId>()
            && let Ok(artifact) = self.get(&id)
        {
            return Ok(artifact);
        }
        let newest = self.of_project(project)?.into_iter().rfind(|a| a.id().name == text);
        if let Some(artifact) = newest {
            return Ok(artifact);
        }
        if let Some(artifact) = self.at_path(Path::new(text))? {
            return Ok(artifact);
        }
        if let Some(reference) = Reference::parse(text) {
            return self.get(&self.id_of(project, &reference)?);
        }
        // What was removed is told as such; what never was may have been meant otherwise.
        if let Ok(id) = format!("{project}/{text}").parse::<ArtifactId>()
            && Graveyard::new(self.lab, &id.project)?.find(&id)?.is_some()
        {
            return self.get(&id);
        }
        Err(Error::NotFound { what: "artifact", name: text.to_owned(), hint: Some(self.names(project)?) })
    }

    /// The id that a person means although the artifact may have been removed, as far as a name alone can tell.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve_id(&self, project: &str, text: &str) -> Result<ArtifactId> {
        let error = match self.resolve(project, text) {
            Ok(artifact) => return Ok(artifact.id().clone()),
            Err(error) => error,
        };
        let named = text.parse().or_else(|_| format!("{project}/{text}").parse::<ArtifactId>());
        let named = named.ok().or_else(|| self.id_of(project, &Reference::parse(text)?).ok());
        match named {
            Some(id) if Graveyard::new(self.lab, &id.project)?.find(&id)?.is_some() => Ok(id),
            _ => Err(error),
        }
    }

    fn id_of(&self, project: &str, reference: &Reference) -> Result<ArtifactId> {
        let Reference { project: named, name, version } = reference;
        let project = named.as_deref().unwrap_or(project);
        let id = |version| ArtifactId { project: project.to_owned(), name: name.clone(), version };
        let versions = self.of_project(project)?.into_iter().filter(|a| a.id().name == *name);
        let newest = versions.map(|a| a.id().version).max();
        match (version, newest) {
            (Wanted::Version(version), _) => Ok(id(*version)),
            (_, None) => Err(Error::NotFound {
                what: "artifact",
                name: reference.to_string(),
                hint: Some(self.names(project)?),
            }),
            (Wanted::Latest, Some(newest)) => Ok(id(newest)),
            (Wanted::Tag(tag), Some(_)) => Ok(id(Tags::new(self.lab, project)?.version(name, tag)?)),
        }
    }

    /// The names in a project, for hints.
    fn names(&self, project: &str) -> Result<String> {
        let mut names: Vec<String> = self.of_project(project)?.iter().map(|a| a.id().name.clone()).collect();
        names.dedup();
        let names = if names.is_empty() { "nothing yet".to_owned() } else { names.join(", ") };
        Ok(format!("project {project} holds: {names}"))
    }

    /// The newest artifact of a kind in a project, by time.
    ///
    /// # Errors
    /// Fails when the project has none.
    pub fn latest(&self, project: &str, kind: Kind) -> Result<Artifact> {
        self.of_kind(project, kind)?.into_iter().max_by_key(|a| a.manifest.created_at).ok_or_else(|| {
            Error::NotFound {
                what: "artifact",
                name: format!("of kind {kind} in project {project}"),
                hint: Some("run the stage that makes it first, or name one".to_owned()),
            }
        })
    }

    /// The newest artifact of a name that was made under a key and whose files are still there.
    ///
    /// # Errors
    /// Fails on a malformed manifest.
    pub fn by_key(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
        key: &ContentHash,
    ) -> Result<Option<Artifact>> {
        let artifacts = self.of_kind(project, kind)?;
        Ok(artifacts
            .into_iter()
            .rfind(|a| a.id().name == name && a.manifest.producer.key == *key && a.is_present()))
    }

    /// Checks that an artifact of this kind can have a name.
    ///
    /// # Errors
    /// Fails with [`Error::BadName`] on a malformed name, and on one that the project has given to another kind.
    pub fn check_name(&self, project: &str, kind: Kind, name: &str) -> Result<()> {
        check_free(&self.of_project(project)?, kind, name)
    }

    /// Turns a draft into an artifact: files first, the manifest last. `complete` receives the id and the files and
    /// returns the manifest to write.
    ///
    /// # Errors
    /// Fails when files cannot be moved or the manifest cannot be written; there is no artifact then.
    pub fn commit(
        &self,
        draft: Draft,
        project: &str,
        kind: Kind,
        name: &str,
        complete: impl FnOnce(ArtifactId, Vec<FileEntry>) -> Manifest,
    ) -> Result<Artifact> {
        let entries = draft.seal()?;
        // Versions are given out under a lock, so that two processes never take the same one.
        let _lock = lock(self.lab)?;
        let taken = self.of_project(project)?;
        check_free(&taken, kind, name)?;
        let folder = self.folder(project, kind);
        files::create_folder(&folder)?;
        let newest = taken.iter().filter(|a| a.id().name == name).map(|a| a.id().version).max();
        let newest = newest.max(Graveyard::new(self.lab, project)?.newest_version(name)?);
        let id = ArtifactId {
            project: project.to_owned(),
            name: name.to_owned(),
            version: newest.unwrap_or(0) + 1,
        };
        let stem = id.stem();
        // Files without a manifest are what a crash left between the two steps below; they are replaced.
        if kind.is_folder() {
            let target = folder.join(&stem);
            files::remove(&target)?;
            std::fs::rename(draft.folder(), &target).map_err(|e| Error::io("move to", &target, e))?;
        } else {
            for entry in &entries {
                let target = place(&folder, kind, &stem, &entry.name);
                std::fs::rename(draft.folder().join(&entry.name), &target)
                    .map_err(|e| Error::io("move to", &target, e))?;
            }
            files::remove(draft.folder())?;
        }
        files::sync_folder(&folder)?;
        let manifest = complete(id, entries);
        let artifact = Artifact { manifest, folder };
        artifact.manifest.write(&artifact.manifest_path())?;
        Ok(artifact)
    }

    fn folder(&self, project: &str, kind: Kind) -> PathBuf {
        self.lab.root().join(kind.folder(project))
    }

    /// The artifact that a path belongs to.
    fn at_path(&self, path: &Path) -> Result<Option<Artifact>> {
        let Ok(path) = path.canonicalize() else { return Ok(None) };
        let root = self.lab.root().canonicalize().map_err(|e| Error::io("resolve", self.lab.root(), e))?;
        if !path.starts_with(&root) {
            return Ok(None);
        }
        for artifact in self.all()? {
            let belongs = [artifact.manifest_path(), artifact.path()].iter().any(|own| {
                own.canonicalize()
                    .is_ok_and(|own| own == path && (own.is_file() || artifact.manifest.kind.is_folder()))
            }) || artifact
                .manifest
                .files
                .iter()
                .any(|file| artifact.place(&file.name).canonicalize().is_ok_and(|own| own == path));
            if belongs {
                return Ok(Some(artifact));
            }
        }
        Ok(None)
    }
}

/// Checks that an artifact of a kind can have a name among those that a project has.
fn check_free(taken: &[Artifact], kind: Kind, name: &str) -> Result<()> {
    crate::lab::check_name("artifact", name)?;
    match taken.iter().find(|artifact| artifact.id().name == name && artifact.manifest.kind != kind) {
        Some(other) => Err(Error::BadName {
            what: "artifact",
            name: name.to_owned(),
            message: format!("the project has a {} of that name", other.manifest.kind),
        }),
        None => Ok(()),
    }
}
