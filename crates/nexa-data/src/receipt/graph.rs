//! The artifacts of a lab and what was made of what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::table::{Tables, main_table};

use crate::Result;
use crate::tables::FileTables;

/// The artifacts of a lab by id, in the order in which they were made.
pub(super) struct Graph {
    /// The lab's folder.
    pub(super) root: PathBuf,
    artifacts: BTreeMap<ArtifactId, Artifact>,
    children: BTreeMap<ArtifactId, Vec<ArtifactId>>,
}

/// A table of an artifact.
pub(super) struct Table<'a> {
    pub(super) artifact: &'a Artifact,
    /// Its name in the manifest.
    pub(super) file: &'a str,
    /// What stands before the format in that name: nothing for the main table, `rejected`, `scores`.
    pub(super) stem: &'a str,
    /// Whether it is what the artifact is about.
    pub(super) is_main: bool,
    pub(super) path: PathBuf,
}

impl Graph {
    pub(super) fn of(store: &Store<'_>) -> Result<Self> {
        let artifacts: BTreeMap<_, _> =
            store.all()?.into_iter().map(|artifact| (artifact.id().clone(), artifact)).collect();
        let mut children: BTreeMap<ArtifactId, Vec<ArtifactId>> = BTreeMap::new();
        for artifact in artifacts.values() {
            for parent in artifact_parents(artifact) {
                children.entry(parent).or_default().push(artifact.id().clone());
            }
        }
        let root = store.lab().root().to_owned();
        Ok(Self { root, artifacts, children })
    }

    pub(super) fn get(&self, id: &ArtifactId) -> Option<&Artifact> {
        self.artifacts.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Artifact> {
        self.artifacts.values()
    }

    /// The artifacts that one was made from, as far as they are there.
    pub(super) fn parents(&self, artifact: &Artifact) -> Vec<&Artifact> {
        artifact_parents(artifact).filter_map(|id| self.artifacts.get(&id)).collect()
    }

    /// The artifacts that were made of one.
    pub(super) fn children(&self, id: &ArtifactId) -> impl Iterator<Item = &Artifact> {
        self.children.get(id).into_iter().flatten().filter_map(|id| self.artifacts.get(id))
    }

    /// An artifact and all that it descends from.
    pub(super) fn ancestors(&self, id: &ArtifactId) -> BTreeSet<ArtifactId> {
        self.walk(id, |artifact| self.parents(artifact))
    }

    /// An artifact and all that descends from it.
    pub(super) fn descendants(&self, id: &ArtifactId) -> BTreeSet<ArtifactId> {
        self.walk(id, |artifact| self.children(artifact.id()).collect())
    }

    /// Puts artifacts in an order in which each comes behind what it was made from.
    pub(super) fn in_order<'a>(&'a self, ids: impl IntoIterator<Item = &'a ArtifactId>) -> Vec<&'a Artifact> {
        let wanted: BTreeSet<&ArtifactId> = ids.into_iter().collect();
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        let mut open: Vec<(&ArtifactId, bool)> = wanted.iter().rev().map(|id| (*id, false)).collect();
        while let Some((id, is_left)) = open.pop() {
            let Some(artifact) = self.artifacts.get(id) else { continue };
            if is_left {
                if wanted.contains(id) {
                    order.push(artifact);
                }
            } else if done.insert(id) {
                open.push((id, true));
                open.extend(self.parents(artifact).into_iter().map(|parent| (parent.id(), false)));
            }
        }
        order
    }

    fn walk<'a>(
        &'a self,
        from: &ArtifactId,
        next: impl Fn(&'a Artifact) -> Vec<&'a Artifact>,
    ) -> BTreeSet<ArtifactId> {
        let mut seen = BTreeSet::from([from.clone()]);
        let mut open: Vec<&Artifact> = self.artifacts.get(from).into_iter().collect();
        while let Some(artifact) = open.pop() {
            for found in next(artifact) {
                if seen.insert(found.id().clone()) {
                    open.push(found);
                }
            }
        }
        seen
    }
}

fn artifact_parents(artifact: &Artifact) -> impl Iterator<Item = ArtifactId> {
    artifact.manifest.parents.iter().filter_map(|parent| parent.id.parse().ok())
}

/// The tables of an artifact in which rows are known by their ids, the main one first. Those that say the same once more are left out: the
/// forms of training data stand in its Parquet file.
pub(super) fn tables(artifact: &Artifact) -> Vec<Table<'_>> {
    let Some(main) = main_table(artifact, &FileTables) else { return Vec::new() };
    let is_package = artifact.manifest.kind == Kind::SftDataset;
    let names = artifact.manifest.files.iter().map(|file| file.name.as_str());
    let table = |file| {
        let (stem, _) = FileTables.split_name(file)?;
        let is_main = file == main;
        let is_wanted = is_main || !is_package || stem == REJECTED;
        let path = artifact.file(file).ok()?;
        is_wanted.then_some(Table { artifact, file, stem, is_main, path })
    };
    let mut tables: Vec<Table<'_>> = names.filter_map(table).collect();
    tables.sort_by_key(|table| !table.is_main);
    tables
}

/// The stem of what was left out.
pub(super) const REJECTED: &str = "rejected";
