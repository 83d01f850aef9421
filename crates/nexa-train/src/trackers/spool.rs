//! The logs of a run as one sequence of rows, in the order of their steps.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nexa_core::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use super::cursor::Cursor;

/// The logs. Of two lines of a step, that of the earlier log comes first: the times stand before what they time.
const LOGS: [&str; 2] = ["timing.jsonl", "metrics.jsonl"];
/// Bytes of a log that are read at once.
const CHUNK_BYTES: u64 = 1 << 18;

/// How far a log has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Bytes read, whole lines.
    bytes: u64,
    /// Bytes of the last of these lines, with its end.
    line_bytes: u64,
    /// CRC-32C of the last line, which tells whether the log still is what was read.
    line_crc: u32,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Steps done.
    pub(super) step: u64,
    /// Seconds of training until then: of this line, or of the last timed one before it.
    pub(super) seconds: f64,
    /// The other numbers.
    pub(super) values: Vec<(String, f64)>,
}

/// Lines, and where the next ones begin.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    pub(super) read: BTreeMap<String, Position>,
    pub(super) seconds: f64,
}

/// The logs in a run's folder.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
}

impl Spool {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Bytes that each log holds now; a log that cannot be read holds none.
    pub(super) fn lengths(&self) -> BTreeMap<String, u64> {
        LOGS.iter()
            .map(|&log| {
                let length = std::fs::metadata(self.folder.join(log)).map_or(0, |metadata| metadata.len());
                (log.to_owned(), length)
            })
            .collect()
    }

    /// Whether a log no longer begins with what was read of it.
    pub(super) fn was_rewritten(&self, cursor: &Cursor) -> Result<bool, Failure> {
        for (log, position) in &cursor.read {
            let path = self.folder.join(log);
            let last = read_at(&path, position.bytes - position.line_bytes, position.line_bytes)?;
            if last.len() as u64 != position.line_bytes || crc32c::crc32c(&last) != position.line_crc {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first step that may differ from what was read, when the logs were cut back to `lengths`. `None` where they
    /// were not.
    pub(super) fn cut_at(
        &self,
        cursor: &Cursor,
        lengths: &BTreeMap<String, u64>,
    ) -> Result<Option<u64>, Failure> {
        let mut first = None;
        for (log, position) in &cursor.read {
            let length = lengths.get(log).copied().unwrap_or(0);
            if length >= position.bytes {
                continue;
            }
            // A step has several lines, so the last one that is left may have lost some.
            let kept = read_at(&self.folder.join(log), 0, length)?;
            let step = lines(&kept).filter_map(parse).map(|(step, ..)| step).last().unwrap_or(0);
            first = Some(first.map_or(step, |first: u64| first.min(step)));
        }
        Ok(first)
    }

    /// The lines after the cursor, with `points` values at most, or one line more than that.
    pub(super) fn next(&self, cursor: &Cursor, points: usize) -> Result<Batch, Failure> {
        let mut sources = LOGS.map(|log| Source::empty(cursor.read.get(log).copied().unwrap_or_default()));
        // The loop writes a row before its time: read in the other order, hardly a row is seen without its time.
        for (source, log) in sources.iter_mut().zip(LOGS).rev() {
            source.fill(&self.folder.join(log))?;
        }
        let mut batch = Batch { seconds: cursor.seconds, ..Batch::default() };
        let mut taken = 0;
        while taken < points
            && let Some(source) = Source::first(&mut sources)
            && let Some((position, line)) = source.ready.pop_front()
        {
            source.position = position;
            if let Some((step, seconds, values)) = line {
                batch.seconds = seconds.unwrap_or(batch.seconds);
                taken += values.len();
                batch.lines.push(Line { step, seconds: batch.seconds, values });
            }
        }
        batch.read = LOGS
            .iter()
            .zip(&sources)
            .filter(|(_, source)| source.position.bytes > 0)
            .map(|(&log, source)| (log.to_owned(), source.position))
            .collect();
        Ok(batch)
    }

    /// Counts the lines after the cursor.
    pub(super) fn waiting(&self, cursor: &Cursor) -> u64 {
        LOGS.iter()
            .map(|&log| {
                let start = cursor.read.get(log).map_or(0, |position| position.bytes);
                let rest = read_at(&self.folder.join(log), start, u64::MAX).unwrap_or_default();
                rest.iter().filter(|&&byte| byte == b'\n').count() as u64
            })
            .sum()
    }
}

/// A step, the seconds of training until it, and the numbers of a line.
type Parsed = (u64, Option<f64>, Vec<(String, f64)>);

/// A log that is being read.
struct Source {
    /// What has been taken.
    position: Position,
    /// Lines that were read, with what will have been taken after them; `None` for a line that is no row.
    ready: VecDeque<(Position, Option<Parsed>)>,
    /// Whether the log goes on after these.
    more: bool,
}

impl Source {
    fn empty(position: Position) -> Self {
        Self { position, ready: VecDeque::new(), more: false }
    }

    /// Reads the whole lines of the next chunk.
    fn fill(&mut self, path: &Path) -> Result<(), Failure> {
        let chunk = read_at(path, self.position.bytes, CHUNK_BYTES)?;
        self.more = chunk.len() as u64 == CHUNK_BYTES;
        let mut bytes = self.position.bytes;
        for line in lines(&chunk) {
            let line_bytes = line.len() as u64;
            bytes += line_bytes;
            let position = Position { bytes, line_bytes, line_crc: crc32c::crc32c(line) };
            self.ready.push_back((position, parse(line)));
        }
        if self.more && self.ready.is_empty() {
            return Err(Failure::Refused(format!(
                "{}: the line at byte {bytes} is longer than {CHUNK_BYTES} bytes",
                path.display()
            )));
        }
        Ok(())
    }

    /// The source whose next line comes first, or none as long as that is not known.
    fn first(sources: &mut [Self]) -> Option<&mut Self> {
        if sources.iter().any(|source| source.ready.is_empty() && source.more) {
            return None;
        }
        let step = |source: &Self| {
            let (_, line) = source.ready.front()?;
            Some(line.as_ref().map_or(0, |(step, ..)| *step))
        };
        sources.iter_mut().filter(|source| !source.ready.is_empty()).min_by_key(|source| step(source))
    }
}

/// The whole lines of a text, with their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

/// Reads a line; `None` where it has no step.
fn parse(line: &[u8]) -> Option<Parsed> {
    let members: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let step = members.get("step")?.as_u64()?;
    let seconds = members.get("seconds").and_then(Value::as_f64);
    let values = members
        .into_iter()
        .filter(|(key, _)| key != "step")
        .filter_map(|(key, value)| Some((key, value.as_f64()?)))
        .collect();
    Some((step, seconds, values))
}

/// Reads part of a file; an absent file is an empty one.
fn read_at(path: &Path, start: u64, limit: u64) -> Result<Vec<u8>, Failure> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|e| Error::io("read", path, e).into()),
    }
}
