//! Finding a row, and what it was made of and what was made of it, among the tables of a lab.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{Artifact, ArtifactId};
use nexa_core::columns;
use nexa_core::table::Row;
use nexa_core::{Error as CoreError, config};

use super::graph::{Graph, Table, tables};
use super::{Asked, identity};
use crate::tables::Records;
use crate::{Error, Result};

/// What was found.
pub(super) struct Found {
    /// Where the row was found first.
    pub(super) root: ArtifactId,
    /// Older versions of that which hold the id too.
    pub(super) also_in: Vec<ArtifactId>,
    /// The row in every table, each behind what it was made from.
    pub(super) places: Vec<Place>,
}

/// A row in a table.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) artifact: ArtifactId,
    pub(super) file: String,
    pub(super) stem: String,
    pub(super) is_main: bool,
    pub(super) id: String,
    pub(super) row: Row,
}

/// Finds a row.
///
/// # Errors
/// Fails when no table holds it, and when several do of which none goes back to another.
pub(super) fn find(graph: &Graph, asked: &Asked<'_>) -> Result<Found> {
    let named = graph.all().filter(|artifact| match asked.within {
        Some(within) => artifact.id() == within.id(),
        None => artifact.id().project == asked.project,
    });
    let scope: BTreeSet<ArtifactId> = named
        .flat_map(|artifact| [graph.ancestors(artifact.id()), graph.descendants(artifact.id())])
        .flatten()
        .collect();
    let order = graph.in_order(&scope);
    let candidates = candidates(&order, asked.row)?;
    let (root, also_in) = root(graph, asked, &candidates, &order)?;
    let places = related(graph, candidates, &root, asked.row);
    Ok(Found { root, also_in, places })
}

/// Every row that may be the one that is asked for, or be made of it, or the other way round.
fn candidates(order: &[&Artifact], wanted: &str) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    for table in order.iter().flat_map(|artifact| tables(artifact)) {
        for row in Records::open(&table.path)?.rows() {
            let row = row?;
            let Some(id) = identity::id(&row) else { continue };
            let first = super::text(&row, columns::FIRST_ID);
            if std::iter::once(&id).chain(&first).any(|id| identity::may_relate(id, wanted)) {
                found.push(place(&table, id, row));
            }
        }
    }
    Ok(found)
}

fn place(table: &Table<'_>, id: String, row: Row) -> Place {
    Place {
        artifact: table.artifact.id().clone(),
        file: table.file.to_owned(),
        stem: table.stem.to_owned(),
        is_main: table.is_main,
        id,
        row,
    }
}

/// The artifact in which the row stood first, and older versions of it that hold the id too.
fn root(
    graph: &Graph,
    asked: &Asked<'_>,
    candidates: &[Place],
    order: &[&Artifact],
) -> Result<(ArtifactId, Vec<ArtifactId>)> {
    let is_asked = |place: &&Place| place.id == asked.row && place.artifact.project == asked.project;
    let holders: BTreeSet<&ArtifactId> =
        candidates.iter().filter(is_asked).map(|place| &place.artifact).collect();
    if let Some(within) = asked.within {
        return match candidates.iter().find(|place| place.id == asked.row && place.artifact == *within.id()) {
            Some(place) => Ok((place.artifact.clone(), Vec::new())),
            None => Err(unknown(asked, candidates, &[within])),
        };
    }
    let mut roots: Vec<&ArtifactId> = holders
        .iter()
        .copied()
        .filter(|id| {
            let above = graph.ancestors(id);
            !holders.iter().any(|other| other != id && above.contains(*other))
        })
        .collect();
    // Of versions of one name, the newest is meant; they are sorted.
    let Some(newest) = roots.pop() else { return Err(unknown(asked, candidates, order)) };
    if let Some(other) = roots.iter().find(|root| root.name != newest.name) {
        let mut places: Vec<String> = roots.iter().map(ToString::to_string).collect();
        places.push(newest.to_string());
        return Err(Error::AmbiguousRow { row: asked.row.to_owned(), places, example: (*other).to_string() });
    }
    Ok((newest.clone(), roots.into_iter().cloned().collect()))
}

/// Says where a row was looked for, and what it may have been.
fn unknown(asked: &Asked<'_>, candidates: &[Place], looked: &[&Artifact]) -> Error {
    let holders: BTreeSet<String> = candidates
        .iter()
        .filter(|place| place.id == asked.row)
        .map(|place| place.artifact.to_string())
        .collect();
    let known = candidates.iter().map(|place| place.id.as_str());
    let own = looked.iter().filter(|artifact| artifact.id().project == asked.project);
    let names: BTreeMap<&str, usize> = own.fold(BTreeMap::new(), |mut names, artifact| {
        *names.entry(artifact.id().name.as_str()).or_default() += tables(artifact).len();
        names
    });
    let (tables, names): (usize, Vec<&str>) = (
        names.values().sum(),
        names.iter().filter(|(_, tables)| **tables > 0).map(|(name, _)| *name).collect(),
    );
    let hint = match config::nearest(asked.row, known) {
        _ if !holders.is_empty() => {
            format!("it stands in: {}", holders.into_iter().collect::<Vec<_>>().join(", "))
        }
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!(
            "it is neither an artifact nor a row of the {tables} tables of project {} ({}); `nexa data show DATA` shows ids",
            asked.project,
            names.join(", ")
        ),
    };
    CoreError::NotFound { what: "row", name: asked.row.to_owned(), hint: Some(hint) }.into()
}

/// The candidates that the row of the root was made of, itself, and those that were made of it.
fn related(graph: &Graph, candidates: Vec<Place>, root: &ArtifactId, wanted: &str) -> Vec<Place> {
    let parents: BTreeMap<&ArtifactId, BTreeSet<&ArtifactId>> = candidates
        .iter()
        .filter_map(|place| graph.get(&place.artifact))
        .map(|artifact| (artifact.id(), graph.parents(artifact).into_iter().map(Artifact::id).collect()))
        .collect();
    let origins: Vec<Vec<String>> = candidates.iter().map(|place| identity::origins(&place.row)).collect();
    let is_beside = |one: usize, other: usize| {
        candidates[one].artifact == candidates[other].artifact && candidates[one].id == candidates[other].id
    };
    let is_made_of = |child: usize, parent: usize| {
        parents
            .get(&candidates[child].artifact)
            .is_some_and(|above| above.contains(&candidates[parent].artifact))
            && origins[child].contains(&candidates[parent].id)
    };
    let seeds: BTreeSet<usize> = (0..candidates.len())
        .filter(|&at| candidates[at].artifact == *root && candidates[at].id == wanted)
        .collect();
    let grow = |is_next: &dyn Fn(usize, usize) -> bool| {
        let mut reached = seeds.clone();
        let mut open: Vec<usize> = seeds.iter().copied().collect();
        while let Some(from) = open.pop() {
            for to in 0..candidates.len() {
                if !reached.contains(&to) && (is_beside(from, to) || is_next(from, to)) {
                    reached.insert(to);
                    open.push(to);
                }
            }
        }
        reached
    };
    let up = grow(&|from, to| is_made_of(from, to));
    let down = grow(&|from, to| is_made_of(to, from));
    let kept: BTreeSet<usize> = up.union(&down).copied().collect();
    candidates.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, place)| place).collect()
}
