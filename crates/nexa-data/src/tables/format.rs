//! Which format a file is in, by the end of its name.

use std::path::Path;

use nexa_core::{Error, Result, table};

/// How the bytes of a text table are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, `.gz`.
    Gzip,
    /// Zstandard, `.zst`.
    Zstd,
}

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line.
    JsonLines(Compression),
    /// Comma-separated values with a header.
    Csv(Compression),
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Parquet,
        Self::JsonLines(Compression::None),
        Self::JsonLines(Compression::Gzip),
        Self::JsonLines(Compression::Zstd),
        Self::Csv(Compression::None),
        Self::Csv(Compression::Gzip),
        Self::Csv(Compression::Zstd),
    ];

    /// What file names of this format end in, without the leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::JsonLines(Compression::None) => "jsonl",
            Self::JsonLines(Compression::Gzip) => "jsonl.gz",
            Self::JsonLines(Compression::Zstd) => "jsonl.zst",
            Self::Csv(Compression::None) => "csv",
            Self::Csv(Compression::Gzip) => "csv.gz",
            Self::Csv(Compression::Zstd) => "csv.zst",
        }
    }

    /// Splits a file name into stem and format. In a draft the whole name may be the extension; the stem is empty then.
    pub fn split(name: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|format| Some((table::stem(name, format.extension())?, format)))
    }

    /// The format of a file.
    ///
    /// # Errors
    /// Fails with the path and the formats that there are, when the name ends in none of them.
    pub fn of(path: &Path) -> Result<Self> {
        let split = path.file_name().and_then(|name| name.to_str()).and_then(Self::split);
        split.map(|(_, format)| format).ok_or_else(|| {
            let known = Self::ALL.map(|format| format!(".{}", format.extension())).join(", ");
            Error::malformed(path, format!("the name does not end like a table's: {known}"))
        })
    }
}
