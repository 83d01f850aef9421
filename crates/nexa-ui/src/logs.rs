//! The two logs of a run's numbers, read as one: `metrics.jsonl`, which repeats when the run is repeated, and
//! `timing.jsonl`, which depends on the machine.

use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::Result;
use crate::metrics::{MetricRow, News, Tail};

/// Their names in the folder of a run.
const NAMES: [&str; 2] = ["metrics.jsonl", "timing.jsonl"];

/// How many lines of each log were read; as text, joined by a hyphen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor([u64; NAMES.len()]);

/// A place in the logs, which grow by whole lines.
#[derive(Debug)]
pub(crate) struct Logs([Tail; NAMES.len()]);

impl Logs {
    /// The place behind a cursor in the logs of a run's folder, any of which may be missing.
    ///
    /// # Errors
    /// Fails with the path when a log cannot be read.
    pub(crate) fn after(folder: &Path, Cursor(lines): Cursor) -> Result<Self> {
        let tail = |index: usize| Tail::after(folder.join(NAMES[index]), lines[index]);
        Ok(Self([tail(0)?, tail(1)?]))
    }

    /// Reads the lines that were finished since the last time. When one log began anew, both are read anew.
    ///
    /// # Errors
    /// As [`Tail::read`].
    pub(crate) fn read(&mut self) -> Result<News<MetricRow>> {
        let mut news = self.read_each()?;
        if news.iter().any(|news| news.restarted) {
            for tail in &mut self.0 {
                tail.rewind();
            }
            news = self.read_each()?;
            news[0].restarted = true;
        }
        let [metrics, timing] = news;
        let lines = metrics.lines.into_iter().chain(timing.lines).collect();
        Ok(News { restarted: metrics.restarted, lines })
    }

    /// Where they stand.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(self.0.each_ref().map(|tail| tail.cursor))
    }

    fn read_each(&mut self) -> Result<[News<MetricRow>; NAMES.len()]> {
        let [metrics, timing] = &mut self.0;
        Ok([metrics.read(MetricRow::new)?, timing.read(MetricRow::new)?])
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([metrics, timing]) = self;
        write!(f, "{metrics}-{timing}")
    }
}

impl From<&str> for Cursor {
    /// What cannot be read stands for the beginning: a reader then gets too much rather than too little.
    fn from(text: &str) -> Self {
        let mut parts = text.split('-').map(|lines| lines.parse().unwrap_or(0));
        Self(std::array::from_fn(|_| parts.next().unwrap_or(0)))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_logs_are_read_and_begin_anew_together() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let read = |logs: &mut Logs| {
            let news = logs.read().unwrap();
            let keys = |row: MetricRow| row.values.keys().cloned().collect::<Vec<_>>().concat();
            let rows = news.lines.into_iter().map(|line| keys(line.unwrap())).collect::<Vec<_>>();
            (news.restarted, rows.join(" "), logs.cursor().to_string())
        };
        let mut logs = Logs::after(folder.path(), Cursor::default()).unwrap();
        write(NAMES[0], "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n");
        assert_eq!(read(&mut logs), (false, "loss loss".to_owned(), "2-0".to_owned()));
        write(NAMES[1], "{\"step\":1,\"seconds\":3,\"mfu\":0.5}\n");
        assert_eq!(read(&mut logs), (false, "mfu".to_owned(), "2-1".to_owned()));
        let mut again = Logs::after(folder.path(), Cursor::from("1-1")).unwrap();
        assert_eq!(read(&mut again), (false, "loss".to_owned(), "2-1".to_owned()));
        write(NAMES[1], "");
        assert_eq!(read(&mut logs), (true, "loss loss".to_owned(), "2-0".to_owned()));
    }

    #[test]
    fn a_cursor_that_cannot_be_read_is_the_beginning() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Cursor::from(text).to_string(), expected);
        };
        check("12-7", "12-7");
        check("12", "12-0");
        check("", "0-0");
        check("x-3-9", "0-3");
    }
}
