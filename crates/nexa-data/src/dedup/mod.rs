//! `data.dedup`: of rows that say the same, or nearly, the best one stays.
//!
//! ```text
//! table ──(fingerprint)──▶ contents, bands, documents ──(cluster)──▶ clusters ──(survivor)──▶ what stays, what goes
//! ```
//!
//! Rows whose texts are equal but for case and white space are duplicates. So are rows whose shingle sets are similar:
//! MinHash and its bands propose pairs, the exact similarity of the sets decides, and what is connected is a cluster.
//! Memory holds some thirty bytes a row and the buffers that `memory_limit_mib` bounds; what is beyond goes to disk. The
//! result depends neither on the number of threads nor, but for the order of its own rows, on that of the rows.

mod cluster;
mod config;
mod fingerprint;
mod minhash;
mod report;
mod sorter;
mod spool;
mod survivor;
#[cfg(test)]
mod tests;

use nexa_core::artifact::Kind;
use nexa_core::columns::{ID, REJECTION_GATE, REJECTION_REASON};
use nexa_core::event::Event;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use nexa_core::{Error as CoreError, files};
use serde_json::{Value, json};

pub use config::{Config, Prefer};

use crate::Result;
use crate::rows::{Partition, Pass, Source, id_of, write_table};
use cluster::Search;
use fingerprint::{Fingerprinted, Fingerprints};
use report::Report;
use survivor::{Cluster, Member, Standing};

/// The column that names the cluster of a row: the id that comes first in it.
pub const CLUSTER: &str = "cluster";
/// The column that names the row that stayed in place of a removed one.
pub const SURVIVOR_ID: &str = "survivor_id";
/// The column of the similarity to that row.
pub const SIMILARITY: &str = "similarity";

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "data.dedup";

/// The files of the artifact beside the two tables of a [`Partition`].
const CLUSTERS_FILE: &str = "clusters.parquet";
const REPORT_FILE: &str = "report.json";

/// The stage: a table in, its rows without duplicates out.
#[derive(Debug, Clone)]
pub struct Dedup {
    config: Config,
}

/// The rows that are duplicates, and of what.
struct Duplicates {
    clusters: Vec<Cluster>,
    /// In the order of the rows.
    members: Vec<Member>,
}

impl Dedup {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
        Ok(Self { config })
    }

    fn dedup(&self, context: &Context<'_>) -> Result<()> {
        let source = Source::of(context, NAME)?;
        // What an attempt spilled is of no use to the next one.
        let folder = context.workspace.join("spill");
        files::remove(&folder)?;
        files::create_folder(&folder)?;
        let made = self.dedup_in(context, &source, &folder);
        files::remove(&folder)?;
        made
    }

    fn dedup_in(&self, context: &Context<'_>, source: &Source, folder: &std::path::Path) -> Result<()> {
        let mut fingerprints = Fingerprints::begin(&self.config, &source.path, folder)?;
        let rows =
            Pass { context, source, note: "reading" }.run(|first, batch| fingerprints.take(first, &batch))?;
        if rows == 0 {
            return Err(CoreError::malformed(&source.path, "the table has no rows").into());
        }
        let found = fingerprints.finish()?;
        let Fingerprinted { schema, columns, spool, contents, bands, qualities, .. } = found;
        let search = Search { config: &self.config, context, folder, spool: &spool };
        let count = u32::try_from(rows).expect("a table of more rows is refused");
        let clusters = search.run(count, contents, bands)?;
        let counts = clusters.counts;
        let (clusters, members) = survivor::choose(clusters, &qualities, &spool)?;
        let duplicates = Duplicates { clusters, members };
        duplicates.write_clusters(context, &spool)?;
        let partition = Partition::create(
            context,
            &schema,
            &self.kept_example(),
            &rejection(&EXAMPLE, &Cluster::default()),
        )?;
        let written = self.write(context, source, &duplicates, partition)?;
        let mut report = Report::of(&self.config, &duplicates.clusters, &duplicates.members);
        report.mask_numbers = self.config.masks_numbers(&columns);
        report.columns = columns;
        report.rows = rows;
        report.without_text = found.without_text;
        report.short = found.short;
        report.search = counts;
        if counts.bounded_buckets > 0 {
            context.emit(Event::warning(format!(
                "{} sets of rows that share a band are so large that only neighbours were compared",
                counts.bounded_buckets
            )));
        }
        files::write_json(&context.output.join(REPORT_FILE), &report)?;
        report.state(context, written)
    }

    /// The second pass: every row to its table.
    fn write(
        &self,
        context: &Context<'_>,
        source: &Source,
        duplicates: &Duplicates,
        mut partition: Partition,
    ) -> Result<(u64, u64)> {
        let mut members = duplicates.members.iter().peekable();
        Pass { context, source, note: "writing" }.run(|first, batch| {
            for (number, mut row) in (first..).zip(batch) {
                let member = members.next_if(|member| u64::from(member.row) == number);
                let cluster = member.map(|member| &duplicates.clusters[member.cluster as usize]);
                match (member, cluster) {
                    (Some(member), Some(cluster))
                        if self.config.remove && member.standing != Standing::Survivor =>
                    {
                        partition.reject(row, rejection(member, cluster))?;
                    }
                    (_, cluster) => {
                        if !self.config.remove {
                            let name = match cluster {
                                Some(cluster) => cluster.name.clone(),
                                None => id_of(&row, number, &source.path)?,
                            };
                            row.insert(CLUSTER.to_owned(), json!(name));
                        }
                        partition.keep(row)?;
                    }
                }
            }
            Ok(())
        })?;
        partition.finish()
    }

    fn kept_example(&self) -> Row {
        if self.config.remove { Row::new() } else { Row::from_iter([(CLUSTER.to_owned(), json!(""))]) }
    }
}

impl Duplicates {
    /// Writes which row is in which cluster.
    fn write_clusters(&self, context: &Context<'_>, spool: &spool::Spool) -> Result<()> {
        let mut reader = spool.open()?;
        let mut rows = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let id = reader.read(member.row)?.id;
            rows.push(membership(&id, member, &self.clusters[member.cluster as usize]));
        }
        let example = membership("", &EXAMPLE, &Cluster::default());
        write_table(&context.output.join(CLUSTERS_FILE), &example, rows)
    }
}

/// A member whose rows have every column.
const EXAMPLE: Member = Member { row: 0, cluster: 0, standing: Standing::Similar(0.5) };

/// The cluster of a row, and its similarity to the survivor.
fn membership(id: &str, member: &Member, cluster: &Cluster) -> Row {
    Row::from_iter([
        (ID.to_owned(), json!(id)),
        (CLUSTER.to_owned(), json!(cluster.name)),
        (SURVIVOR_ID.to_owned(), json!(cluster.survivor)),
        (SIMILARITY.to_owned(), json!(member.standing.similarity())),
    ])
}

/// What is added to a row that does not stay.
fn rejection(member: &Member, cluster: &Cluster) -> Row {
    let (gate, reason) = match member.standing {
        Standing::Similar(similarity) => (
            "dedup.near",
            format!("{:.1} % of the shingles are those of `{}`", 100.0 * similarity, cluster.survivor),
        ),
        Standing::Survivor | Standing::Equal => {
            ("dedup.exact", format!("it says the same as `{}`", cluster.survivor))
        }
    };
    Row::from_iter([
        (CLUSTER.to_owned(), json!(cluster.name)),
        (SURVIVOR_ID.to_owned(), json!(cluster.survivor)),
        (SIMILARITY.to_owned(), json!(member.standing.similarity())),
        (REJECTION_GATE.to_owned(), json!(gate)),
        (REJECTION_REASON.to_owned(), json!(reason)),
    ])
}

impl Stage for Dedup {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.dedup(context)?)
    }
}
