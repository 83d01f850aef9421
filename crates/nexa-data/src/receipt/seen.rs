//! Which models saw a row, and what was measured of them.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{Artifact, ArtifactId, Kind};
use nexa_core::columns::SPLIT;
use serde_json::Value;

use super::find::Place;
use super::graph::Graph;
use super::{Evaluated, Item, Receipt, Seen, Use, text};

/// Fills in the models and the evaluations.
pub(super) fn fill(receipt: &mut Receipt, graph: &Graph, places: &[Place]) {
    receipt.runs = models(graph, places);
    receipt.evaluations = evaluations(graph, places, &receipt.runs);
}

/// The models that were made of tables with the row in them, and those that go on from such a model.
fn models(graph: &Graph, places: &[Place]) -> Vec<Seen> {
    let tables: BTreeMap<&ArtifactId, &Place> =
        places.iter().filter(|place| place.is_main).map(|place| (&place.artifact, place)).collect();
    let mut uses: BTreeMap<ArtifactId, (Use, ArtifactId)> = BTreeMap::new();
    let ids: BTreeSet<ArtifactId> = graph.all().map(|artifact| artifact.id().clone()).collect();
    // Each comes behind what it was made from.
    for artifact in graph.in_order(&ids) {
        if !artifact.manifest.kind.is_folder() {
            continue;
        }
        let mut found: Option<(Use, ArtifactId)> = None;
        for parent in graph.parents(artifact) {
            let used = match tables.get(parent.id()) {
                Some(place) => Some(used(artifact, place)),
                // A tokenizer that saw a row makes no model that did.
                None => (parent.manifest.kind == Kind::Checkpoint && is_seen(uses.get(parent.id())))
                    .then_some(Use::Inherited),
            };
            if let Some(used) = used
                && found.as_ref().is_none_or(|(known, _)| used < *known)
            {
                found = Some((used, parent.id().clone()));
            }
        }
        if let Some(found) = found {
            uses.insert(artifact.id().clone(), found);
        }
    }
    let order: Vec<ArtifactId> =
        graph.in_order(uses.keys()).into_iter().map(|artifact| artifact.id().clone()).collect();
    let seen = |id: ArtifactId| {
        let (as_what, through) = uses.get(&id)?.clone();
        let run = graph.get(&id)?.manifest.producer.run.to_string();
        Some(Seen { artifact: id, run, through, as_what })
    };
    order.into_iter().filter_map(seen).collect()
}

/// Whether what a model was to a row reaches the models that are made of it.
fn is_seen(used: Option<&(Use, ArtifactId)>) -> bool {
    used.is_some_and(|(used, _)| *used != Use::HeldOut)
}

/// What a row was to whoever reads its table.
fn used(reader: &Artifact, place: &Place) -> Use {
    match text(&place.row, SPLIT).as_deref() {
        Some("train") => Use::Trained,
        // A tokenizer is trained on what is trained on.
        Some("validation") if reader.manifest.kind == Kind::Checkpoint => Use::Validated,
        Some(_) => Use::HeldOut,
        None => Use::Read,
    }
}

/// Evaluations in which the row was asked, and those of models that saw it.
fn evaluations(graph: &Graph, places: &[Place], runs: &[Seen]) -> Vec<Evaluated> {
    let models: BTreeSet<&ArtifactId> =
        runs.iter().filter(|seen| seen.as_what != Use::HeldOut).map(|seen| &seen.artifact).collect();
    let asked: BTreeMap<&ArtifactId, &Place> = places.iter().map(|place| (&place.artifact, place)).collect();
    let of_kind = graph.all().filter(|artifact| artifact.manifest.kind == Kind::Evaluation);
    let evaluated = |artifact: &Artifact| {
        let parents = graph.parents(artifact);
        let checkpoint = parents.iter().find(|parent| parent.manifest.kind == Kind::Checkpoint);
        let item = asked.get(artifact.id()).map(|place| Item {
            correct: place.row.get("correct").and_then(Value::as_bool),
            prediction: text(&place.row, "prediction"),
        });
        let is_of_model = checkpoint.is_some_and(|checkpoint| models.contains(checkpoint.id()));
        (item.is_some() || is_of_model).then(|| Evaluated {
            artifact: artifact.id().clone(),
            run: artifact.manifest.producer.run.to_string(),
            checkpoint: checkpoint.map(|checkpoint| checkpoint.id().to_string()),
            item,
        })
    };
    of_kind.filter_map(evaluated).collect()
}
