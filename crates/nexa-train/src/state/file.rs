//! A state as a file: safetensors, with everything that is no tensor in its metadata, and a checksum over both.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::SafeTensors;

use super::{Measured, Progress};
use crate::Error;

/// The keys of the file's metadata.
const PROGRESS_KEY: &str = "progress";
const MEASURED_KEY: &str = "measured";
const CHECKSUM_KEY: &str = "checksum";

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Where it was read.
    pub(crate) path: PathBuf,
    /// What the config and the data determine.
    pub(crate) progress: Progress,
    /// What they do not.
    pub(crate) measured: Measured,
    /// The file. A state is as large as the run that it is restored to, so its numbers stay there until they are copied
    /// to their place.
    map: Mmap,
}

/// Writes a state under a temporary name, makes it durable and gives it its name.
pub(crate) fn write(
    path: &Path,
    mut tensors: Vec<(String, &[f32])>,
    progress: &Progress,
    measured: &Measured,
) -> Result<(), Error> {
    let failed = |problem: String| Error::State { path: path.to_owned(), problem };
    let to_json = |text: serde_json::Result<String>| text.map_err(|error| failed(error.to_string()));
    let progress = to_json(serde_json::to_string(progress))?;
    let measured = to_json(serde_json::to_string(measured))?;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes = tensors.iter().map(|(name, values)| (name.as_str(), to_bytes(values)));
    let checksum = checksum(&progress, &measured, bytes);
    let metadata = HashMap::from([
        (PROGRESS_KEY.to_owned(), progress),
        (MEASURED_KEY.to_owned(), measured),
        (CHECKSUM_KEY.to_owned(), checksum),
    ]);
    let tensors = tensors.iter().map(|(name, values)| (name.as_str(), vec![values.len()], *values));
    Ok(nexa_model::write_tensors(path, tensors, metadata)?)
}

/// Reads a state and holds it against its checksum.
pub(crate) fn read(path: &Path) -> Result<Stored, Error> {
    let failed = |problem: String| Error::State { path: path.to_owned(), problem };
    let file = fs_err::File::open(path)?;
    #[expect(unsafe_code, reason = "mapping is the point: the numbers are read where they lie")]
    // SAFETY: a state is replaced as a whole and under another inode, never written to.
    let map = unsafe { Mmap::map(file.file()) }?;
    let (_, header) = SafeTensors::read_metadata(&map).map_err(|error| failed(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let text =
        |key: &str| metadata.get(key).cloned().ok_or_else(|| failed(format!("its header has no `{key}`")));
    let (progress, measured, expected) = (text(PROGRESS_KEY)?, text(MEASURED_KEY)?, text(CHECKSUM_KEY)?);
    let tensors = SafeTensors::deserialize(&map).map_err(|error| failed(error.to_string()))?;
    let mut names = tensors.names();
    names.sort_unstable();
    let bytes = names.into_iter().filter_map(|name| Some((name, tensors.tensor(name).ok()?.data())));
    if checksum(&progress, &measured, bytes) != expected {
        return Err(failed("its content does not belong to its checksum".to_owned()));
    }
    Ok(Stored {
        path: path.to_owned(),
        progress: serde_json::from_str(&progress).map_err(|error| failed(error.to_string()))?,
        measured: serde_json::from_str(&measured).map_err(|error| failed(error.to_string()))?,
        map,
    })
}

impl Stored {
    /// Reads the header: where each tensor lies in the file.
    pub(crate) fn tensors(&self) -> Result<Tensors<'_>, Error> {
        let in_file = SafeTensors::deserialize(&self.map)
            .map_err(|error| Error::State { path: self.path.clone(), problem: error.to_string() })?;
        Ok(Tensors { path: &self.path, in_file })
    }
}

/// The tensors of a state, in its file.
pub(crate) struct Tensors<'a> {
    path: &'a Path,
    in_file: SafeTensors<'a>,
}

impl Tensors<'_> {
    /// Copies a tensor to a place of its size.
    pub(crate) fn copy_into(&self, name: &str, place: &mut [f32]) -> Result<(), Error> {
        let failed = |problem: String| Error::State { path: self.path.to_owned(), problem };
        let tensor = self.in_file.tensor(name).map_err(|_| failed(format!("has no tensor `{name}`")))?;
        let values = numbers(tensor.data());
        if values.len() != place.len() {
            let problem = format!("`{name}` has {} numbers, not {}", values.len(), place.len());
            return Err(failed(problem));
        }
        for (place, value) in place.iter_mut().zip(values) {
            *place = value;
        }
        Ok(())
    }

    /// Copies all of them, by name.
    pub(crate) fn copied(&self) -> BTreeMap<String, Vec<f32>> {
        let tensors = self.in_file.iter();
        tensors.map(|(name, tensor)| (name.to_owned(), numbers(tensor.data()).collect())).collect()
    }
}

/// The numbers that bytes are.
fn numbers(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes))
}

/// Hashes all that a file holds, tensors as little-endian numbers and in the order of their names.
fn checksum<'a>(
    progress: &str,
    measured: &str,
    tensors: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update_rayon(bytes);
    };
    add(progress.as_bytes());
    add(measured.as_bytes());
    for (name, values) in tensors {
        add(name.as_bytes());
        add(values.as_ref());
    }
    hasher.finalize().to_hex().to_string()
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
