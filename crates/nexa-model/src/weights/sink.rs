//! Weight files, written one tensor at a time, so that a model need not fit in memory twice.

use std::collections::HashMap;
use std::path::Path;

use nexa_core::Error as CoreError;
use nexa_core::files::AtomicFile;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::number::to_bytes;
use crate::Error;

/// The header is filled up to a multiple of so many bytes, and its length takes as many.
const ALIGNMENT: usize = size_of::<u64>();

/// A tensor that is going to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Planned {
    /// Bytes of its numbers.
    pub(crate) fn size_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// Puts tensors in the order in which a file holds them: wider numbers first, so that all are aligned, then by name.
    pub(crate) fn order(tensors: &mut [Self]) {
        tensors.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    }
}

/// A safetensors file under way. Dropped before [`Sink::finish`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Sink {
    file: AtomicFile,
    sizes: std::vec::IntoIter<usize>,
}

impl Sink {
    /// Begins a file of weights with what its tensors are going to be.
    ///
    /// # Errors
    /// Fails when the file cannot be made.
    pub(crate) fn create(path: &Path, tensors: &[Planned]) -> Result<Self, Error> {
        // `transformers` refuses a file that does not say which framework's conventions it follows.
        Self::with_metadata(path, tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))
    }

    fn with_metadata(
        path: &Path,
        tensors: &[Planned],
        metadata: HashMap<String, String>,
    ) -> Result<Self, Error> {
        let mut end = 0;
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut infos = Vec::with_capacity(tensors.len());
        for planned in tensors {
            let size = planned.size_bytes();
            sizes.push(size);
            let Planned { name, dtype, shape } = planned.clone();
            infos.push((name, TensorInfo { dtype, shape, data_offsets: (end, end + size) }));
            end += size;
        }
        let failed = |source| Error::Safetensors { path: path.to_owned(), source };
        let header = Metadata::new(Some(metadata), infos).map_err(failed)?;
        let mut header = serde_json::to_vec(&header)
            .map_err(|error| CoreError::malformed(path, format!("cannot be written: {error}")))?;
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        let mut file = AtomicFile::create(path)?;
        file.append(&(header.len() as u64).to_le_bytes())?;
        file.append(&header)?;
        Ok(Self { file, sizes: sizes.into_iter() })
    }

    /// Writes the bytes of the next tensor.
    ///
    /// # Errors
    /// Fails when they cannot be written.
    ///
    /// # Panics
    /// Panics when they are not as many as planned.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        assert_eq!(self.sizes.next(), Some(bytes.len()), "tensors are written as planned");
        Ok(self.file.append(bytes)?)
    }

    /// Puts the file in its place, durably.
    ///
    /// # Errors
    /// Fails when it cannot be synced or renamed.
    ///
    /// # Panics
    /// Panics when tensors are left to be written.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        assert!(self.sizes.next().is_none(), "all planned tensors are written");
        Ok(self.file.commit()?)
    }
}

/// Writes a safetensors file in f32, one tensor after the other, under a temporary name; makes it durable and gives it
/// its name.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    let mut tensors: Vec<(&str, Vec<usize>, &[f32])> = tensors.into_iter().collect();
    tensors.sort_by_key(|(name, ..)| *name);
    let planned = |(name, shape, _): &(&str, Vec<usize>, &[f32])| Planned {
        name: (*name).to_owned(),
        dtype: Dtype::F32,
        shape: shape.clone(),
    };
    let planned: Vec<Planned> = tensors.iter().map(planned).collect();
    let mut sink = Sink::with_metadata(path, &planned, metadata)?;
    for (_, _, values) in tensors {
        sink.write(&to_bytes(values))?;
    }
    sink.finish()
}

#[cfg(test)]
mod tests {
    use nexa_core::{Diagnose as _, ExitCode};

    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).expect("a folder where the file should be");
        let values = [1.0_f32; 8];
        let error = write_tensors(&path, [("a", vec![2, 4], &values[..])], HashMap::new());
        let error = error.expect_err("a folder is there");
        assert!(error.to_string().contains(path.to_str().expect("a name")), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_full_disk_is_told_from_bad_input() {
        let check = |kind: std::io::ErrorKind, expected: ExitCode| {
            let cause = || std::io::Error::from(kind);
            for error in [
                Error::Store(CoreError::io("write", "model.safetensors", cause())),
                Error::Io(cause()),
                Error::Safetensors {
                    path: "model.safetensors".into(),
                    source: safetensors::SafeTensorError::IoError(cause()),
                },
            ] {
                assert_eq!(error.exit_code(), expected, "{error:?}");
            }
        };
        check(std::io::ErrorKind::StorageFull, ExitCode::Storage);
        check(std::io::ErrorKind::QuotaExceeded, ExitCode::Storage);
        check(std::io::ErrorKind::NotFound, ExitCode::Input);
    }
}
