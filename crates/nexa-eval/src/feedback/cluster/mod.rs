//! The failures of an evaluation, put together by what they ask.
//!
//! Failed questions are grouped by likeness. So that a group has a rate and not only a number, what was answered right
//! counts as well: a group reaches as far from its middle as [`REACH`] of its failures, and its rate is that of all items
//! within its reach that are like no other group more.

mod label;
mod partition;
mod region;
mod terms;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Config;
use super::slice::{Causes, Example};
use crate::metric::NO_DOMAIN;
use crate::predictions::Prediction;
use crate::statistics::wilson;

use partition::Partition;

pub use label::Term;
pub(super) use partition::{centre, nearest};
pub(super) use region::{Regions, middle};
pub(super) use terms::{Vector, Vocabulary};

/// The share of its failures that lie within the reach of a cluster; the others are too far out to tell what it is like.
const REACH: f64 = 0.9;

/// Similarities of the same words may differ by so much in how they are summed.
const ROUNDING: f64 = 1e-9;

/// Failures that ask for something alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its number, from 1; the most failures come first.
    pub cluster: usize,
    /// Its name: the terms that set it most apart.
    pub label: String,
    /// Failed items in it.
    pub failures: usize,
    /// Its share of all failures.
    pub share: f64,
    /// Items within its reach, failed or not.
    pub items: usize,
    /// The share of them that failed.
    pub failure_rate: f64,
    /// Lower end of the interval of the rate.
    pub ci_low: f64,
    /// Upper end of the interval.
    pub ci_high: f64,
    /// What the rate is held against.
    pub bar: f64,
    /// Whether the whole interval lies above the bar.
    pub is_gap: bool,
    /// The terms by which its failures differ from what was answered right.
    pub terms: Vec<Term>,
    /// Its failures by domain, the most first.
    pub domains: Vec<DomainFailures>,
    /// Its failures by what went wrong.
    pub causes: Causes,
    /// The ids of its failures.
    pub failed_ids: Vec<String>,
    /// The failures that are most typical of it.
    pub examples: Vec<Example>,
}

/// Failures of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainFailures {
    /// The domain.
    pub domain: String,
    /// Its failures.
    pub failures: usize,
}

/// The vocabulary of the questions of an evaluation.
pub(super) fn vocabulary(predictions: &[Prediction]) -> Vocabulary {
    Vocabulary::of(predictions.iter().map(Prediction::question))
}

/// Groups the failures of an evaluation, the largest group first; `bar` is the share of failures that none should
/// exceed.
pub(super) fn clusters(predictions: &[Prediction], bar: f64, config: &Config) -> Vec<Cluster> {
    let vocabulary = vocabulary(predictions);
    let of = |outcome: bool| {
        let graded = predictions.iter().filter(move |one| one.correct == Some(outcome));
        graded.map(|one| (one, vocabulary.vector(one.question()))).collect::<Vec<_>>()
    };
    let (failed, right) = (of(false), of(true));
    if failed.is_empty() {
        return Vec::new();
    }
    let vectors: Vec<Vector> = failed.iter().map(|(_, vector)| vector.clone()).collect();
    let partition = Partition::of(&vectors, vocabulary.len(), config.max_clusters, config.seed);
    let near: Vec<(usize, f64)> =
        right.iter().map(|(_, vector)| nearest(vector, &partition.centres)).collect();
    let right: Vec<&Vector> = right.iter().map(|(_, vector)| vector).collect();
    let names = vocabulary.terms();
    let mut clusters: Vec<Cluster> = partition
        .centres
        .iter()
        .enumerate()
        .map(|(group, centre)| {
            let members = failed.iter().zip(&partition.group_of).filter(|(_, of)| **of == group);
            let members: Vec<&(&Prediction, Vector)> = members.map(|(member, _)| member).collect();
            let vectors: Vec<&Vector> = members.iter().map(|(_, vector)| vector).collect();
            let terms = label::terms(&vectors, &right, centre, &names);
            let right =
                near.iter().filter(|(nearest, _)| *nearest == group).map(|(_, similarity)| *similarity);
            let group = Group { members: &members, centre, right: right.collect(), all: failed.len() };
            group.describe(terms, bar, config)
        })
        .collect();
    // The sort is stable, so that equal ones stay in the order of their centres.
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.failures));
    (1..).zip(&mut clusters).for_each(|(number, cluster)| cluster.cluster = number);
    clusters
}

/// What a cluster is computed from.
struct Group<'a> {
    members: &'a [&'a (&'a Prediction, Vector)],
    centre: &'a [f64],
    /// How similar those answered right are to its middle that are like no other cluster more.
    right: Vec<f64>,
    /// Failures of all clusters.
    all: usize,
}

impl Group<'_> {
    fn describe(&self, terms: Vec<Term>, bar: f64, config: &Config) -> Cluster {
        let failed: Vec<&Prediction> = self.members.iter().map(|(one, _)| *one).collect();
        let (reached, items) = self.within_reach();
        let (ci_low, ci_high) = wilson(reached, items).unwrap_or((0.0, 1.0));
        Cluster {
            cluster: 0,
            label: label::label(&terms),
            failures: failed.len(),
            share: failed.len() as f64 / self.all as f64,
            items,
            failure_rate: reached as f64 / items as f64,
            ci_low,
            ci_high,
            bar,
            is_gap: ci_low > bar,
            terms,
            domains: domains(&failed),
            causes: Causes::of(&failed),
            failed_ids: failed.iter().map(|one| one.id.clone()).collect(),
            examples: self.typical(config.examples),
        }
    }

    /// Counts the failures within reach, and with them all items.
    fn within_reach(&self) -> (usize, usize) {
        let members = self.by_similarity();
        let last = ((REACH * members.len() as f64).ceil() as usize).max(1) - 1;
        // What has no term in common with the failures is not like them, however unlike they are.
        let floor = members[last].1;
        let is_near = |similarity: f64| similarity > 0.0 && similarity >= floor - ROUNDING;
        let reached =
            members.iter().enumerate().filter(|(at, (_, one))| *at <= last || is_near(*one)).count();
        (reached, reached + self.right.iter().filter(|one| is_near(**one)).count())
    }

    /// The failures that are most like the middle of the cluster.
    fn typical(&self, count: usize) -> Vec<Example> {
        self.by_similarity().into_iter().take(count).map(|(one, _)| Example::of(one)).collect()
    }

    /// The failures with how similar they are to the middle, the nearest first.
    fn by_similarity(&self) -> Vec<(&Prediction, f64)> {
        let mut members: Vec<(&Prediction, f64)> =
            self.members.iter().map(|(one, vector)| (*one, vector.similarity(self.centre))).collect();
        members.sort_by(|a, b| b.1.total_cmp(&a.1));
        members
    }
}

fn domains(failed: &[&Prediction]) -> Vec<DomainFailures> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in failed {
        *counts.entry(one.domain.as_deref().unwrap_or(NO_DOMAIN)).or_default() += 1;
    }
    let mut domains: Vec<DomainFailures> = counts
        .into_iter()
        .map(|(domain, failures)| DomainFailures { domain: domain.to_owned(), failures })
        .collect();
    domains.sort_by_key(|of| std::cmp::Reverse(of.failures));
    domains
}
