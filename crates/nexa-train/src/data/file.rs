//! Tokenised samples in one file that is mapped into memory.
//!
//! The file is written in a stream: token ids as they come, then what is small beside them. Little-endian, in order:
//!
//! | section | holds |
//! |---|---|
//! | magic | 16 bytes, the version among them |
//! | tokens | `u32` each |
//! | offsets | `u64` each: the first token of every sequence, and the end of the last |
//! | mask | one bit a token, lowest first |
//! | id ends | `u64` each: where the id of every row ends |
//! | ids | UTF-8 |
//! | footer | JSON: sequences a row, and the report |
//! | trailer | six `u64` for where the sections after the magic end, and the BLAKE3 of everything before it |
//!
//! Sections start at multiples of 8 bytes.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::encode::Encoded;
use super::report::Report;
use crate::Error;

/// Opens every file; the last digit is the version of the layout.
const MAGIC: &[u8; 16] = b"nexa tokens   1\n";
/// Sections between magic and trailer.
const SECTIONS: usize = 6;
/// Bytes of the trailer.
const TRAILER: usize = SECTIONS * 8 + 32;

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
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Footer {
    /// One, or two where rows are preferences.
    pub(super) sequences_per_row: usize,
    pub(super) report: Report,
}

/// Writes a file in one pass.
pub(super) struct Writer {
    tokens: BufWriter<tempfile::NamedTempFile>,
    offsets: BufWriter<File>,
    mask: BufWriter<File>,
    id_ends: BufWriter<File>,
    ids: BufWriter<File>,
    written: u64,
    id_bytes: u64,
    bits: u8,
}

impl Writer {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut tokens = BufWriter::new(tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?);
        tokens.write_all(MAGIC)?;
        let part = || Ok::<_, io::Error>(BufWriter::new(tempfile::tempfile_in(folder)?));
        let (mut offsets, mask, id_ends, ids) = (part()?, part()?, part()?, part()?);
        offsets.write_all(&0_u64.to_le_bytes())?;
        Ok(Self { tokens, offsets, mask, id_ends, ids, written: 0, id_bytes: 0, bits: 0 })
    }

    /// Appends the sequences of a row.
    pub(super) fn row(&mut self, id: &str, sequences: &[Encoded]) -> io::Result<()> {
        for sequence in sequences {
            for (token, trained) in sequence.token_ids.iter().zip(&sequence.trained) {
                self.tokens.write_all(&token.to_le_bytes())?;
                self.bits |= u8::from(*trained) << (self.written % 8);
                self.written += 1;
                if self.written.is_multiple_of(8) {
                    self.mask.write_all(&[self.bits])?;
                    self.bits = 0;
                }
            }
            self.offsets.write_all(&self.written.to_le_bytes())?;
        }
        self.id_bytes += id.len() as u64;
        self.ids.write_all(id.as_bytes())?;
        self.id_ends.write_all(&self.id_bytes.to_le_bytes())
    }

    /// Puts the parts together and the file in its place.
    pub(super) fn finish(mut self, path: &Path, footer: &Footer) -> io::Result<()> {
        if !self.written.is_multiple_of(8) {
            self.mask.write_all(&[self.bits])?;
        }
        let mut out = self.tokens;
        let mut ends = [0_u64; SECTIONS];
        let mut length = MAGIC.len() as u64 + self.written * 4;
        ends[0] = length;
        for (part, end) in [self.offsets, self.mask, self.id_ends, self.ids].into_iter().zip(&mut ends[1..]) {
            length += pad(&mut out, length)?;
            let mut part = part.into_inner().map_err(io::IntoInnerError::into_error)?;
            part.seek(SeekFrom::Start(0))?;
            length += io::copy(&mut part, &mut out)?;
            *end = length;
        }
        length += pad(&mut out, length)?;
        let footer = serde_json::to_vec(footer)?;
        out.write_all(&footer)?;
        ends[SECTIONS - 1] = length + footer.len() as u64;

        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        for end in ends {
            file.write_all(&end.to_le_bytes())?;
        }
        file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file.as_file())?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(hasher.finalize().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Fills up to a multiple of 8 and returns with how many bytes.
fn pad(out: &mut impl Write, length: u64) -> io::Result<u64> {
    let missing = length.next_multiple_of(8) - length;
    out.write_all(&[0; 8][..missing as usize])?;
    Ok(missing)
}

/// A file that was checked and mapped.
#[derive(Debug)]
pub(super) struct Mapped {
    map: Mmap,
    /// Where the sections end.
    ends: [usize; SECTIONS],
    pub(super) footer: Footer,
}

impl Mapped {
    /// Maps a file and compares it with its checksum. `None` where it is cut, damaged or of another version.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let file = fs_err::File::open(path)?;
        #[expect(unsafe_code, reason = "mapping is the point: samples are read where they lie")]
        // SAFETY: files of the cache are written under another name, renamed once and never changed in place; whoever
        // cuts one by hand while it is mapped ends the process, and harms nothing else.
        let map = unsafe { Mmap::map(file.file()) }.map_err(Error::Io)?;
        Ok(Self::check(map))
    }

    fn check(map: Mmap) -> Option<Self> {
        if !map.starts_with(MAGIC) || map.len() < MAGIC.len() + TRAILER {
            return None;
        }
        let (body, checksum) = map.split_at(map.len() - 32);
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(body);
        if hasher.finalize().as_bytes() != checksum {
            return None;
        }
        let trailer = &body[body.len() - SECTIONS * 8..];
        let mut ends = [0; SECTIONS];
        for (end, bytes) in ends.iter_mut().zip(trailer.chunks_exact(8)) {
            *end = usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()?;
        }
        let start = ends[SECTIONS - 2].next_multiple_of(8);
        let footer = serde_json::from_slice(body.get(start..ends[SECTIONS - 1])?).ok()?;
        Some(Self { map, ends, footer })
    }

    fn section(&self, index: usize) -> &[u8] {
        let start = if index == 0 { MAGIC.len() } else { self.ends[index - 1].next_multiple_of(8) };
        &self.map[start..self.ends[index]]
    }

    /// Counts the sequences.
    pub(super) fn sequences(&self) -> usize {
        self.offsets().len() - 1
    }

    fn offsets(&self) -> &[u64] {
        bytemuck::cast_slice(self.section(1))
    }

    /// The length of every sequence.
    pub(super) fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.offsets().windows(2).map(|pair| (pair[1] - pair[0]) as usize)
    }

    /// A sequence, without copying it.
    pub(super) fn sequence(&self, index: usize) -> SampleRef<'_> {
        let [start, end] = [index, index + 1].map(|index| self.offsets()[index] as usize);
        let tokens: &[u32] = bytemuck::cast_slice(self.section(0));
        let trained = Mask { bits: self.section(2), start, length: end - start };
        SampleRef { token_ids: &tokens[start..end], trained }
    }

    /// The id of a row.
    pub(super) fn id(&self, row: usize) -> &str {
        let ends: &[u64] = bytemuck::cast_slice(self.section(3));
        let start = if row == 0 { 0 } else { ends[row - 1] as usize };
        std::str::from_utf8(&self.section(4)[start..ends[row] as usize]).unwrap_or_default()
    }
}
