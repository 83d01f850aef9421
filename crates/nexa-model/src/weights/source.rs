//! The tensors of weight files, read one at a time: the files are mapped, so that a model need not fit in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{SafeTensors, TensorInfo};

use super::Parameter;
use super::index::{listing, weight_files};
use super::number::Format;
use crate::Error;

/// The tensors of a folder, or of one file.
#[derive(Debug)]
pub(crate) struct Source {
    files: Vec<MappedFile>,
    /// Where each tensor is: the place of its file, and its description.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
    /// The file to name where a tensor is missing.
    listing: PathBuf,
}

impl Source {
    /// Opens the weights of a model's folder.
    ///
    /// # Errors
    /// Names the file that is missing or malformed, or the tensor that stands in two of them.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        Self::of(&weight_files(folder)?, listing(folder))
    }

    /// Opens one file.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub(crate) fn open_file(path: &Path) -> Result<Self, Error> {
        Self::of(&[path.to_owned()], path.to_owned())
    }

    fn of(paths: &[PathBuf], listing: PathBuf) -> Result<Self, Error> {
        let mut source = Self { files: Vec::new(), tensors: BTreeMap::new(), listing };
        for path in paths {
            let (file, infos) = MappedFile::open(path)?;
            for (name, info) in infos {
                if source.tensors.insert(name.clone(), (source.files.len(), info)).is_some() {
                    return Err(Error::DuplicateTensor { path: path.clone(), name });
                }
            }
            source.files.push(file);
        }
        Ok(source)
    }

    /// Lists all tensors, in the order of their names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, (_, info))| (name.as_str(), info))
    }

    /// Returns what the files say of a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, info)| info)
    }

    /// Returns the stored bytes of a tensor.
    ///
    /// # Errors
    /// Fails when there is no such tensor.
    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8], Error> {
        let (file, info) = self.find(name)?;
        Ok(file.data(info))
    }

    /// Reads the numbers of a tensor.
    ///
    /// # Errors
    /// As [`Source::bytes`], and on a format other than F32, F16 and BF16.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let (file, info) = self.find(name)?;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        file.format(name, info)?.append(file.data(info), &mut values);
        Ok(values)
    }

    /// Sees that the tensors are those of a list, in shapes and formats that can be read, and that there are no others,
    /// but for those that say nothing new.
    ///
    /// # Errors
    /// Names the first tensor that is missing, unexpected, or has another shape or format.
    pub(crate) fn check(
        &self,
        layout: &[Parameter],
        is_redundant: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let mut known = BTreeSet::new();
        for parameter in layout {
            for (name, rows) in &parameter.parts {
                let (file, info) = self.find(name)?;
                let expected = parameter.file_shape(*rows);
                if info.shape != expected {
                    let (path, name, found) = (file.path.clone(), name.clone(), info.shape.clone());
                    return Err(Error::TensorShape { path, name, found, expected });
                }
                file.format(name, info)?;
                known.insert(name.as_str());
            }
        }
        let unexpected =
            self.tensors.iter().find(|(name, _)| !known.contains(name.as_str()) && !is_redundant(name));
        match unexpected {
            Some((name, (file, _))) => {
                Err(Error::UnexpectedTensor { path: self.files[*file].path.clone(), name: name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Reads the numbers of the parameters of a list, after [`Source::check`].
    ///
    /// # Errors
    /// Names the first tensor that is missing or has another format.
    pub(crate) fn read(&self, layout: &[Parameter]) -> Result<Vec<Vec<f32>>, Error> {
        let read = |parameter: &Parameter| {
            let mut values = Vec::with_capacity(parameter.shape[0] * parameter.shape[1]);
            for (name, _) in &parameter.parts {
                let (file, info) = self.find(name)?;
                file.format(name, info)?.append(file.data(info), &mut values);
            }
            Ok(values)
        };
        layout.par_iter().map(read).collect()
    }

    /// Hashes the files as `blake3:<hex>`: the one file, or the hashes of several in the order of their names.
    pub(crate) fn hash(&self) -> String {
        let hashes: Vec<blake3::Hash> = self.files.par_iter().map(MappedFile::hash).collect();
        let hash = match hashes.as_slice() {
            [one] => *one,
            many => {
                let mut hasher = blake3::Hasher::new();
                many.iter().for_each(|hash| {
                    hasher.update(hash.as_bytes());
                });
                hasher.finalize()
            }
        };
        format!("blake3:{}", hash.to_hex())
    }

    fn find(&self, name: &str) -> Result<(&MappedFile, &TensorInfo), Error> {
        match self.tensors.get(name) {
            Some((file, info)) => Ok((&self.files[*file], info)),
            None => Err(Error::MissingTensor { path: self.listing.clone(), name: name.to_owned() }),
        }
    }
}

/// A file in memory that the system reads as it is needed.
#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    bytes: Mmap,
    /// The first byte of the data.
    start: usize,
}

impl MappedFile {
    /// Maps a file and reads its header.
    fn open(path: &Path) -> Result<(Self, Vec<(String, TensorInfo)>), Error> {
        let file = fs_err::File::open(path)?;
        #[expect(
            unsafe_code,
            reason = "mapping a file is unsafe, as another process may change it meanwhile"
        )]
        // SAFETY: the map is read as bytes, of which every pattern is valid, and only until the weights are copied
        // out of it. Whoever changes a weight file while it is read gets the numbers that they wrote; whoever cuts it
        // off ends this process, not its memory safety.
        let bytes = unsafe { Mmap::map(file.file()) }?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        let infos = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok((Self { path: path.to_owned(), bytes, start: size_of::<u64>() + header }, infos))
    }

    /// The bytes of a tensor; reading the header has shown that they are there.
    fn data(&self, info: &TensorInfo) -> &[u8] {
        let (begin, end) = info.data_offsets;
        &self.bytes[self.start + begin..self.start + end]
    }

    fn format(&self, name: &str, info: &TensorInfo) -> Result<Format, Error> {
        Format::of(info.dtype).ok_or_else(|| Error::TensorFormat {
            path: self.path.clone(),
            name: name.to_owned(),
            found: format!("{:?}", info.dtype),
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(&self.bytes);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::Dtype;
    use serde_json::json;

    use super::*;
    use crate::files::WEIGHTS_INDEX;
    use crate::weights::{Planned, Sink};

    #[test]
    fn weights_in_several_files_are_read_as_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, name: &str, value: f32| {
            let planned = [Planned { name: name.to_owned(), dtype: Dtype::F32, shape: vec![1] }];
            let mut sink = Sink::create(&folder.path().join(file), &planned).expect("begins");
            sink.write(&value.to_le_bytes()).expect("writes");
            sink.finish().expect("ends");
        };
        let refused = |expected: &str| {
            let error = Source::open(folder.path()).expect_err(expected).to_string();
            assert!(error.ends_with(expected), "{error}");
        };
        write("model-1.safetensors", "a", 1.0);
        write("model-2.safetensors", "b", 2.0);
        let index = json!({ "weight_map": { "a": "model-1.safetensors", "b": "model-2.safetensors" } });
        nexa_core::files::write_json(&folder.path().join(WEIGHTS_INDEX), &index).expect("writes");
        let source = Source::open(folder.path()).expect("opens");
        assert_eq!(source.values("a").expect("reads"), [1.0]);
        assert_eq!(source.values("b").expect("reads"), [2.0]);
        let missing = source.values("c").expect_err("is absent").to_string();
        assert!(missing.ends_with("model.safetensors.index.json: tensor `c` is missing"), "{missing}");
        write("model-2.safetensors", "a", 2.0);
        refused("model-2.safetensors: tensor `a` stands in an earlier file already");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.safetensors");
        let planned = [Planned { name: "a".to_owned(), dtype: Dtype::F32, shape: vec![2] }];
        let mut sink = Sink::create(&path, &planned).expect("begins");
        sink.write(&[0; 8]).expect("writes");
        sink.finish().expect("ends");
        let whole = std::fs::read(&path).expect("reads");
        let mut long = whole.clone();
        long.push(0);
        let mut stated = whole.clone();
        stated[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for bytes in [&whole[..whole.len() - 1], &whole[..4], &long, &stated, b""] {
            std::fs::write(&path, bytes).expect("writes");
            let error = Source::open_file(&path).expect_err("is damaged").to_string();
            assert!(error.contains("t.safetensors"), "{error}");
        }
    }
}
