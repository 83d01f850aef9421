//! Sorts more records than memory holds: sorted runs go to disk, and are merged in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use nexa_core::{Error, files};
use rayon::slice::ParallelSliceMut;

use crate::Result;

/// What one run is read through while runs are merged.
const READ_BYTES: usize = 256 * 1024;

/// The fewest records of a run, so that no memory limit makes more files than can be open.
const MIN_RECORDS: usize = 1024;

/// Takes records of `N` numbers in any order and gives them back in theirs.
pub(super) struct Sorter<const N: usize> {
    /// Folder and name of the runs: `<name>-<number>`.
    folder: PathBuf,
    name: &'static str,
    capacity: usize,
    buffer: Vec<[u64; N]>,
    runs: Vec<PathBuf>,
}

impl<const N: usize> Sorter<N> {
    /// Makes a sorter whose buffer takes at most so many bytes.
    pub(super) fn new(folder: &Path, name: &'static str, max_bytes: u64) -> Self {
        let records = usize::try_from(max_bytes).unwrap_or(usize::MAX) / size_of::<[u64; N]>();
        let capacity = records.max(MIN_RECORDS);
        Self { folder: folder.to_owned(), name, capacity, buffer: Vec::new(), runs: Vec::new() }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// Fails with the path when the buffer was full and a run cannot be written.
    pub(super) fn push(&mut self, record: [u64; N]) -> Result<()> {
        if self.buffer.len() == self.capacity {
            self.spill()?;
        }
        self.buffer.push(record);
        Ok(())
    }

    /// Ends taking.
    ///
    /// # Errors
    /// Fails with the path when a run cannot be opened again.
    pub(super) fn sorted(mut self) -> Result<Sorted<N>> {
        self.buffer.par_sort_unstable();
        let mut runs = self.runs.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>>>()?;
        let memory = Run { path: PathBuf::new(), source: Source::Memory(self.buffer.into_iter()) };
        runs.push(memory);
        let mut heap = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            heap.extend(run.next()?.map(|record| Reverse((record, number))));
        }
        Ok(Sorted { runs, heap })
    }

    fn spill(&mut self) -> Result<()> {
        self.buffer.par_sort_unstable();
        let path = self.folder.join(format!("{}-{}", self.name, self.runs.len()));
        files::create_folder(&self.folder)?;
        File::create(&path)
            .and_then(|mut file| file.write_all(bytemuck::cast_slice(self.buffer.as_flattened())))
            .map_err(|e| Error::io("write", &path, e))?;
        self.runs.push(path);
        self.buffer.clear();
        Ok(())
    }
}

/// The records in order.
pub(super) struct Sorted<const N: usize> {
    runs: Vec<Run<N>>,
    heap: BinaryHeap<Reverse<([u64; N], usize)>>,
}

impl<const N: usize> Iterator for Sorted<N> {
    type Item = Result<[u64; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, number)) = self.heap.pop()?;
        match self.runs[number].next() {
            Ok(next) => self.heap.extend(next.map(|record| Reverse((record, number)))),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(record))
    }
}

struct Run<const N: usize> {
    path: PathBuf,
    source: Source<N>,
}

enum Source<const N: usize> {
    Memory(std::vec::IntoIter<[u64; N]>),
    Disk(BufReader<File>),
}

impl<const N: usize> Run<N> {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
        let source = Source::Disk(BufReader::with_capacity(READ_BYTES, file));
        Ok(Self { path: path.to_owned(), source })
    }

    fn next(&mut self) -> Result<Option<[u64; N]>> {
        match &mut self.source {
            Source::Memory(records) => Ok(records.next()),
            Source::Disk(reader) => {
                let mut record = [0; N];
                match reader.read_exact(bytemuck::cast_slice_mut(record.as_mut_slice())) {
                    Ok(()) => Ok(Some(record)),
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
                    Err(e) => Err(Error::io("read", &self.path, e).into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_order_from_memory_and_from_disk() {
        let check = |max_bytes: u64, runs: usize| {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), "test", max_bytes);
            let mut expected: Vec<[u64; 2]> = (0..5_000).map(|n: u64| [n * 7919 % 997, n]).collect();
            for record in &expected {
                sorter.push(*record).unwrap();
            }
            assert_eq!(sorter.runs.len(), runs);
            let found: Vec<_> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
        };
        check(1 << 20, 0);
        check(40_000, 1);
        check(0, 4);
    }
}
