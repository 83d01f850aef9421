//! What the gates of distillation kept out of the training data where the model fails.
//!
//! The filters are those in the lineage of the checkpoint. A row that any of them saw is of a weak domain, of a gap, of
//! several of these or of none; for each gate the share that it rejected of the rows of each is told beside the share of
//! the rows that are of none. A gate decides only on what those before it passed, so that shares of gates add up to what
//! is lost. Whether a rejection was right is not judged: a gate that starves a part is one to look at.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store};
use nexa_core::columns;
use nexa_core::hash::ContentHash;
use nexa_core::table::{Row, Tables, main_table, rejected_table};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cluster::{Cluster, Regions, Vocabulary};
use super::inputs::first_question;
use super::slice::Slice;
use crate::Result;
use crate::contamination::TrainingData;
use crate::metric::NO_DOMAIN;
use crate::statistics::wilson;

/// The kinds of artifacts through which training data comes.
const WAY: [Kind; 5] =
    [Kind::Dataset, Kind::TeacherInputs, Kind::TeacherOutputs, Kind::Filtered, Kind::SftDataset];

/// What a gate rejected of the rows of a part in which the model fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateShare {
    /// The gate.
    pub gate: String,
    /// The domain or the label of the cluster.
    pub part: String,
    /// What the part is.
    pub kind: PartKind,
    /// Rows of the part that filters saw.
    pub rows: usize,
    /// Those of them that the gate rejected.
    pub rejected: usize,
    /// Their share.
    pub share: f64,
    /// Lower end of the interval of the share.
    pub ci_low: f64,
    /// Upper end of the interval.
    pub ci_high: f64,
    /// Rows that are of no part in which the model fails.
    pub elsewhere_rows: usize,
    /// Those of them that the gate rejected.
    pub elsewhere_rejected: usize,
    /// Their share; none where there is no such row.
    pub elsewhere_share: Option<f64>,
    /// Lower end of the interval of that share.
    pub elsewhere_ci_low: Option<f64>,
    /// Upper end of the interval.
    pub elsewhere_ci_high: Option<f64>,
    /// Whether the whole interval of the part lies above that of elsewhere.
    pub is_starving: bool,
}

/// A part of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// A weak domain.
    Domain,
    /// A cluster of failures that is a gap.
    Cluster,
}

/// Where a model fails.
pub(super) struct Failing<'a> {
    /// The weak slices, where training data has the same domains.
    pub(super) slices: Vec<&'a Slice>,
    /// Every cluster, gaps or not.
    pub(super) clusters: &'a [Cluster],
    /// Where these lie.
    pub(super) regions: &'a Regions,
    /// The words of the questions.
    pub(super) vocabulary: &'a Vocabulary,
}

/// Rows, and how many of them each gate rejected.
#[derive(Debug, Clone, Default)]
struct Tally {
    rows: usize,
    rejected: BTreeMap<String, usize>,
}

/// Counts what each gate in the lineage of a checkpoint rejected where the model fails: gate by gate, the largest share
/// first. Empty where there are no filters, where they rejected nothing, and where the model fails nowhere in particular.
///
/// # Errors
/// Fails on a malformed manifest, and with the path where a table cannot be read.
pub(super) fn shares(
    store: &Store<'_>,
    checkpoint: &Artifact,
    tables: &dyn Tables,
    failing: &Failing<'_>,
) -> Result<Vec<GateShare>> {
    let parts = failing.parts();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let mut tallies = vec![Tally::default(); parts.len()];
    let mut elsewhere = Tally::default();
    let mut seen: HashSet<(String, String)> = HashSet::new();
    for filter in filters(store, checkpoint)? {
        let (kept, rejected) = (main_table(&filter, tables), rejected_table(&filter, tables));
        for table in kept.into_iter().chain(rejected) {
            tables.each(&filter.file(table)?, &mut |row| {
                let prompt = prompt(&row).unwrap_or_default();
                let id = row.get(columns::ID).map(Value::to_string).unwrap_or_default();
                // Of a row that several filters saw, the one that is nearest to the training decided.
                if !seen.insert((id, prompt.to_owned())) {
                    return Ok(());
                }
                let gate = row.get(columns::REJECTION_GATE).and_then(Value::as_str);
                let of = failing.of(&row, prompt, &parts);
                of.iter().for_each(|&part| tallies[part].add(gate));
                if of.is_empty() {
                    elsewhere.add(gate);
                }
                Ok(())
            })?;
        }
    }
    let gates: BTreeSet<&String> =
        tallies.iter().chain([&elsewhere]).flat_map(|tally| tally.rejected.keys()).collect();
    let mut found = Vec::new();
    for gate in gates {
        let of_gate = parts.iter().zip(&tallies);
        found.extend(of_gate.filter_map(|(part, tally)| GateShare::of(gate, part, tally, &elsewhere)));
    }
    found.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(found)
}

/// A part in which the model fails.
enum Part<'a> {
    Domain(&'a str),
    /// A cluster by its place.
    Cluster(usize, &'a str),
}

impl<'a> Failing<'a> {
    fn parts(&self) -> Vec<Part<'a>> {
        let domains = self.slices.iter().map(|slice| Part::Domain(slice.domain.as_str()));
        let gaps = self.clusters.iter().enumerate().filter(|(_, cluster)| cluster.is_gap);
        domains.chain(gaps.map(|(at, cluster)| Part::Cluster(at, cluster.label.as_str()))).collect()
    }

    /// The parts that a row is of.
    fn of(&self, row: &Row, prompt: &str, parts: &[Part<'_>]) -> Vec<usize> {
        let domain = row.get(columns::DOMAIN).and_then(Value::as_str).unwrap_or(NO_DOMAIN);
        let region = self.regions.find(&self.vocabulary.vector(prompt));
        let is_of = |part: &Part<'_>| match part {
            Part::Domain(name) => *name == domain,
            Part::Cluster(at, _) => Some(*at) == region,
        };
        (0..parts.len()).filter(|&part| is_of(&parts[part])).collect()
    }
}

impl Tally {
    fn add(&mut self, gate: Option<&str>) {
        self.rows += 1;
        if let Some(gate) = gate {
            *self.rejected.entry(gate.to_owned()).or_default() += 1;
        }
    }

    fn of(&self, gate: &str) -> usize {
        self.rejected.get(gate).copied().unwrap_or(0)
    }
}

impl GateShare {
    /// None where no row is of the part.
    fn of(gate: &str, part: &Part<'_>, tally: &Tally, elsewhere: &Tally) -> Option<Self> {
        let (rejected, elsewhere_rejected) = (tally.of(gate), elsewhere.of(gate));
        let (ci_low, ci_high) = wilson(rejected, tally.rows)?;
        let other = wilson(elsewhere_rejected, elsewhere.rows);
        let (kind, name) = match part {
            Part::Domain(name) => (PartKind::Domain, *name),
            Part::Cluster(_, label) => (PartKind::Cluster, *label),
        };
        Some(Self {
            gate: gate.to_owned(),
            part: name.to_owned(),
            kind,
            rows: tally.rows,
            rejected,
            share: rejected as f64 / tally.rows as f64,
            ci_low,
            ci_high,
            elsewhere_rows: elsewhere.rows,
            elsewhere_rejected,
            elsewhere_share: other.map(|_| elsewhere_rejected as f64 / elsewhere.rows as f64),
            elsewhere_ci_low: other.map(|(low, _)| low),
            elsewhere_ci_high: other.map(|(_, high)| high),
            is_starving: other.is_some_and(|(_, high)| ci_low > high),
        })
    }
}

/// The filters in the lineage of a checkpoint that are still there, those nearest to the training first.
fn filters(store: &Store<'_>, checkpoint: &Artifact) -> Result<Vec<Artifact>> {
    let sources = TrainingData::of(store, checkpoint)?.sources;
    let mut open: VecDeque<(ArtifactId, ContentHash)> = VecDeque::new();
    for source in sources {
        open.push_back((source.name.parse()?, source.hash));
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some((id, hash)) = open.pop_front() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let artifact = match store.get(&id) {
            Err(nexa_core::Error::NotFound { .. }) => continue,
            found => found?,
        };
        if artifact.manifest.content_hash != hash || !WAY.contains(&artifact.manifest.kind) {
            continue;
        }
        for parent in artifact.manifest.parents.iter().filter(|parent| !parent.is_file()) {
            open.push_back((parent.id.parse()?, parent.content_hash.clone()));
        }
        if artifact.manifest.kind == Kind::Filtered && artifact.is_present() {
            found.push(artifact);
        }
    }
    Ok(found)
}

/// What a row asks.
fn prompt(row: &Row) -> Option<&str> {
    row.get(columns::USER_PROMPT).and_then(Value::as_str).or_else(|| first_question(row))
}
