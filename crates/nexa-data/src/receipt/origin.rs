//! The line of a file that a row was read from.

use std::path::PathBuf;

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::hash::ContentHash;
use nexa_core::table::Row;
use serde_json::Value;

use super::find::Place;
use super::graph::Graph;
use super::{Origin, identity, text};
use crate::Result;
use crate::ingest::sources::{self, Source};

/// The stage whose rows come from files.
pub(super) const INGEST: &str = "data.ingest";

/// Where the row of an ingested data set was read. A file that is gone or has changed has no line any more.
///
/// # Errors
/// Fails when a file that is still what it was cannot be read.
pub(super) fn of(graph: &Graph, dataset: &Artifact, place: &Place) -> Result<Origin> {
    let source_file = text(&place.row, columns::SOURCE_FILE);
    let mut origin = Origin {
        artifact: place.artifact.clone(),
        id: place.id.clone(),
        source_file,
        path: None,
        line: None,
        changed: false,
        is_gone: false,
    };
    let named = origin.source_file.as_deref();
    let Some((source, expected)) = named.and_then(|name| file(graph, dataset, name)) else {
        return Ok(origin);
    };
    origin.path = Some(source.path.display().to_string());
    origin.is_gone = !source.path.is_file();
    origin.changed = !origin.is_gone && ContentHash::of_file(&source.path)? != expected;
    if !origin.changed && !origin.is_gone {
        let id_column = dataset.manifest.producer.config.get("id_column").and_then(Value::as_str);
        origin.line = line(&source, id_column.unwrap_or(columns::ID), &place.id)?;
    }
    Ok(origin)
}

/// The file of a name among those that a data set was made from, and its content then.
fn file(graph: &Graph, dataset: &Artifact, name: &str) -> Option<(Source, ContentHash)> {
    let outside = dataset.manifest.parents.iter().find_map(|parent| {
        let source = Source::at(parent.path(&graph.root)?, None).ok()?;
        (source.name == name).then(|| (source, parent.content_hash.clone()))
    });
    outside.or_else(|| {
        graph.parents(dataset).into_iter().find_map(|raw| {
            let source = sources::of_artifact(raw).ok()?.into_iter().find(|source| source.name == name)?;
            let is_it = |path: nexa_core::Result<PathBuf>| path.is_ok_and(|path| path == source.path);
            let entry = raw.manifest.files.iter().find(|entry| is_it(raw.file(&entry.name)))?;
            let hash = entry.hash.clone();
            Some((source, hash))
        })
    })
}

/// The line on which a row stands: the one with its id, else the one that its id counts.
fn line(source: &Source, id_column: &str, id: &str) -> Result<Option<u64>> {
    for record in source.open()? {
        let record = record?;
        let Ok(row) = &record.content else { continue };
        let own = match row.get(id_column) {
            None | Some(Value::Null) => format!("{}-{}", source.stem, record.line),
            Some(_) => identity::id(&renamed(row, id_column)).unwrap_or_default(),
        };
        if own == id {
            return Ok(Some(record.line));
        }
    }
    Ok(None)
}

/// The column of ids alone, under the name that it has in data sets.
fn renamed(row: &Row, id_column: &str) -> Row {
    let value = row.get(id_column).cloned().unwrap_or(Value::Null);
    Row::from_iter([(columns::ID.to_owned(), value)])
}
