//! The index of a lab: a SQLite database that answers quickly what manifests and run records say slowly.
//!
//! It holds nothing of its own. Whatever it says can be rebuilt from the files with [`Index::rebuild`], and a stage
//! never reads it to decide what to do.

use std::path::PathBuf;

use rusqlite::{Connection, params};

use crate::artifact::{Artifact, ArtifactId, Store};
use crate::lab::Lab;
use crate::run::{self, RunRecord};
use crate::{Error, Result, files};

/// The schema version of the database; another one is rebuilt.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE artifacts (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
        content_hash TEXT NOT NULL, key TEXT NOT NULL, run TEXT NOT NULL, rows INTEGER, tokens INTEGER,
        bytes INTEGER NOT NULL, usd REAL NOT NULL, created_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX artifacts_by_project ON artifacts (project, kind, name, version);
    CREATE TABLE parents (
        child TEXT NOT NULL, parent TEXT NOT NULL, role TEXT NOT NULL, content_hash TEXT NOT NULL,
        PRIMARY KEY (child, parent, role)
    ) STRICT;
    CREATE INDEX parents_by_parent ON parents (parent);
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, stage TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,
        output TEXT, started_at TEXT NOT NULL, ended_at TEXT, machine_seconds REAL NOT NULL, usd REAL NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_project ON runs (project, started_at);
";

/// How many rows the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Artifacts.
    pub artifacts: u64,
    /// Runs.
    pub runs: u64,
}

/// The opened index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    connection: Connection,
}

impl Index {
    /// Opens the index of a lab; one that is missing or of another schema is built from the files.
    ///
    /// # Errors
    /// Fails when the database cannot be opened, or, while building, on a malformed file.
    pub fn open(lab: &Lab) -> Result<Self> {
        let path = lab.state_folder().join("lab.db");
        files::create_folder(&lab.state_folder())?;
        let (mut index, version) = Self::connect(path)?;
        if version != SCHEMA_VERSION {
            index.fill(lab)?;
        }
        Ok(index)
    }

    /// Throws the database away and builds it from manifests and run records.
    ///
    /// # Errors
    /// Fails when the database cannot be written, or on a malformed file.
    pub fn rebuild(lab: &Lab) -> Result<Self> {
        let path = lab.state_folder().join("lab.db");
        for suffix in ["", "-wal", "-shm"] {
            files::remove(&PathBuf::from(format!("{}{suffix}", path.display())))?;
        }
        Self::open(lab)
    }

    /// Adds an artifact, or replaces what is known of it.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn put_artifact(&mut self, artifact: &Artifact) -> Result<()> {
        let path = self.path.clone();
        let transaction = self.connection.transaction().map_err(|e| failed(&path, &e))?;
        insert_artifact(&transaction, artifact).map_err(|e| failed(&path, &e))?;
        transaction.commit().map_err(|e| failed(&path, &e))
    }

    /// Forgets artifacts that were removed.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn forget(&mut self, ids: &[ArtifactId]) -> Result<()> {
        let path = self.path.clone();
        let forget = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for id in ids.iter().map(ToString::to_string) {
                transaction.execute("DELETE FROM artifacts WHERE id = ?1", [&id])?;
                transaction.execute("DELETE FROM parents WHERE child = ?1", [&id])?;
            }
            transaction.commit()
        };
        forget(&mut self.connection).map_err(|e| failed(&path, &e))
    }

    /// Adds a run, or replaces what is known of it.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn put_run(&mut self, run: &RunRecord) -> Result<()> {
        insert_run(&self.connection, run).map_err(|e| failed(&self.path, &e))
    }

    /// Counts what the index holds.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn size(&self) -> Result<Size> {
        let count = |table: &str| {
            self.connection
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
                .map(|count| count.unsigned_abs())
                .map_err(|e| failed(&self.path, &e))
        };
        Ok(Size { artifacts: count("artifacts")?, runs: count("runs")? })
    }

    /// The ids of the artifacts that were made directly from one.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn children(&self, id: &str) -> Result<Vec<String>> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement =
                self.connection.prepare("SELECT child FROM parents WHERE parent = ?1 ORDER BY child")?;
            let rows = statement.query_map([id], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(|e| failed(&self.path, &e))
    }

    fn connect(path: PathBuf) -> Result<(Self, i64)> {
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(std::time::Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, version))
        };
        let (connection, version) = open().map_err(|e| failed(&path, &e))?;
        Ok((Self { path, connection }, version))
    }

    fn fill(&mut self, lab: &Lab) -> Result<()> {
        let artifacts = Store::new(lab).all()?;
        let runs = run::all(lab)?;
        let path = self.path.clone();
        let fill = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for table in ["artifacts", "parents", "runs"] {
                transaction.execute_batch(&format!("DROP TABLE IF EXISTS {table};"))?;
            }
            transaction.execute_batch(SCHEMA)?;
            for artifact in &artifacts {
                insert_artifact(&transaction, artifact)?;
            }
            for run in &runs {
                insert_run(&transaction, run)?;
            }
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()
        };
        fill(&mut self.connection).map_err(|e| failed(&path, &e))
    }
}

fn insert_artifact(connection: &Connection, artifact: &Artifact) -> rusqlite::Result<()> {
    let manifest = &artifact.manifest;
    let id = manifest.id.to_string();
    connection.execute(
        "INSERT OR REPLACE INTO artifacts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            id,
            manifest.id.project,
            manifest.kind.as_str(),
            manifest.id.name,
            manifest.id.version,
            manifest.content_hash.as_str(),
            manifest.producer.key.as_str(),
            manifest.producer.run.as_str(),
            manifest.counts.rows.map(u64::cast_signed),
            manifest.counts.tokens.map(u64::cast_signed),
            manifest.counts.bytes.cast_signed(),
            manifest.spend.usd,
            manifest.created_at.to_rfc3339(),
        ],
    )?;
    connection.execute("DELETE FROM parents WHERE child = ?1", [&id])?;
    for parent in &manifest.parents {
        connection.execute(
            "INSERT OR REPLACE INTO parents VALUES (?1, ?2, ?3, ?4)",
            params![id, parent.id, parent.role, parent.content_hash.as_str()],
        )?;
    }
    Ok(())
}

fn insert_run(connection: &Connection, run: &RunRecord) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            run.id.as_str(),
            run.project,
            run.stage,
            run.name,
            run.status.as_str(),
            run.output.as_ref().map(ToString::to_string),
            run.started_at.to_rfc3339(),
            run.ended_at.map(|at| at.to_rfc3339()),
            run.spend.machine_seconds,
            run.spend.usd,
        ],
    )?;
    Ok(())
}

fn failed(path: &std::path::Path, error: &rusqlite::Error) -> Error {
    Error::Index { path: path.to_owned(), message: error.to_string() }
}
