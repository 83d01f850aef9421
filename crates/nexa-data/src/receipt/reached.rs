//! What a source reached: every artifact that was made with it, and the rows in them that go back to it.
//!
//! The tables of a source's descendants are read once, each behind what it was made from. Of a row that goes back to the
//! source, 16 bytes are held until all that was made of its table has been read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use nexa_core::Error as CoreError;
use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::columns::SOURCE_FILE;
use nexa_core::table::Row;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::graph::{Graph, REJECTED, Table, tables};
use super::{Asked, Receipt, identity, receipt, text};
use crate::Result;
use crate::tables::Records;

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// An artifact.
    Artifact(&'a Artifact),
    /// A file from outside the lab, or one of its raw files.
    File(&'a Path),
    /// A row.
    Row(Asked<'a>),
}

/// What a source reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The source.
    pub source: String,
    /// Everything that was made with it, each behind what it was made from.
    pub artifacts: Vec<ReachedArtifact>,
}

/// An artifact that was made with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReachedArtifact {
    /// Which.
    pub id: ArtifactId,
    /// What it is.
    pub kind: Kind,
    /// The stage that made it.
    pub stage: String,
    /// Its run.
    pub run: String,
    /// Rows of its main table that go back to the source; none where it has no rows with ids.
    pub rows: Option<u64>,
    /// Rows of it in all.
    pub of: Option<u64>,
    /// Rows that go back to the source, and that it left out.
    pub rejected: u64,
}

/// Ids, as hashes.
type Ids = HashSet<u128>;

/// Lists what a source reached.
///
/// # Errors
/// Fails when nothing was ever made of the source, and when a manifest or table cannot be read.
pub fn reached(store: &Store<'_>, source: &Source<'_>) -> Result<Reached> {
    let graph = Graph::of(store)?;
    let (name, seeds) = match source {
        Source::Artifact(artifact) => (artifact.id().to_string(), Seeds::Artifact(artifact.id().clone())),
        Source::File(path) => {
            let path = path.canonicalize().map_err(|e| CoreError::io("read", path, e))?;
            (path.display().to_string(), Seeds::file(&graph, path)?)
        }
        Source::Row(asked) => {
            let Receipt { found_in, row, .. } = receipt(store, asked)?;
            (format!("row {row} of {found_in}"), Seeds::Row { artifact: found_in, id: row })
        }
    };
    let scope: BTreeSet<ArtifactId> =
        seeds.artifacts().into_iter().flat_map(|id| graph.descendants(id)).collect();
    let mut ids: BTreeMap<ArtifactId, Ids> = BTreeMap::new();
    let mut artifacts = Vec::new();
    for artifact in graph.in_order(&scope) {
        let above: Vec<&Ids> =
            graph.parents(artifact).iter().filter_map(|parent| ids.get(parent.id())).collect();
        let found = Rows::of(artifact, |row| {
            seeds.is_origin(artifact, row)
                || identity::origins(row).iter().any(|id| above.iter().any(|ids| ids.contains(&hash(id))))
        })?;
        let manifest = &artifact.manifest;
        if !seeds.is_itself(artifact.id()) {
            artifacts.push(ReachedArtifact {
                id: artifact.id().clone(),
                kind: manifest.kind,
                stage: manifest.producer.stage.clone(),
                run: manifest.producer.run.to_string(),
                rows: found.has_ids.then_some(found.kept),
                of: manifest.counts.rows,
                rejected: found.rejected,
            });
        }
        ids.insert(artifact.id().clone(), found.ids);
    }
    if let Source::Row(_) = source {
        // A row reaches the tables that hold it, and what was made of one of these that has no rows itself.
        artifacts = holding(&graph, artifacts);
    }
    Ok(Reached { source: name, artifacts })
}

/// Leaves out tables without a row of the source, and what was made of such tables alone.
fn holding(graph: &Graph, artifacts: Vec<ReachedArtifact>) -> Vec<ReachedArtifact> {
    let mut reached: BTreeSet<ArtifactId> = BTreeSet::new();
    let holds = |one: &ReachedArtifact, reached: &BTreeSet<ArtifactId>| match one.rows {
        Some(rows) => rows + one.rejected > 0,
        None => graph.get(&one.id).is_some_and(|artifact| {
            graph.parents(artifact).iter().any(|parent| reached.contains(parent.id()))
        }),
    };
    let mut kept = Vec::new();
    for one in artifacts {
        // What is measured of a model that saw the row was reached by it, whatever was asked.
        let measures = one.kind == Kind::Evaluation
            && graph.get(&one.id).is_some_and(|artifact| {
                graph
                    .parents(artifact)
                    .iter()
                    .any(|parent| parent.manifest.kind == Kind::Checkpoint && reached.contains(parent.id()))
            });
        if measures || holds(&one, &reached) {
            reached.insert(one.id.clone());
            kept.push(one);
        }
    }
    kept
}

/// Where it begins.
enum Seeds {
    Artifact(ArtifactId),
    File { name: String, artifacts: Vec<ArtifactId> },
    Row { artifact: ArtifactId, id: String },
}

impl Seeds {
    fn file(graph: &Graph, path: PathBuf) -> Result<Self> {
        // Resolved, as the path is; what is no longer there has no other way to be written.
        let is_it = |read: PathBuf| read.canonicalize().unwrap_or(read) == path;
        let reads = |artifact: &&Artifact| {
            let mut parents = artifact.manifest.parents.iter();
            parents.any(|parent| parent.path(&graph.root).is_some_and(is_it))
        };
        let artifacts: Vec<_> = graph.all().filter(reads).map(|artifact| artifact.id().clone()).collect();
        if artifacts.is_empty() {
            let hint = Some("`nexa lineage DATA` names the files that something was made from".to_owned());
            let name = path.display().to_string();
            return Err(CoreError::NotFound { what: "anything that was made of", name, hint }.into());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::File { name, artifacts })
    }

    fn artifacts(&self) -> Vec<&ArtifactId> {
        match self {
            Self::Artifact(id) | Self::Row { artifact: id, .. } => vec![id],
            Self::File { artifacts, .. } => artifacts.iter().collect(),
        }
    }

    /// Whether an artifact is the source.
    fn is_itself(&self, id: &ArtifactId) -> bool {
        matches!(self, Self::Artifact(own) if own == id)
    }

    /// Whether a row is the source's own.
    fn is_origin(&self, artifact: &Artifact, row: &Row) -> bool {
        match self {
            Self::Artifact(id) => artifact.id() == id,
            Self::Row { artifact: own, id } => {
                artifact.id() == own && identity::id(row).is_some_and(|row| row == *id)
            }
            Self::File { name, artifacts } => {
                artifacts.contains(artifact.id())
                    && text(row, SOURCE_FILE).is_none_or(|file| is_the_file(&file, name))
            }
        }
    }
}

/// Whether a row that names its file means one of this name; it may name it with its folder.
fn is_the_file(file: &str, name: &str) -> bool {
    Path::new(file).file_name().is_some_and(|own| own == name)
}

/// The rows of an artifact that go back to a source.
#[derive(Default)]
struct Rows {
    ids: Ids,
    kept: u64,
    rejected: u64,
    has_ids: bool,
}

impl Rows {
    fn of(artifact: &Artifact, belongs: impl Fn(&Row) -> bool) -> Result<Self> {
        let mut found = Self::default();
        let is_wanted = |table: &Table<'_>| table.is_main || table.stem == REJECTED;
        for table in tables(artifact).into_iter().filter(is_wanted) {
            for row in Records::open(&table.path)?.rows() {
                let row = row?;
                let Some(id) = identity::id(&row) else { continue };
                found.has_ids |= table.is_main;
                if belongs(&row) {
                    found.ids.insert(hash(&id));
                    *(if table.is_main { &mut found.kept } else { &mut found.rejected }) += 1;
                }
            }
        }
        Ok(found)
    }
}

fn hash(id: &str) -> u128 {
    xxh3_128(id.as_bytes())
}
