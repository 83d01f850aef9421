//! Files of a few sections: written in a stream, closed with a checksum, mapped into memory to be read.
//!
//! Little-endian, in order: a magic of 16 bytes with the version of the layout, the sections, for each a `u64` that says
//! where it ends, and the BLAKE3 of everything before it. Sections start at multiples of 8 bytes.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

/// Opens a file and says what it is.
pub(super) type Magic = [u8; 16];
/// Bytes of the checksum.
const CHECKSUM: usize = 32;

/// Writes a file whose sections grow side by side.
#[derive(Debug)]
pub(super) struct SectionWriter {
    /// The file itself, with its first section, which should be the largest.
    first: BufWriter<tempfile::NamedTempFile>,
    others: Vec<BufWriter<File>>,
}

impl SectionWriter {
    /// Begins a file in a folder.
    pub(super) fn new(folder: &Path, magic: &Magic, sections: usize) -> io::Result<Self> {
        let mut first = BufWriter::new(tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?);
        first.write_all(magic)?;
        let other = |_| Ok::<_, io::Error>(BufWriter::new(tempfile::tempfile_in(folder)?));
        Ok(Self { first, others: (1..sections).map(other).collect::<io::Result<_>>()? })
    }

    /// A section, to be appended to.
    pub(super) fn section(&mut self, index: usize) -> &mut dyn Write {
        match index {
            0 => &mut self.first,
            _ => &mut self.others[index - 1],
        }
    }

    /// Puts the sections together and the file in its place.
    pub(super) fn finish(self, path: &Path) -> io::Result<()> {
        let mut out = self.first;
        let mut length = out.stream_position()?;
        let mut ends = vec![length];
        for other in self.others {
            let padding = length.next_multiple_of(8) - length;
            out.write_all(&[0; 8][..padding as usize])?;
            let mut other = other.into_inner().map_err(io::IntoInnerError::into_error)?;
            other.seek(SeekFrom::Start(0))?;
            length += padding + io::copy(&mut other, &mut out)?;
            ends.push(length);
        }
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

/// A file that was checked and mapped.
#[derive(Debug)]
pub(super) struct Sections {
    map: Mmap,
    start: usize,
    ends: Vec<usize>,
}

impl Sections {
    /// Maps a file and compares it with its checksum. `None` where it is cut, damaged or something else.
    pub(super) fn open(path: &Path, magic: &Magic, sections: usize) -> Result<Option<Self>, Error> {
        let file = fs_err::File::open(path)?;
        #[expect(unsafe_code, reason = "mapping is the point: the numbers are read where they lie")]
        // SAFETY: files of the cache are written under another name, renamed once and never changed in place; whoever
        // cuts one by hand while it is mapped ends the process, and harms nothing else.
        let map = unsafe { Mmap::map(file.file()) }.map_err(Error::Io)?;
        Ok(Self::check(map, magic, sections))
    }

    fn check(map: Mmap, magic: &Magic, sections: usize) -> Option<Self> {
        if !map.starts_with(magic) || map.len() < magic.len() + sections * 8 + CHECKSUM {
            return None;
        }
        let (body, checksum) = map.split_at(map.len() - CHECKSUM);
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(body);
        if hasher.finalize().as_bytes() != checksum {
            return None;
        }
        let ends = body[body.len() - sections * 8..].chunks_exact(8);
        let ends = ends.map(|end| usize::try_from(u64::from_le_bytes(end.try_into().ok()?)).ok());
        Some(Self { ends: ends.collect::<Option<_>>()?, start: magic.len(), map })
    }

    /// The bytes of a section.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        let start = if index == 0 { self.start } else { self.ends[index - 1].next_multiple_of(8) };
        &self.map[start..self.ends[index]]
    }

    /// A section as numbers.
    pub(super) fn numbers<T: bytemuck::Pod>(&self, index: usize) -> &[T] {
        bytemuck::cast_slice(self.bytes(index))
    }
}
