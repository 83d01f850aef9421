//! The line of a file that a row was read from.

use std::path::{Path, PathBuf};

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::hash::ContentHash;
use nexa_core::table::Row;
use serde_json::Value;

use super::find::Place;
use super::graph::Graph;
use super::{Origin, identity, text};
use crate::Result;
use crate::tables::{Format, Records};

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
    };
    let Some((path, expected)) = origin.source_file.as_deref().and_then(|name| file(graph, dataset, name))
    else {
        return Ok(origin);
    };
    origin.path = Some(path.display().to_string());
    origin.changed = !path.is_file() || ContentHash::of_file(&path)? != expected;
    if !origin.changed {
        let id_column = dataset.manifest.producer.config.get("id_column").and_then(Value::as_str);
        origin.line = line(&path, id_column.unwrap_or(columns::ID), &place.id)?;
    }
    Ok(origin)
}

/// The file of a name among those that a data set was made from, and its content then.
fn file(graph: &Graph, dataset: &Artifact, name: &str) -> Option<(PathBuf, ContentHash)> {
    let is_named = |path: &Path| path.file_name().is_some_and(|own| own == name);
    let outside = dataset.manifest.parents.iter().find_map(|parent| {
        let path = PathBuf::from(parent.id.strip_prefix("file:")?);
        is_named(&path).then(|| (path, parent.content_hash.clone()))
    });
    outside.or_else(|| {
        graph.parents(dataset).into_iter().find_map(|raw| {
            raw.manifest.files.iter().find_map(|file| {
                let path = raw.file(&file.name).ok()?;
                is_named(&path).then(|| (path, file.hash.clone()))
            })
        })
    })
}

/// The line on which a row stands: the one with its id, else the one that its id counts.
fn line(path: &Path, id_column: &str, id: &str) -> Result<Option<u64>> {
    let stem = path.file_name().and_then(|name| Format::split(name.to_str()?)).map_or("", |(stem, _)| stem);
    for record in Records::open(path)? {
        let record = record?;
        let Ok(row) = &record.content else { continue };
        let own = match row.get(id_column) {
            None | Some(Value::Null) => format!("{stem}-{}", record.line),
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
