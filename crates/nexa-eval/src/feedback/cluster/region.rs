//! Where clusters of failures lie, to hold other texts against them.

use std::collections::BTreeSet;

use super::terms::{Vector, Vocabulary};
use super::{Cluster, REACH, ROUNDING, centre, nearest};
use crate::predictions::Prediction;

/// The regions of some clusters: each reaches as far from its middle as nine in ten of its failures.
#[derive(Debug)]
pub(in crate::feedback) struct Regions {
    centres: Vec<Vec<f64>>,
    /// How similar to the middle a text must be.
    floors: Vec<f64>,
}

impl Regions {
    /// Finds the regions of the clusters of an evaluation.
    pub(in crate::feedback) fn of(
        clusters: &[Cluster],
        predictions: &[Prediction],
        vocabulary: &Vocabulary,
    ) -> Self {
        let mut regions = Self { centres: Vec::new(), floors: Vec::new() };
        for cluster in clusters {
            let failed = failed(cluster, predictions, vocabulary);
            let centre = centre(&failed.iter().collect::<Vec<_>>(), vocabulary.len());
            let mut similarities: Vec<f64> = failed.iter().map(|one| one.similarity(&centre)).collect();
            similarities.sort_by(|a, b| b.total_cmp(a));
            let last = ((REACH * similarities.len() as f64).ceil() as usize).max(1) - 1;
            regions.floors.push(similarities.get(last).copied().unwrap_or(f64::INFINITY));
            regions.centres.push(centre);
        }
        regions
    }

    /// The place of the cluster that a text is of: it lies within the reach of the one that it is most like.
    pub(in crate::feedback) fn find(&self, vector: &Vector) -> Option<usize> {
        let (place, similarity) = nearest(vector, &self.centres);
        let floor = self.floors.get(place)?;
        (similarity > 0.0 && similarity >= floor - ROUNDING).then_some(place)
    }
}

/// The direction of the failures of a cluster.
pub(in crate::feedback) fn middle(
    cluster: &Cluster,
    predictions: &[Prediction],
    vocabulary: &Vocabulary,
) -> Vec<f64> {
    let failed = failed(cluster, predictions, vocabulary);
    centre(&failed.iter().collect::<Vec<_>>(), vocabulary.len())
}

/// What the failures of a cluster ask.
fn failed(cluster: &Cluster, predictions: &[Prediction], vocabulary: &Vocabulary) -> Vec<Vector> {
    let ids: BTreeSet<&str> = cluster.failed_ids.iter().map(String::as_str).collect();
    let failed = predictions.iter().filter(|one| ids.contains(one.id.as_str()));
    failed.map(|one| vocabulary.vector(one.question())).collect()
}
