//! W&B's offline run: a folder that `wandb sync` uploads and `wandb leet` shows, without an account or a service.
//!
//! The file is a log of records in blocks of 32 KiB (LevelDB's, with another checksum), each a `Record` message. It is
//! begun anew by every attempt, so that it always holds what the logs hold. The layout is stated in W&B's source, not
//! as a public format; `scripts/check_trackers.py` has W&B's own program read it.
//!
//! # Source
//! `wandb/proto/wandb_internal.proto` for the field numbers and `core/pkg/leveldb/record.go` for the framing, of
//! version 0.31.0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nexa_core::run::Status;
use nexa_core::{Error, files};
use serde_json::Value;

use super::protobuf::Message;
use super::{Begun, Failure, Row, RunFacts, Tracker, WandbConfig};

/// Fields of `Record`.
const NUMBER: u32 = 1;
const HISTORY: u32 = 2;
const SUMMARY: u32 = 3;
const RUN: u32 = 17;
const EXIT: u32 = 18;
const HEADER: u32 = 21;
/// `nested_key` and `value_json` of the items of a history and of a summary.
const NESTED_KEY: u32 = 2;
const VALUE_JSON: u32 = 16;
/// The oldest program that understands these records, as W&B 0.31.0 states it in its own files.
const MIN_CONSUMER: &str = "0.70.0";

/// Writes an offline run.
#[derive(Debug)]
pub(super) struct Wandb {
    /// The folder of the run, `wandb/offline-run-<time>-<id>`.
    folder: PathBuf,
    project: String,
    entity: Option<String>,
    facts: RunFacts,
    log: Option<RecordLog>,
    /// The row of the last step, to which more lines of that step may come: W&B wants one row a step.
    held: Option<Row>,
    /// The last value of each metric.
    summary: BTreeMap<String, f64>,
    /// Seconds of training until the last row.
    runtime: f64,
}

impl Wandb {
    pub(super) fn new(config: &WandbConfig, run_folder: &Path, facts: &RunFacts) -> Self {
        let base = config.dir.as_deref().unwrap_or(run_folder);
        let time = facts.started_at.format("%Y%m%d_%H%M%S");
        Self {
            folder: base.join("wandb").join(format!("offline-run-{time}-{}", facts.id)),
            project: config.project.clone().unwrap_or_else(|| facts.project.clone()),
            entity: config.entity.clone(),
            facts: facts.clone(),
            log: None,
            held: None,
            summary: BTreeMap::new(),
            runtime: 0.0,
        }
    }

    /// Begins the file anew.
    fn restart(&mut self) -> Result<(), Failure> {
        files::create_folder(&self.folder.join("files"))?;
        let mut log = RecordLog::create(&self.folder.join(format!("run-{}.wandb", self.facts.id)))?;
        let version =
            Message::new().text(1, &format!("nexa {}", env!("CARGO_PKG_VERSION"))).text(2, MIN_CONSUMER);
        log.push(HEADER, &Message::new().message(1, &version));
        log.push(RUN, &self.run());
        log.flush()?;
        self.log = Some(log);
        self.held = None;
        self.summary.clear();
        self.runtime = 0.0;
        Ok(())
    }

    /// The `RunRecord`.
    fn run(&self) -> Message {
        let config = self.facts.params.iter().fold(Message::new(), |config, (key, value)| {
            // `ConfigRecord.update`, an item with `key` and `value_json`. Numbers stay numbers.
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
            config.message(1, &Message::new().text(1, key).text(VALUE_JSON, &value.to_string()))
        });
        let started_at = Message::new()
            .integer(1, self.facts.started_at.timestamp().unsigned_abs())
            .integer(2, u64::from(self.facts.started_at.timestamp_subsec_nanos()));
        let run = Message::new().text(1, &self.facts.id);
        let run = self.entity.iter().fold(run, |run, entity| run.text(2, entity));
        let notes: String = self.facts.tags.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        run.text(3, &self.project)
            .message(4, &config)
            .text(8, &self.facts.name)
            .text(9, &notes)
            .message(17, &started_at)
    }

    /// Adds the row of a step that is complete.
    fn push_held(&mut self) -> Result<(), Failure> {
        let Some(row) = self.held.take() else { return Ok(()) };
        self.runtime = (row.time_ms - self.facts.started_at.timestamp_millis()) as f64 / 1e3;
        let values = row.values.iter().map(|(key, value)| (key.as_str(), *value));
        let facts = [("_timestamp", row.time_ms as f64 / 1e3), ("_runtime", self.runtime)];
        let items = items(values.chain(facts)).message(1, &item("_step", &row.step.to_string()));
        // `HistoryRecord.step`, a message with the number.
        let history = items.message(2, &Message::new().integer(1, row.step));
        self.log()?.push(HISTORY, &history);
        self.summary.extend(row.values);
        Ok(())
    }

    fn log(&mut self) -> Result<&mut RecordLog, Failure> {
        self.log.as_mut().ok_or_else(|| Failure::Refused("no file was opened".to_owned()))
    }
}

impl Tracker for Wandb {
    fn name(&self) -> &'static str {
        "wandb"
    }

    fn destination(&self) -> String {
        self.folder.display().to_string()
    }

    fn begin(&mut self, _run: &RunFacts, _known: Option<&str>) -> Result<Begun, Failure> {
        self.restart()?;
        Ok(Begun { remote: self.facts.id.clone(), ..Begun::default() })
    }

    fn rewind(&mut self, _step: u64) -> Result<Option<u64>, Failure> {
        self.restart()?;
        Ok(Some(0))
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Failure> {
        for row in rows {
            match &mut self.held {
                Some(held) if held.step == row.step => held.values.extend(row.values.iter().cloned()),
                _ => {
                    self.push_held()?;
                    self.held = Some(row.clone());
                }
            }
        }
        self.log()?.flush()
    }

    /// Ends the file; the folder can be uploaded without this too.
    fn end(&mut self, status: Status) -> Result<(), Failure> {
        self.push_held()?;
        let summary = items(self.summary.iter().map(|(key, value)| (key.as_str(), *value)));
        let code = match status {
            Status::Running | Status::Finished => 0,
            Status::Failed => 1,
            Status::Interrupted => 130,
        };
        let exit = Message::new().integer(1, code).integer(2, self.runtime as u64);
        let log = self.log()?;
        log.push(SUMMARY, &summary);
        log.push(EXIT, &exit);
        log.flush()
    }
}

/// The items of a history or of a summary, each in field 1.
fn items<'a>(values: impl Iterator<Item = (&'a str, f64)>) -> Message {
    values.fold(Message::new(), |items, (key, value)| {
        items.message(1, &item(key, &Value::from(value).to_string()))
    })
}

fn item(key: &str, json: &str) -> Message {
    Message::new().text(NESTED_KEY, key).text(VALUE_JSON, json)
}

/// The file: a header, then blocks of chunks. A record is one chunk, or several where it crosses the end of a block.
#[derive(Debug)]
struct RecordLog {
    path: PathBuf,
    file: File,
    /// Bytes of the file and of what waits to be written.
    bytes: usize,
    waiting: Vec<u8>,
    records: u64,
}

impl RecordLog {
    const MAGIC: &[u8] = b":W&B\xe1\xbe\x00";
    const BLOCK_BYTES: usize = 32 * 1024;
    /// Checksum, length and type of a chunk.
    const CHUNK_HEADER_BYTES: usize = 7;

    /// Makes a file, in the place of an earlier one.
    fn create(path: &Path) -> Result<Self, Failure> {
        files::remove(path)?;
        let file = File::options().create_new(true).append(true).open(path);
        let file = file.map_err(|e| Error::io("create", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes: Self::MAGIC.len(),
            waiting: Self::MAGIC.to_vec(),
            records: 0,
        })
    }

    /// Adds a record with one field besides its number.
    fn push(&mut self, field: u32, content: &Message) {
        self.records += 1;
        let record = Message::new().integer(NUMBER, self.records).message(field, content);
        let mut rest = record.as_bytes();
        let mut is_first = true;
        loop {
            let mut room = Self::BLOCK_BYTES - self.bytes % Self::BLOCK_BYTES;
            if room < Self::CHUNK_HEADER_BYTES {
                self.put(&[0; Self::CHUNK_HEADER_BYTES][..room]);
                room = Self::BLOCK_BYTES;
            }
            let (chunk, left) = rest.split_at(rest.len().min(room - Self::CHUNK_HEADER_BYTES));
            let kind = match (is_first, left.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&[kind]);
            hasher.update(chunk);
            self.put(&hasher.finalize().to_le_bytes());
            // A chunk lies in a block, whose length fits.
            self.put(&(chunk.len() as u16).to_le_bytes());
            self.put(&[kind]);
            self.put(chunk);
            (rest, is_first) = (left, false);
            if rest.is_empty() {
                return;
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        self.bytes += bytes.len();
    }

    /// Writes what waits, durably. What fails here cannot be mended in place: the next attempt begins the file anew.
    fn flush(&mut self) -> Result<(), Failure> {
        let written = self.file.write_all(&self.waiting).and_then(|()| self.file.sync_data());
        self.waiting.clear();
        written.map_err(|e| Failure::Refused(Error::io("write", &self.path, e).to_string()))
    }
}
