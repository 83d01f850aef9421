//! Safetensors files one tensor at a time, so that a model never has to fit in memory.
//!
//! [`Source`] reads the weights of a checkpoint folder, whether they are one file or several with an index; [`Sink`]
//! writes one file. `Weights` of the crate reads and writes whole models.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use nexa_core::files::{self, AtomicFile};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use super::error::Error;

/// The file of the weights.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
/// The file that says which tensor is in which of several files.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The length of a header, before it.
const LENGTH_BYTES: u64 = 8;
/// Longer headers are refused, as the format's own library does.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a checkpoint folder.
#[derive(Debug)]
pub(crate) struct Source {
    files: Vec<OpenFile>,
    /// Where each tensor is: the index of its file and its description.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    /// The first byte of the data.
    start: u64,
}

/// `model.safetensors.index.json`.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Source {
    /// Opens the weights of a folder.
    ///
    /// # Errors
    /// Names the file that is missing or malformed.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let mut source = Self { files: Vec::new(), tensors: BTreeMap::new() };
        for path in weight_files(folder)? {
            let (file, infos) = OpenFile::open(path)?;
            for (name, info) in infos {
                if source.tensors.insert(name.clone(), (source.files.len(), info)).is_some() {
                    return Err(Error::tensor(&file.path, name, "stands in an earlier file already"));
                }
            }
            source.files.push(file);
        }
        Ok(source)
    }

    /// The names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the files say of a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, info)| info)
    }

    /// Reads the stored bytes of a tensor.
    ///
    /// # Errors
    /// Fails when there is no such tensor, or its file cannot be read.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let Some((index, info)) = self.tensors.get(name) else {
            let path = self.files.first().map_or_else(|| Path::new(WEIGHTS_FILE), |file| file.path.as_path());
            return Err(Error::tensor(path, name, "is missing"));
        };
        let OpenFile { path, file, start } = &self.files[*index];
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0; end - begin];
        let mut file = file;
        file.seek(SeekFrom::Start(start + begin as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| nexa_core::Error::io("read", path, e))?;
        Ok(bytes)
    }

    /// Reads the numbers of a tensor.
    ///
    /// # Errors
    /// As [`Source::bytes`], and on a format other than F32, F16 and BF16.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let bytes = self.bytes(name)?;
        let (index, info) = &self.tensors[name];
        let pairs = || bytes.as_chunks::<2>().0.iter().copied();
        Ok(match info.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            Dtype::F16 => pairs().map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
            other => {
                let problem = format!("is {other:?} (readable: F32, F16, BF16)");
                return Err(Error::tensor(&self.files[*index].path, name, problem));
            }
        })
    }
}

/// The weight files of a folder, each once.
///
/// # Errors
/// Fails on a malformed index.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = folder.join(INDEX_FILE);
    if folder.join(WEIGHTS_FILE).exists() || !index.exists() {
        return Ok(vec![folder.join(WEIGHTS_FILE)]);
    }
    let mut names: Vec<String> = files::read_json::<Index>(&index)?.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // The index comes from elsewhere; it must not lead out of its folder.
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        return Err(Error::key(
            &index,
            "weight_map",
            format!("names `{name}`, which is no file of the folder"),
        ));
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

impl OpenFile {
    fn open(path: PathBuf) -> Result<(Self, Vec<(String, TensorInfo)>), Error> {
        let failed = |e| nexa_core::Error::io("read", &path, e);
        let malformed = |at: u64, problem: String| Error::Bytes { path: path.clone(), at, problem };
        let mut file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(size - LENGTH_BYTES) {
            return Err(malformed(0, format!("a header of {length} bytes is stated, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| malformed(LENGTH_BYTES, e.to_string()))?;
        let start = LENGTH_BYTES + length;
        let infos: Vec<(String, TensorInfo)> =
            header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let stated = infos.iter().map(|(_, info)| info.data_offsets.1 as u64).max().unwrap_or(0);
        if stated != size - start {
            let problem = format!("{stated} bytes of data are stated, {} follow", size - start);
            return Err(malformed(start, problem));
        }
        Ok((Self { path, file, start }, infos))
    }
}

/// A tensor that is going to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

/// A safetensors file under way. Dropped before [`Sink::finish`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Sink {
    file: AtomicFile,
    sizes: std::vec::IntoIter<usize>,
}

impl Sink {
    /// Puts tensors in the order in which a file holds them: wider numbers first, so that all are aligned, then by name.
    pub(crate) fn order(tensors: &mut [Planned]) {
        tensors.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    }

    /// Begins a file with what its tensors are going to be.
    ///
    /// # Errors
    /// Fails when the file cannot be made.
    pub(crate) fn create(path: &Path, tensors: &[Planned]) -> Result<Self, Error> {
        let mut end = 0;
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut infos = Vec::with_capacity(tensors.len());
        for Planned { name, dtype, shape } in tensors {
            let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            sizes.push(size);
            let data_offsets = (end, end + size);
            end += size;
            infos.push((name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets }));
        }
        // `transformers` refuses a file that does not say which framework's conventions it follows.
        let convention = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let failed = |problem: String| Error::Bytes { path: path.to_owned(), at: LENGTH_BYTES, problem };
        let header = Metadata::new(Some(convention), infos).map_err(|e| failed(e.to_string()))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| failed(e.to_string()))?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        let mut file = AtomicFile::create(path)?;
        file.append(&(header.len() as u64).to_le_bytes())?;
        file.append(&header)?;
        Ok(Self { file, sizes: sizes.into_iter() })
    }

    /// Writes the bytes of the next tensor.
    ///
    /// # Panics
    /// Panics when they are not as many as planned.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        assert_eq!(self.sizes.next(), Some(bytes.len()), "tensors are written as planned");
        Ok(self.file.append(bytes)?)
    }

    /// Puts the file in its place.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        assert!(self.sizes.next().is_none(), "all planned tensors are written");
        Ok(self.file.commit()?)
    }
}
