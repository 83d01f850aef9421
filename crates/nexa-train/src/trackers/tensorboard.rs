//! TensorBoard event files, one for each attempt of a run.
//!
//! A file is a sequence of records (TFRecord), each an `Event` message; the scalars of a step are one event. A new
//! attempt opens a new file, which begins with the session event that makes TensorBoard forget the steps from the
//! resumed one on.
//!
//! # Source
//! `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto` for the field numbers,
//! `tensorflow/core/lib/io/record_writer.h` for the framing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nexa_core::run::Status;
use nexa_core::{Error, files};

use super::protobuf::Message;
use super::{Begun, Failure, Row, RunFacts, Tracker};

/// Fields of `Event`.
const WALL_TIME: u32 = 1;
const STEP: u32 = 2;
const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
/// `SessionLog.status` and its value `START`.
const STATUS: u32 = 1;
const START: u64 = 1;

/// Writes event files into a folder.
#[derive(Debug)]
pub(super) struct TensorBoard {
    folder: PathBuf,
    file: Option<EventFile>,
}

impl TensorBoard {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, file: None }
    }

    fn file(&mut self) -> Result<&mut EventFile, Failure> {
        self.file.as_mut().ok_or_else(|| Failure::Refused("no event file was opened".to_owned()))
    }
}

impl Tracker for TensorBoard {
    fn name(&self) -> &'static str {
        "tensorboard"
    }

    fn destination(&self) -> String {
        self.folder.display().to_string()
    }

    /// The name of the run is that of its first event file.
    fn begin(&mut self, _run: &RunFacts, known: Option<&str>) -> Result<Begun, Failure> {
        let file = EventFile::create(&self.folder)?;
        let remote = match known {
            Some(first) if self.folder.join(first).exists() => first.to_owned(),
            _ => file.name.clone(),
        };
        self.file = Some(file);
        Ok(Begun { remote, ..Begun::default() })
    }

    fn rewind(&mut self, step: u64) -> Result<Option<u64>, Failure> {
        let start = Message::new().integer(STATUS, START);
        let event = Message::new().double(WALL_TIME, now()).integer(STEP, step).message(SESSION_LOG, &start);
        self.file()?.append(&[event])?;
        Ok(Some(step))
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let events: Vec<Message> = rows.iter().map(scalars).collect();
        self.file()?.append(&events)
    }

    fn end(&mut self, _status: Status) -> Result<(), Failure> {
        Ok(())
    }
}

/// The event of a row.
fn scalars(row: &Row) -> Message {
    let summary = row.values.iter().fold(Message::new(), |summary, (tag, value)| {
        // `Value.tag` and `Value.simple_value`.
        summary.message(1, &Message::new().text(1, tag).float(2, *value as f32))
    });
    let event = Message::new().double(WALL_TIME, row.time_ms as f64 / 1e3).integer(STEP, row.step);
    event.message(SUMMARY, &summary)
}

/// A file that only grows, by whole records.
#[derive(Debug)]
struct EventFile {
    name: String,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl EventFile {
    /// Makes the next file of a folder. Readers go through files by name, so its time is later than that of any other.
    fn create(folder: &Path) -> Result<Self, Failure> {
        files::create_folder(folder)?;
        let times = files::walk(folder)?.into_iter().filter_map(|path| {
            let time = path.file_name()?.to_str()?.strip_prefix("events.out.tfevents.")?.split('.').next()?;
            time.parse::<u64>().ok()
        });
        let time = times.map(|time| time + 1).fold(now() as u64, u64::max);
        let name = format!("events.out.tfevents.{time:010}.nexa.{}", std::process::id());
        let path = folder.join(&name);
        let file = File::options()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(|e| Error::io("create", &path, e))?;
        files::sync_folder(folder)?;
        let mut file = Self { name, path, file, bytes: 0 };
        file.append(&[Message::new().double(WALL_TIME, time as f64).text(FILE_VERSION, "brain.Event:2")])?;
        Ok(file)
    }

    /// Appends events, durably and all or none.
    fn append(&mut self, events: &[Message]) -> Result<(), Failure> {
        let records: Vec<u8> = events.iter().flat_map(|event| record(event.as_bytes())).collect();
        let written = self.file.write_all(&records).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is cut off here would be appended again; a reader stops at a record that is not whole.
            let _ = self.file.set_len(self.bytes);
            return Err(Error::io("write", &self.path, error).into());
        }
        self.bytes += records.len() as u64;
        Ok(())
    }
}

/// Frames a record: its length, the checksum of that, the data, the checksum of that.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, turned and shifted, because a checksum of data that holds checksums is weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_framed_as_the_reader_wants_it() {
        // Accepted by the reader of TensorBoard 2.21.0.
        let expected = "1a00000000000000129bd82d0900004040fc54d94110012a0d0a0b0a046c6f7373150000003f97d67404";
        let row = Row { step: 1, time_ms: 1_700_000_001_000, values: vec![("loss".to_owned(), 0.5)] };
        let found: String =
            record(scalars(&row).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected);
    }
}
