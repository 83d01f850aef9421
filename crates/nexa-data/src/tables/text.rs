//! Plain texts, which are no tables: each file is a row, or each of its lines, with the column `text`.

use std::io::{self, Read};
use std::path::Path;

use nexa_core::table::Row;
use nexa_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compression;
use super::format::Compression;
use super::jsonl::{self, Lines};
use super::records::{Record, Records};

/// The column that holds a text.
const TEXT: &str = "text";

/// What names of texts end in, before the ending of a compression.
const ENDINGS: [&str; 2] = [".txt", ".md"];

const COMPRESSIONS: [(&str, Compression); 3] =
    [("", Compression::None), (".gz", Compression::Gzip), (".zst", Compression::Zstd)];

/// What a row of a text file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Texts {
    /// The whole file.
    #[default]
    Documents,
    /// Each line that is not blank.
    Lines,
}

impl Texts {
    /// Splits the name of a text file into stem and compression.
    pub(crate) fn split(name: &str) -> Option<(&str, Compression)> {
        COMPRESSIONS.into_iter().find_map(|(end, compression)| {
            let plain = name.strip_suffix(end)?;
            ENDINGS.iter().find_map(|ending| Some((plain.strip_suffix(ending)?, compression)))
        })
    }

    /// Opens a text file.
    ///
    /// # Errors
    /// Fails with the path when it cannot be opened.
    pub(crate) fn open(self, path: &Path) -> Result<Records> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let compression = Self::split(name).map_or(Compression::None, |(_, compression)| compression);
        let source: Box<dyn Iterator<Item = Result<Record>> + Send> = match self {
            Self::Documents => Box::new(std::iter::once(document(path, compression)?).flatten().map(Ok)),
            Self::Lines => Box::new(Lines::open(path, compression)?.parsed_by(|line| text(line).map(row))),
        };
        Ok(Records::new(path, source))
    }
}

/// The row of a whole file; a blank one has none.
fn document(path: &Path, compression: Compression) -> Result<Option<Record>> {
    let mut raw = Vec::new();
    compression::reader(path, compression).and_then(|mut reader| reader.read_to_end(&mut raw)).map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Error::io("read", path, error),
            _ => Error::malformed(path, format!("the file is damaged: {error}")),
        },
    )?;
    if raw.starts_with(jsonl::BYTE_ORDER_MARK) {
        raw.drain(..jsonl::BYTE_ORDER_MARK.len());
    }
    let is_blank = raw.trim_ascii().is_empty();
    Ok((!is_blank).then(|| Record { line: 1, content: text(&raw).map(row), raw }))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        match line {
            1 => format!("not UTF-8 at byte {}", before.len() + 1),
            line => format!("not UTF-8 at byte {}, on line {line}", before.len() + 1),
        }
    })
}

fn row(text: &str) -> Row {
    Row::from_iter([(TEXT.to_owned(), Value::from(text))])
}
