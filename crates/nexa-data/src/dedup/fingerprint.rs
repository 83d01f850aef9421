//! The first pass: what of each row is compared, computed on all threads, kept in the order of the rows.

use std::path::Path;

use nexa_core::table::Row;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::minhash::{MinHash, shingles};
use super::sorter::Sorter;
use super::spool::{Spool, SpoolWriter};
use super::{Config, Prefer};
use crate::rows::{Document, Words, id_of, require_column};
use crate::tables::Schema;
use crate::{Error, Result};

/// What is compared of one row.
struct Fingerprint {
    id: String,
    /// The hash of the text but for case and white space; nothing where there is no word in it.
    content: Option<u128>,
    shingles: Vec<u64>,
    band_keys: Vec<u64>,
    quality: f64,
}

/// The pass under way. Memory grows by sixteen bytes a row; everything else is bounded or on disk.
pub(super) struct Fingerprints<'a> {
    config: &'a Config,
    place: &'a Path,
    minhash: MinHash,
    document: Option<Document>,
    schema: Schema,
    spool: SpoolWriter,
    contents: Sorter<3>,
    bands: Sorter<2>,
    qualities: Vec<f64>,
    without_text: u64,
    short: u64,
}

/// What the pass found.
pub(super) struct Fingerprinted {
    pub(super) schema: Schema,
    /// The columns that were compared.
    pub(super) columns: Vec<String>,
    pub(super) spool: Spool,
    /// Two halves of the content's hash, and the row.
    pub(super) contents: Sorter<3>,
    /// The key of a band, and the row.
    pub(super) bands: Sorter<2>,
    /// What the survivor of a cluster is chosen by: the larger, the better.
    pub(super) qualities: Vec<f64>,
    /// Rows without a word.
    pub(super) without_text: u64,
    /// Rows with fewer words than a shingle, which are compared as a whole only.
    pub(super) short: u64,
}

impl<'a> Fingerprints<'a> {
    /// Begins the pass over a table; `folder` takes what memory does not.
    pub(super) fn begin(config: &'a Config, place: &'a Path, folder: &Path) -> Result<Self> {
        Ok(Self {
            config,
            place,
            minhash: MinHash::new(config.bands, config.rows_per_band),
            document: None,
            schema: Schema::default(),
            spool: SpoolWriter::create(&folder.join("documents"))?,
            contents: Sorter::new(folder, "contents", config.memory_bytes() / 4),
            bands: Sorter::new(folder, "bands", config.memory_bytes() / 2),
            qualities: Vec::new(),
            without_text: 0,
            short: 0,
        })
    }

    /// Takes the rows from `first` on.
    pub(super) fn take(&mut self, first: u64, rows: &[Row]) -> Result<()> {
        if let (None, Some(row)) = (&self.document, rows.first()) {
            self.document = Some(Document::choose(&self.config.columns, row, self.place)?);
            if let Some(column) = &self.config.score_column {
                require_column(column, row, self.place)?;
            }
        }
        let Some(document) = &self.document else { return Ok(()) };
        let (config, minhash, place) = (self.config, &self.minhash, self.place);
        let mask_numbers = config.masks_numbers(document.columns());
        let scratch = || (String::new(), Words::default());
        let found: Vec<Result<Fingerprint>> = rows
            .par_iter()
            .enumerate()
            .map_init(scratch, |(text, words), (at, row)| {
                document.read(row, text);
                words.read(text, mask_numbers);
                let id = id_of(row, first + at as u64, place)?;
                let mut set = Vec::new();
                if config.near {
                    shingles(words, config.shingle_words, &mut set);
                }
                let quality = quality(config, row, text);
                let band_keys = if set.is_empty() { Vec::new() } else { minhash.band_keys(&set) };
                let content = (!words.is_empty()).then(|| content(text));
                Ok(Fingerprint { id, content, shingles: set, band_keys, quality })
            })
            .collect();
        for (row, fingerprint) in rows.iter().zip(found) {
            self.keep(row, fingerprint?)?;
        }
        Ok(())
    }

    fn keep(&mut self, row: &Row, fingerprint: Fingerprint) -> Result<()> {
        self.schema.observe(row).map_err(|e| nexa_core::Error::malformed(self.place, e.to_string()))?;
        let number = self.qualities.len() as u64;
        if number >= u64::from(u32::MAX) {
            return Err(Error::TooManyRows { place: self.place.to_owned(), max: u32::MAX });
        }
        self.spool.append(&fingerprint.id, &fingerprint.shingles)?;
        self.qualities.push(fingerprint.quality);
        match fingerprint.content {
            Some(content) => {
                self.short += u64::from(self.config.near && fingerprint.shingles.is_empty());
                self.contents.push([(content >> 64) as u64, content as u64, number])?;
            }
            None => self.without_text += 1,
        }
        for key in fingerprint.band_keys {
            self.bands.push([key, number])?;
        }
        Ok(())
    }

    /// Ends the pass.
    pub(super) fn finish(self) -> Result<Fingerprinted> {
        Ok(Fingerprinted {
            schema: self.schema,
            columns: self.document.map(|document| document.columns().to_vec()).unwrap_or_default(),
            spool: self.spool.finish()?,
            contents: self.contents,
            bands: self.bands,
            qualities: self.qualities,
            without_text: self.without_text,
            short: self.short,
        })
    }
}

/// The hash of a text in which neither case nor the amount of white space counts.
fn content(text: &str) -> u128 {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        normal.push_str(word);
        normal.push(' ');
    }
    if normal.is_ascii() {
        normal.make_ascii_lowercase();
    } else {
        normal = normal.to_lowercase();
    }
    xxh3_128(normal.as_bytes())
}

/// What a row is worth beside its duplicates; one without a score is worth least.
fn quality(config: &Config, row: &Row, text: &str) -> f64 {
    let Some(column) = &config.score_column else { return text.chars().count() as f64 };
    match (row.get(column).and_then(serde_json::Value::as_f64), config.prefer) {
        (Some(score), Prefer::Highest) => score,
        (Some(score), Prefer::Lowest) => -score,
        (None, _) => f64::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_white_space_do_not_count_and_all_else_does() {
        let check = |other: &str, same: bool| {
            assert_eq!(content("Two  words, 2+3.") == content(other), same, "{other:?}");
        };
        check("two words,\n2+3. ", true);
        check("two words, 2-3.", false);
        check("two words 2+3.", false);
        assert_eq!(content("Ärger"), content("ärger"));
    }
}
