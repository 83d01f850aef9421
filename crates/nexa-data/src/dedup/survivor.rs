//! Which row of a cluster stays: the best, then the one whose id comes first. The order of the rows plays no part.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::cluster::Clusters;
use super::minhash::jaccard;
use super::spool::{Spool, SpoolReader, Spooled};
use crate::Result;

/// Clusters that one thread looks at at a time.
const CHUNK_CLUSTERS: usize = 256;

/// A set of rows that are the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The id that comes first of all in it.
    pub(super) name: String,
    /// The id of the row that stays.
    pub(super) survivor: String,
    pub(super) members: u64,
}

/// A row of a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Member {
    pub(super) row: u32,
    /// The number of its cluster.
    pub(super) cluster: u32,
    pub(super) standing: Standing,
}

/// What a row is beside the survivor of its cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing {
    /// The survivor itself.
    Survivor,
    /// It says the same, but for case and white space.
    Equal,
    /// The share of shingles that it has in common with the survivor.
    Similar(f64),
}

impl Standing {
    /// The similarity to the survivor.
    pub(super) fn similarity(self) -> f64 {
        match self {
            Self::Survivor | Self::Equal => 1.0,
            Self::Similar(similarity) => similarity,
        }
    }
}

/// Finds the survivor of every cluster of more than one row; the members come in the order of the rows.
///
/// # Errors
/// Fails with the path when documents cannot be looked up.
pub(super) fn choose(
    mut clusters: Clusters,
    qualities: &[f64],
    spool: &Spool,
) -> Result<(Vec<Cluster>, Vec<Member>)> {
    let rows = u32::try_from(qualities.len()).expect("a table of more rows is refused");
    let mut sizes = vec![0_u32; qualities.len()];
    for row in 0..rows {
        sizes[clusters.union.first(row) as usize] += 1;
    }
    let mut by_first: Vec<(u32, u32)> = (0..rows)
        .map(|row| (clusters.union.first(row), row))
        .filter(|(first, _)| sizes[*first as usize] > 1)
        .collect();
    drop(sizes);
    by_first.sort_unstable();
    let groups: Vec<&[(u32, u32)]> = by_first.chunk_by(|one, other| one.0 == other.0).collect();
    let hashes = &clusters.hashes;
    let judge = Judge { qualities, hashes, spool };
    let judged = groups
        .par_chunks(CHUNK_CLUSTERS)
        .enumerate()
        .map(|(chunk, groups)| judge.judge_all(chunk * CHUNK_CLUSTERS, groups))
        .collect::<Result<Vec<_>>>()?;
    let mut found = Vec::with_capacity(groups.len());
    let mut members = Vec::with_capacity(by_first.len());
    for (cluster, of_cluster) in judged.into_iter().flatten() {
        found.push(cluster);
        members.extend(of_cluster);
    }
    members.sort_unstable_by_key(|member| member.row);
    Ok((found, members))
}

struct Judge<'a> {
    qualities: &'a [f64],
    hashes: &'a [u64],
    spool: &'a Spool,
}

impl Judge<'_> {
    fn judge_all(&self, number: usize, groups: &[&[(u32, u32)]]) -> Result<Vec<(Cluster, Vec<Member>)>> {
        let mut reader = self.spool.open()?;
        let judge = |(at, group): (usize, &&[(u32, u32)])| self.judge(number + at, group, &mut reader);
        groups.iter().enumerate().map(judge).collect()
    }

    fn judge(
        &self,
        number: usize,
        group: &[(u32, u32)],
        reader: &mut SpoolReader<'_>,
    ) -> Result<(Cluster, Vec<Member>)> {
        let cluster = u32::try_from(number).expect("there are fewer clusters than rows");
        let mut best: Option<(u32, Spooled)> = None;
        let mut name: Option<String> = None;
        for (_, row) in group {
            let document = reader.read(*row)?;
            if name.as_ref().is_none_or(|name| document.id < *name) {
                name = Some(document.id.clone());
            }
            if best.as_ref().is_none_or(|best| self.is_better((*row, &document), (best.0, &best.1))) {
                best = Some((*row, document));
            }
        }
        let (survivor, kept) = best.expect("a group has a first row");
        let members = group.iter().map(|(_, row)| {
            let standing = if *row == survivor {
                Standing::Survivor
            } else if self.hashes[*row as usize] == self.hashes[survivor as usize] {
                Standing::Equal
            } else {
                Standing::Similar(jaccard(&kept.shingles, &reader.read(*row)?.shingles))
            };
            Ok(Member { row: *row, cluster, standing })
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let name = name.expect("a group has a first row");
        Ok((Cluster { name, survivor: kept.id, members: group.len() as u64 }, members))
    }

    fn is_better(&self, one: (u32, &Spooled), other: (u32, &Spooled)) -> bool {
        let quality = |row: u32| self.qualities[row as usize];
        match quality(one.0).total_cmp(&quality(other.0)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => one.1.id < other.1.id,
        }
    }
}
