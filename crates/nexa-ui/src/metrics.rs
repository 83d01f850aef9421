//! The metrics of a run: logs of one JSON object a line, read whole for charts or by cursor while they grow.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::Result;
use crate::logs::{Cursor, Logs};

/// Most points of a curve that are sent to a browser.
pub(crate) const MAX_POINTS: usize = 1500;

/// Columns that say where a row stands rather than what was measured there.
const POSITIONS: [&str; 5] = ["step", "epoch", "tokens", "trained_tokens", "seconds"];

/// A row: where it stands and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MetricRow {
    /// The step; where a row has none, how many rows came before it.
    pub(crate) x: f64,
    /// Every number but positions, in the order of the row.
    pub(crate) values: Map<String, Value>,
}

impl MetricRow {
    /// Takes a row that stands behind `index` others.
    pub(crate) fn new(row: Map<String, Value>, index: u64) -> Self {
        let x = row.get("step").and_then(Value::as_f64).unwrap_or(index as f64);
        let is_metric = |key: &str, value: &Value| value.is_number() && !POSITIONS.contains(&key);
        Self { x, values: row.into_iter().filter(|(key, value)| is_metric(key, value)).collect() }
    }
}

/// What a read of a growing file brought.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News<T> {
    /// The file is shorter than what was read of it: all earlier rows are void.
    pub(crate) restarted: bool,
    /// New finished lines; for a malformed one, what is wrong with it.
    pub(crate) lines: Vec<Result<T, String>>,
}

/// A place in a log that grows by whole lines.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    offset: u64,
    /// Finished lines before the place.
    pub(crate) cursor: u64,
}

impl Tail {
    /// The place after the first `cursor` lines of a file, which may be missing or shorter.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read.
    pub(crate) fn after(path: PathBuf, cursor: u64) -> Result<Self> {
        let mut tail = Self { path, offset: 0, cursor: 0 };
        if cursor > 0
            && let Some(mut reader) = tail.open()?
        {
            let mut line = Vec::new();
            while tail.cursor < cursor {
                line.clear();
                reader
                    .read_until(b'\n', &mut line)
                    .map_err(|e| nexa_core::Error::io("read", &tail.path, e))?;
                if line.last() != Some(&b'\n') {
                    break;
                }
                tail.offset += line.len() as u64;
                tail.cursor += 1;
            }
        }
        // A cursor beyond the end belongs to a file that is gone; an offset beyond it makes the next read say so.
        if tail.cursor < cursor {
            tail.offset = u64::MAX;
        }
        Ok(tail)
    }

    /// Reads the lines that were finished since the last time.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read.
    pub(crate) fn read<T>(&mut self, parse: impl Fn(Map<String, Value>, u64) -> T) -> Result<News<T>> {
        let failed = |e| nexa_core::Error::io("read", &self.path, e);
        let mut news = News { restarted: false, lines: Vec::new() };
        let mut reader = self.open()?;
        let length = match &reader {
            Some(reader) => reader.get_ref().metadata().map_err(failed)?.len(),
            None => 0,
        };
        if length < self.offset {
            news.restarted = true;
            (self.offset, self.cursor) = (0, 0);
        }
        let Some(reader) = reader.as_mut() else { return Ok(news) };
        reader.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        reader.take(length - self.offset).read_to_end(&mut bytes).map_err(failed)?;
        let finished = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        for line in bytes[..finished].split_inclusive(|&byte| byte == b'\n') {
            let row = serde_json::from_slice(line)
                .map(|row| parse(row, self.cursor))
                .map_err(|e| format!("{}: line {}: {e}", self.path.display(), self.cursor + 1));
            news.lines.push(row);
            self.cursor += 1;
        }
        self.offset += finished as u64;
        Ok(news)
    }

    /// Goes back to the beginning.
    pub(crate) fn rewind(&mut self) {
        (self.offset, self.cursor) = (0, 0);
    }

    fn open(&self) -> Result<Option<BufReader<std::fs::File>>> {
        match std::fs::File::open(&self.path) {
            Ok(file) => Ok(Some(BufReader::new(file))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(nexa_core::Error::io("read", &self.path, e).into()),
        }
    }
}

/// The curves of a run.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Curves {
    /// How many lines were read: where following the logs goes on.
    pub(crate) cursor: Cursor,
    /// One curve for each metric, in the order in which they first appear.
    pub(crate) curves: Vec<Curve>,
    /// Lines that could not be read.
    pub(crate) problems: Vec<String>,
}

/// The curve of one metric.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Curve {
    pub(crate) key: String,
    /// Each point: step and value.
    pub(crate) points: Vec<[f64; 2]>,
}

impl Curves {
    /// Reads every curve of a run's folder in full.
    ///
    /// # Errors
    /// Fails with the path when a log cannot be read. A missing log has no curves.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut logs = Logs::after(folder, Cursor::default())?;
        let mut curves = Self::default();
        for line in logs.read()?.lines {
            match line {
                Ok(row) => curves.add(row),
                Err(problem) => curves.problems.push(problem),
            }
        }
        curves.cursor = logs.cursor();
        Ok(curves)
    }

    /// The same curves with at most [`MAX_POINTS`] points each.
    pub(crate) fn downsampled(mut self) -> Self {
        for curve in &mut self.curves {
            curve.points = downsample(&curve.points, MAX_POINTS);
        }
        self
    }

    fn add(&mut self, row: MetricRow) {
        for (key, value) in row.values {
            let Some(value) = value.as_f64() else { continue };
            match self.curves.iter_mut().find(|curve| curve.key == key) {
                Some(curve) => curve.points.push([row.x, value]),
                None => self.curves.push(Curve { key, points: vec![[row.x, value]] }),
            }
        }
    }
}

/// Thins points to at most `limit` (4 or more) such that no spike is lost: the first, the last, and of each of equally
/// many points between them the lowest and the highest.
fn downsample(points: &[[f64; 2]], limit: usize) -> Vec<[f64; 2]> {
    let [first, inner @ .., last] = points else { return points.to_vec() };
    if points.len() <= limit {
        return points.to_vec();
    }
    let buckets = (limit - 2) / 2;
    let mut kept = vec![*first];
    for bucket in 0..buckets {
        let range = bucket * inner.len() / buckets..(bucket + 1) * inner.len() / buckets;
        let by_value = |&a: &usize, &b: &usize| inner[a][1].total_cmp(&inner[b][1]);
        let (Some(low), Some(high)) = (range.clone().min_by(by_value), range.max_by(by_value)) else {
            continue;
        };
        kept.push(inner[low.min(high)]);
        if low != high {
            kept.push(inner[low.max(high)]);
        }
    }
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downsampling_keeps_ends_and_extremes_in_order() {
        let check = |count: usize, limit: usize| {
            let mut points: Vec<[f64; 2]> = (0..count).map(|i| [i as f64, (i as f64 * 0.7).sin()]).collect();
            points[count / 3][1] = 50.0;
            points[count / 2][1] = -50.0;
            let kept = downsample(&points, limit);
            assert!(kept.len() <= limit, "{} points of {count}", kept.len());
            assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
            assert!(
                kept.contains(&points[count / 3]) && kept.contains(&points[count / 2]),
                "an extreme is lost"
            );
            assert!(kept.windows(2).all(|pair| pair[0][0] < pair[1][0]), "out of order");
            if count <= limit {
                assert_eq!(kept, points);
            }
        };
        check(10, 1500);
        check(1500, 1500);
        check(1501, 1500);
        check(100_000, 1500);
        check(37, 9);
        assert_eq!(downsample(&[], 4), Vec::<[f64; 2]>::new());
    }

    #[test]
    fn curves_skip_what_is_not_measured_and_name_bad_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = "{\"step\":5,\"tokens\":9,\"epoch\":0.5,\"loss\":2.0,\"note\":\"x\"}\nnot json\n\
                    {\"loss\":null,\"val_loss\":1.5}\n{\"step\":7,\"loss\":1.0}\n{\"step\":8,\"lo";
        std::fs::write(&path, text).unwrap();
        let curves = Curves::read(folder.path()).unwrap();
        assert_eq!(curves.cursor, Cursor::from("4-0"));
        let found: Vec<_> = curves.curves.iter().map(|c| (c.key.as_str(), c.points.as_slice())).collect();
        assert_eq!(
            found,
            [("loss", [[5.0, 2.0], [7.0, 1.0]].as_slice()), ("val_loss", [[2.0, 1.5]].as_slice())]
        );
        assert!(matches!(curves.problems.as_slice(), [only] if only.contains("metrics.jsonl: line 2")));
    }

    #[test]
    fn a_tail_brings_each_finished_line_once_and_notices_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let steps = |tail: &mut Tail| {
            let news = tail.read(MetricRow::new).unwrap();
            (news.restarted, news.lines.into_iter().map(|line| line.unwrap().x).collect::<Vec<_>>())
        };
        let mut tail = Tail::after(path.clone(), 0).unwrap();
        assert_eq!(steps(&mut tail), (false, vec![]));
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
        assert_eq!(steps(&mut tail), (false, vec![1.0, 2.0]));
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n").unwrap();
        assert_eq!(steps(&mut tail), (false, vec![3.0]));
        assert_eq!(steps(&mut Tail::after(path.clone(), 2).unwrap()), (false, vec![3.0]));
        assert_eq!(steps(&mut Tail::after(path.clone(), 9).unwrap()), (true, vec![1.0, 2.0, 3.0]));
        std::fs::write(&path, "{\"step\":1}\n").unwrap();
        assert_eq!(steps(&mut tail), (true, vec![1.0]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(steps(&mut tail), (true, vec![]));
    }
}
