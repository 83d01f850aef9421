//! How long the texts of a table are.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::tables::Records;

/// What `nexa data stats` says of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableStatistics {
    /// Rows of the table.
    pub rows: u64,
    /// Its texts, in the order in which they were first seen.
    pub columns: Vec<ColumnStatistics>,
}

/// The lengths of the texts in one column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnStatistics {
    /// The column, with the way inside it: `messages[].content`.
    pub column: String,
    /// How many texts there are: one a row at most, or any number inside lists. Nulls do not count.
    pub count: u64,
    /// Their lengths in characters (Unicode scalar values).
    pub characters: Lengths,
    /// Their lengths in words, between white space.
    pub words: Lengths,
}

/// A distribution of lengths. Quantiles are of the nearest rank, so each is a length that occurs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lengths {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// What 95 % do not exceed.
    pub p95: u64,
    /// What 99 % do not exceed.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// How many lengths lie in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The shortest length that lies in it.
    pub from: u64,
    /// The longest.
    pub to: u64,
    /// How many do.
    pub count: u64,
}

/// Counts lengths by their order of magnitude: each bucket ends at twice where the one before it does. Those before the
/// first length and behind the last are left out.
pub fn histogram(lengths: &[u64]) -> Vec<Bucket> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for length in lengths {
        // 0 and 1, then 2, then 3 and 4, then 5 to 8.
        *counts.entry(length.saturating_sub(1).checked_ilog2().map_or(0, |power| power + 1)).or_default() +=
            1;
    }
    let range = counts.keys().next().zip(counts.keys().next_back()).map(|(first, last)| *first..=*last);
    let bucket = |power: u32| {
        let to = 1_u64.checked_shl(power).unwrap_or(u64::MAX);
        let from = if power == 0 { 0 } else { to / 2 + 1 };
        Bucket { from, to, count: counts.get(&power).copied().unwrap_or(0) }
    };
    range.into_iter().flatten().map(bucket).collect()
}

/// Measures every text in a table.
///
/// # Errors
/// Fails with file and line when the table cannot be read.
pub fn describe(path: &Path) -> Result<TableStatistics> {
    let mut rows = 0;
    let mut columns = Vec::new();
    for row in Records::open(path)?.rows() {
        rows += 1;
        for (name, value) in &row? {
            measure(&mut columns, name, value);
        }
    }
    Ok(TableStatistics { rows, columns: columns.into_iter().map(Measured::finish).collect() })
}

struct Measured {
    column: String,
    characters: Vec<u64>,
    words: Vec<u64>,
}

impl Measured {
    fn finish(self) -> ColumnStatistics {
        ColumnStatistics {
            column: self.column,
            count: self.characters.len() as u64,
            characters: Lengths::of(self.characters),
            words: Lengths::of(self.words),
        }
    }
}

impl Lengths {
    /// Describes lengths.
    ///
    /// # Panics
    /// Panics when there are none.
    pub fn of(mut lengths: Vec<u64>) -> Self {
        lengths.sort_unstable();
        let quantile = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100) - 1];
        Self {
            mean: lengths.iter().sum::<u64>() as f64 / lengths.len() as f64,
            p50: quantile(50),
            p95: quantile(95),
            p99: quantile(99),
            max: quantile(100),
        }
    }
}

fn measure(columns: &mut Vec<Measured>, path: &str, value: &Value) {
    match value {
        Value::String(text) => {
            let index = columns.iter().position(|measured| measured.column == path).unwrap_or_else(|| {
                columns.push(Measured { column: path.to_owned(), characters: Vec::new(), words: Vec::new() });
                columns.len() - 1
            });
            columns[index].characters.push(text.chars().count() as u64);
            columns[index].words.push(text.split_whitespace().count() as u64);
        }
        Value::Array(items) => {
            let path = format!("{path}[]");
            items.iter().for_each(|item| measure(columns, &path, item));
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                measure(columns, &format!("{path}.{name}"), field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::table::Tables;
    use serde_json::json;

    use super::*;
    use crate::tables::FileTables;

    fn check(rows: &[Value], expected: &[(&str, u64, [u64; 3], [u64; 3])]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let rows: Vec<_> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        FileTables.write(&path, &rows).unwrap();
        let statistics = describe(&path).unwrap();
        assert_eq!(statistics.rows, rows.len() as u64);
        let three = |lengths: Lengths| [lengths.p50, lengths.p95, lengths.max];
        let found: Vec<_> = statistics
            .columns
            .iter()
            .map(|c| (c.column.as_str(), c.count, three(c.characters), three(c.words)))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn texts_are_measured_also_inside_lists_and_objects() {
        check(
            &[
                json!({"n": 1, "q": "two words", "messages": [{"role": "user", "content": "a b c"}]}),
                json!({"n": 2, "q": null, "messages": [{"role": "user", "content": "é"}, {"role": "user", "content": ""}]}),
            ],
            &[
                ("q", 1, [9, 9, 9], [2, 2, 2]),
                ("messages[].role", 3, [4, 4, 4], [1, 1, 1]),
                ("messages[].content", 3, [1, 5, 5], [1, 3, 3]),
            ],
        );
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let lengths = Lengths::of((1..=100).rev().collect());
        assert_eq!(lengths, Lengths { mean: 50.5, p50: 50, p95: 95, p99: 99, max: 100 });
        assert_eq!(Lengths::of(vec![7]), Lengths { mean: 7.0, p50: 7, p95: 7, p99: 7, max: 7 });
    }

    #[test]
    fn buckets_double_and_hold_every_length() {
        let check = |lengths: &[u64], expected: &[(u64, u64, u64)]| {
            let found: Vec<_> =
                histogram(lengths).iter().map(|bucket| (bucket.from, bucket.to, bucket.count)).collect();
            assert_eq!(found, expected, "{lengths:?}");
        };
        check(&[], &[]);
        check(&[0, 1, 2, 3, 4, 4], &[(0, 1, 2), (2, 2, 1), (3, 4, 3)]);
        check(&[5, 8, 9, 40], &[(5, 8, 2), (9, 16, 1), (17, 32, 0), (33, 64, 1)]);
        check(&[1_000], &[(513, 1_024, 1)]);
    }
}
