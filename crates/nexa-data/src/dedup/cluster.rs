//! Which rows are the same: candidates from shared bands, verified, joined to clusters.
//!
//! The clusters do not depend on the order of the rows: a cluster is what verified pairs connect, and which pairs are
//! looked at depends on what the rows say alone.

use std::path::Path;

use nexa_core::event::Event;
use nexa_core::stage::Context;
use rayon::prelude::*;

use super::Config;
use super::minhash::jaccard;
use super::sorter::Sorter;
use super::spool::{Spool, Spooled};
use crate::Result;
use crate::rows::Union;

/// Up to so many rows in one bucket, each is compared with each.
const ALL_PAIRS: usize = 128;
/// In larger ones, each is compared with so many that follow in the order of their contents' hashes.
const NEIGHBOURS: usize = 32;
/// Pairs that are verified between two looks at what is connected by then.
const BATCH_PAIRS: usize = 16 * 1024;
/// Pairs that one thread verifies at a time.
const CHUNK_PAIRS: usize = 512;

/// The sets of equal and of similar rows, and how they were found.
pub(super) struct Clusters {
    pub(super) union: Union,
    /// A part of the hash of each row's content.
    pub(super) hashes: Vec<u64>,
    pub(super) counts: Counts,
}

/// What was looked at on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counts {
    /// Pairs that share a band.
    candidates: u64,
    /// Those of them that were compared; the others were connected by then.
    compared: u64,
    /// Those of them that were similar enough.
    similar: u64,
    /// Sets of rows with a common band that were too large to compare each with each.
    pub(super) bounded_buckets: u64,
}

/// The search under way.
pub(super) struct Search<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a Context<'a>,
    /// Takes what memory does not.
    pub(super) folder: &'a Path,
    pub(super) spool: &'a Spool,
}

impl Search<'_> {
    /// Joins equal rows, then similar ones.
    ///
    /// # Errors
    /// Fails with the path when files cannot be written or read back, and when the user wants to stop.
    pub(super) fn run(&self, rows: u32, contents: Sorter<3>, bands: Sorter<2>) -> Result<Clusters> {
        let hashes = vec![0; rows as usize];
        let mut clusters = Clusters { union: Union::new(rows), hashes, counts: Counts::default() };
        clusters.join_equal(contents)?;
        if !self.config.near {
            return Ok(clusters);
        }
        let mut pairs = Sorter::new(self.folder, "pairs", self.config.memory_bytes() / 4);
        clusters.collect_pairs(bands, &mut pairs)?;
        let mut batch = Vec::with_capacity(BATCH_PAIRS);
        let mut last = None;
        for pair in pairs.sorted()? {
            let pair = pair?;
            // The same pair comes once for each band that it shares.
            if last.replace(pair) == Some(pair) {
                continue;
            }
            batch.push(pair.map(row_number));
            if batch.len() == BATCH_PAIRS {
                self.join_similar(&mut clusters, &mut batch)?;
            }
        }
        self.join_similar(&mut clusters, &mut batch)?;
        Ok(clusters)
    }

    /// Verifies the pairs of a batch that are not connected yet, on all threads, and joins the similar ones.
    fn join_similar(&self, clusters: &mut Clusters, batch: &mut Vec<[u32; 2]>) -> Result<()> {
        self.context.check_cancel()?;
        clusters.counts.candidates += batch.len() as u64;
        let union = &mut clusters.union;
        batch.retain(|[one, other]| union.first(*one) != union.first(*other));
        clusters.counts.compared += batch.len() as u64;
        let similar =
            batch.par_chunks(CHUNK_PAIRS).map(|pairs| self.verify(pairs)).collect::<Result<Vec<_>>>()?;
        for [one, other] in similar.into_iter().flatten() {
            clusters.counts.similar += 1;
            union.join(one, other);
        }
        batch.clear();
        let done = clusters.counts.candidates;
        self.context.emit(Event::progress(done, None, "pairs", "comparing"));
        Ok(())
    }

    /// The pairs whose shingle sets are similar enough.
    fn verify(&self, pairs: &[[u32; 2]]) -> Result<Vec<[u32; 2]>> {
        let mut reader = self.spool.open()?;
        let mut similar = Vec::new();
        // Pairs are sorted, so the first of a pair is mostly that of the pair before.
        let mut first: Option<(u32, Spooled)> = None;
        for [one, other] in pairs {
            let kept = match first.take() {
                Some((row, document)) if row == *one => document,
                _ => reader.read(*one)?,
            };
            let compared = reader.read(*other)?;
            if jaccard(&kept.shingles, &compared.shingles) >= self.config.min_similarity {
                similar.push([*one, *other]);
            }
            first = Some((*one, kept));
        }
        Ok(similar)
    }
}

impl Clusters {
    /// Joins rows of equal contents, and notes a part of each content's hash.
    fn join_equal(&mut self, contents: Sorter<3>) -> Result<()> {
        let mut last: Option<[u64; 3]> = None;
        for record in contents.sorted()? {
            let [high, low, row] = record?;
            self.hashes[row_number(row) as usize] = high;
            match last {
                Some([last_high, last_low, first]) if (last_high, last_low) == (high, low) => {
                    self.union.join(row_number(first), row_number(row));
                }
                _ => last = Some([high, low, row]),
            }
        }
        Ok(())
    }

    /// Makes pairs of the rows that share a band; of equal rows, the first stands for all.
    fn collect_pairs(&mut self, bands: Sorter<2>, pairs: &mut Sorter<2>) -> Result<()> {
        let mut key = None;
        let mut bucket: Vec<u32> = Vec::new();
        for record in bands.sorted()? {
            let [band, row] = record?;
            let row = row_number(row);
            if key.replace(band) != Some(band) {
                self.pair_up(&mut bucket, pairs)?;
            }
            if self.union.first(row) == row {
                bucket.push(row);
            }
        }
        self.pair_up(&mut bucket, pairs)
    }

    fn pair_up(&mut self, bucket: &mut Vec<u32>, pairs: &mut Sorter<2>) -> Result<()> {
        let mut reach = bucket.len();
        if bucket.len() > ALL_PAIRS {
            self.counts.bounded_buckets += 1;
            bucket.sort_unstable_by_key(|row| self.hashes[*row as usize]);
            reach = NEIGHBOURS;
        }
        for (at, one) in bucket.iter().enumerate() {
            for other in bucket[at + 1..].iter().take(reach) {
                pairs.push([u64::from(*one.min(other)), u64::from(*one.max(other))])?;
            }
        }
        bucket.clear();
        Ok(())
    }
}

fn row_number(word: u64) -> u32 {
    u32::try_from(word).expect("a table of more rows is refused")
}
