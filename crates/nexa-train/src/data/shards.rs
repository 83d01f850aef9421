//! Tokenised samples in as many files as it takes, seen as one.
//!
//! A file is closed once it holds enough tokens, so that none grows without bound; the first one is named for the
//! samples, the others `….2.tokens` and so on. Which shard holds a sample is found by bisection, so any sample is as far
//! away as any other.

use std::io;
use std::path::{Path, PathBuf};

use super::encode::Encoded;
use super::file::{Footer, Mapped, SampleRef, Writer};
use super::report::Report;
use crate::Error;

/// Tokens from which on a file is closed: a gibibyte of them.
pub(super) const SHARD_TOKENS: u64 = 1 << 28;

/// Writes samples into one file after the other.
pub(super) struct ShardWriter {
    path: PathBuf,
    shard_tokens: u64,
    /// The first shard, which is put in its place when all others are.
    first: Option<Writer>,
    open: Writer,
    /// Shards that are full.
    full: usize,
    sequences_per_sample: usize,
}

impl ShardWriter {
    /// Begins the first shard of samples that are to lie at a path.
    pub(super) fn new(path: &Path, shard_tokens: u64) -> io::Result<Self> {
        let open = Writer::new(folder(path))?;
        let path = path.to_owned();
        Ok(Self { path, shard_tokens, first: None, open, full: 0, sequences_per_sample: 1 })
    }

    /// Appends the sequences of a sample; a sample is never divided.
    pub(super) fn sample(&mut self, id: &str, sequences: &[Encoded]) -> io::Result<()> {
        if self.open.tokens() >= self.shard_tokens {
            let next = Writer::new(folder(&self.path))?;
            let full = std::mem::replace(&mut self.open, next);
            self.close(full)?;
        }
        self.sequences_per_sample = sequences.len();
        self.open.sample(id, sequences)
    }

    /// Puts all shards in their places, the first one last.
    pub(super) fn finish(mut self, taught: bool, report: Report) -> io::Result<()> {
        let shards = self.full + 1;
        let footer = Footer { sequences_per_sample: self.sequences_per_sample, taught, shards, report };
        let Some(first) = self.first.take() else { return self.open.finish(&self.path, &footer) };
        let last = Footer { report: Report::default(), ..footer.clone() };
        self.open.finish(&shard_path(&self.path, self.full), &last)?;
        first.finish(&self.path, &footer)
    }

    fn close(&mut self, full: Writer) -> io::Result<()> {
        if self.full == 0 {
            self.first = Some(full);
        } else {
            let sequences_per_sample = self.sequences_per_sample;
            let footer = Footer { sequences_per_sample, taught: false, shards: 1, report: Report::default() };
            full.finish(&shard_path(&self.path, self.full), &footer)?;
        }
        self.full += 1;
        Ok(())
    }
}

/// Mapped files, one behind the other.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<Mapped>,
    /// The first sequence of every shard, and behind the last one how many there are.
    starts: Vec<usize>,
}

impl Shards {
    /// Maps all files of some samples. `None` where one is missing, damaged or of another version.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let Some(first) = Mapped::open(path)? else { return Ok(None) };
        let count = first.footer.shards;
        let mut shards = vec![first];
        for number in 1..count {
            let path = shard_path(path, number);
            if !path.exists() {
                return Ok(None);
            }
            let Some(shard) = Mapped::open(&path)? else { return Ok(None) };
            shards.push(shard);
        }
        let mut starts = vec![0];
        for shard in &shards {
            starts.push(starts[starts.len() - 1] + shard.sequences());
        }
        Ok(Some(Self { shards, starts }))
    }

    /// What stands beside the numbers.
    pub(super) fn footer(&self) -> &Footer {
        &self.shards[0].footer
    }

    /// Counts the sequences.
    pub(super) fn sequences(&self) -> usize {
        self.starts[self.shards.len()]
    }

    /// The length of every sequence.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.shards.iter().flat_map(Mapped::lengths)
    }

    /// A sequence, without copying it.
    ///
    /// # Panics
    /// Panics when there are fewer.
    pub(super) fn sequence(&self, index: usize) -> SampleRef<'_> {
        let shard = self.shard_of(index);
        self.shards[shard].sequence(index - self.starts[shard])
    }

    /// The id of a sample.
    ///
    /// # Panics
    /// Panics when there are fewer.
    pub(super) fn id(&self, sample: usize) -> &str {
        let per_sample = self.footer().sequences_per_sample;
        let shard = self.shard_of(sample * per_sample);
        self.shards[shard].id(sample - self.starts[shard] / per_sample)
    }

    fn shard_of(&self, sequence: usize) -> usize {
        self.starts.partition_point(|&start| start <= sequence) - 1
    }
}

/// Where a shard lies, counted from 0.
fn shard_path(path: &Path, number: usize) -> PathBuf {
    path.with_extension(format!("{}.tokens", number + 1))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}
