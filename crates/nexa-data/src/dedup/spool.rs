//! The ids and shingles of all documents, on disk: what verification and the choice of survivors look up.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nexa_core::Error;

use crate::Result;

/// A spool that is being written.
pub(super) struct SpoolWriter {
    path: PathBuf,
    file: BufWriter<File>,
    /// Where every document begins, and where the last one ends.
    offsets: Vec<u64>,
}

impl SpoolWriter {
    /// Begins a file, in place of one that an earlier attempt may have left.
    ///
    /// # Errors
    /// Fails with the path when it cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file), offsets: vec![0] })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// Fails with the path when it cannot be written.
    pub(super) fn append(&mut self, id: &str, shingles: &[u64]) -> Result<()> {
        let shingles: &[u8] = bytemuck::cast_slice(shingles);
        let id_bytes = id.len() as u64;
        self.file
            .write_all(&id_bytes.to_ne_bytes())
            .and_then(|()| self.file.write_all(id.as_bytes()))
            .and_then(|()| self.file.write_all(shingles))
            .map_err(|e| Error::io("write", &self.path, e))?;
        let begun = self.offsets.last().copied().unwrap_or_default();
        self.offsets.push(begun + size_of::<u64>() as u64 + id_bytes + shingles.len() as u64);
        Ok(())
    }

    /// Ends writing.
    ///
    /// # Errors
    /// Fails with the path when what is buffered cannot be written.
    pub(super) fn finish(mut self) -> Result<Spool> {
        self.file.flush().map_err(|e| Error::io("write", &self.path, e))?;
        Ok(Spool { path: self.path, offsets: self.offsets })
    }
}

/// A spool that can be read: eight bytes of memory a document.
pub(super) struct Spool {
    path: PathBuf,
    offsets: Vec<u64>,
}

/// A document of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spooled {
    pub(super) id: String,
    pub(super) shingles: Vec<u64>,
}

impl Spool {
    /// Opens the file once more; each thread reads through one of its own.
    ///
    /// # Errors
    /// Fails with the path when it cannot be opened.
    pub(super) fn open(&self) -> Result<SpoolReader<'_>> {
        let file = File::open(&self.path).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(SpoolReader { spool: self, file })
    }
}

/// Looks up documents.
pub(super) struct SpoolReader<'a> {
    spool: &'a Spool,
    file: File,
}

impl SpoolReader<'_> {
    /// Reads the document of a row.
    ///
    /// # Errors
    /// Fails with the path when it cannot be read.
    pub(super) fn read(&mut self, row: u32) -> Result<Spooled> {
        let row = row as usize;
        let (begin, end) = (self.spool.offsets[row], self.spool.offsets[row + 1]);
        let mut bytes = vec![0; usize::try_from(end - begin).expect("a document fits in memory")];
        self.file
            .seek(SeekFrom::Start(begin))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::io("read", &self.spool.path, e))?;
        let damaged = || Error::malformed(&self.spool.path, format!("document {row} is damaged"));
        let (length, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let (id, shingles) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| damaged())?;
        let (shingles, []) = shingles.as_chunks() else { return Err(damaged().into()) };
        Ok(Spooled { id, shingles: shingles.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_looked_up_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::create(&folder.path().join("spool")).unwrap();
        let documents = [("a", vec![1, 2]), ("", vec![]), ("bcd", vec![u64::MAX])];
        for (id, shingles) in &documents {
            writer.append(id, shingles).unwrap();
        }
        let spool = writer.finish().unwrap();
        let mut reader = spool.open().unwrap();
        for row in [2, 0, 1, 2] {
            let (id, shingles) = documents[row as usize].clone();
            assert_eq!(reader.read(row).unwrap(), Spooled { id: id.to_owned(), shingles });
        }
    }
}
