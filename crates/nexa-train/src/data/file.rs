//! Tokenised samples in one file that is mapped into memory; see [`super::sections`] for its frame.
//!
//! | section | holds |
//! |---|---|
//! | tokens | `u32` each |
//! | offsets | `u64` each: the first token of every sequence, and the end of the last |
//! | mask | one bit a token, lowest first |
//! | id ends | `u64` each: where the id of every sample ends |
//! | ids | UTF-8 |
//! | footer | JSON: sequences a sample, shards, and the report |

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::encode::Encoded;
use super::report::Report;
use super::sections::{Magic, SectionWriter, Sections};
use crate::Error;

/// Opens every file; the last digit is the version of the layout.
const MAGIC: &Magic = b"nexa tokens   2\n";
const TOKENS: usize = 0;
const OFFSETS: usize = 1;
const MASK: usize = 2;
const ID_ENDS: usize = 3;
const IDS: usize = 4;
const FOOTER: usize = 5;
const SECTIONS: usize = 6;

/// A sequence of a mapped file.
#[derive(Debug, Clone, Copy)]
pub struct SampleRef<'a> {
    /// The tokens, where the file holds them.
    pub token_ids: &'a [u32],
    /// Which of them are to be predicted.
    pub trained: Mask<'a>,
}

/// One bit for each token of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    bits: &'a [u8],
    start: usize,
    length: usize,
}

impl Mask<'_> {
    /// Whether a token is to be predicted.
    ///
    /// # Panics
    /// Panics outside of the sequence.
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.length, "token {index} of {}", self.length);
        let at = self.start + index;
        self.bits[at / 8] >> (at % 8) & 1 == 1
    }

    /// One answer for each token.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + '_ {
        (0..self.length).map(|index| self.get(index))
    }

    /// The answers as a list, as `Batch` wants them.
    pub fn to_vec(&self) -> Vec<bool> {
        self.iter().collect()
    }
}

/// What stands beside the numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Footer {
    /// One, or two where samples are preferences.
    pub(super) sequences_per_sample: usize,
    /// Whether a file beside this one holds what a teacher thought of the trained tokens.
    pub(super) taught: bool,
    /// How many files the samples lie in, told by the first of them. One where nothing says so.
    #[serde(default = "one")]
    pub(super) shards: usize,
    pub(super) report: Report,
}

/// The shards of a file that does not tell how many it has.
fn one() -> usize {
    1
}

/// Writes a file in one pass.
pub(super) struct Writer {
    sections: SectionWriter,
    written: u64,
    id_bytes: u64,
    bits: u8,
}

impl Writer {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut sections = SectionWriter::new(folder, MAGIC, SECTIONS)?;
        sections.section(OFFSETS).write_all(&0_u64.to_le_bytes())?;
        Ok(Self { sections, written: 0, id_bytes: 0, bits: 0 })
    }

    /// Counts the tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.written
    }

    /// Appends the sequences of a sample.
    pub(super) fn sample(&mut self, id: &str, sequences: &[Encoded]) -> io::Result<()> {
        for sequence in sequences {
            for (token, trained) in sequence.token_ids.iter().zip(&sequence.trained) {
                self.sections.section(TOKENS).write_all(&token.to_le_bytes())?;
                self.bits |= u8::from(*trained) << (self.written % 8);
                self.written += 1;
                if self.written.is_multiple_of(8) {
                    self.sections.section(MASK).write_all(&[self.bits])?;
                    self.bits = 0;
                }
            }
            self.sections.section(OFFSETS).write_all(&self.written.to_le_bytes())?;
        }
        self.id_bytes += id.len() as u64;
        self.sections.section(IDS).write_all(id.as_bytes())?;
        self.sections.section(ID_ENDS).write_all(&self.id_bytes.to_le_bytes())
    }

    /// Puts the parts together and the file in its place.
    pub(super) fn finish(mut self, path: &Path, footer: &Footer) -> io::Result<()> {
        if !self.written.is_multiple_of(8) {
            self.sections.section(MASK).write_all(&[self.bits])?;
        }
        self.sections.section(FOOTER).write_all(&serde_json::to_vec(footer)?)?;
        self.sections.finish(path)
    }
}

/// A file that was checked and mapped.
#[derive(Debug)]
pub(super) struct Mapped {
    sections: Sections,
    pub(super) footer: Footer,
}

impl Mapped {
    /// Maps a file and compares it with its checksum. `None` where it is cut, damaged or of another version.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let Some(sections) = Sections::open(path, MAGIC, SECTIONS)? else { return Ok(None) };
        Ok(serde_json::from_slice(sections.bytes(FOOTER)).ok().map(|footer| Self { sections, footer }))
    }

    /// Counts the sequences.
    pub(super) fn sequences(&self) -> usize {
        self.offsets().len() - 1
    }

    fn offsets(&self) -> &[u64] {
        self.sections.numbers(OFFSETS)
    }

    /// The length of every sequence.
    pub(super) fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.offsets().windows(2).map(|pair| (pair[1] - pair[0]) as usize)
    }

    /// A sequence, without copying it.
    pub(super) fn sequence(&self, index: usize) -> SampleRef<'_> {
        let [start, end] = [index, index + 1].map(|index| self.offsets()[index] as usize);
        let trained = Mask { bits: self.sections.bytes(MASK), start, length: end - start };
        SampleRef { token_ids: &self.sections.numbers(TOKENS)[start..end], trained }
    }

    /// The id of a sample.
    pub(super) fn id(&self, sample: usize) -> &str {
        let ends: &[u64] = self.sections.numbers(ID_ENDS);
        let start = if sample == 0 { 0 } else { ends[sample - 1] as usize };
        std::str::from_utf8(&self.sections.bytes(IDS)[start..ends[sample] as usize]).unwrap_or_default()
    }
}
