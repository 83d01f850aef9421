//! Reading GGUF files, versions 2 and 3.
//!
//! The header is read through a window that knows the size of the file: no length that a file states is believed
//! beyond the bytes that are left, so a damaged file costs no memory and is an error with its place. Tensors are read
//! one by one with ordinary reads: a file that shrinks meanwhile is an error too, where a mapping would end the process.
//!
//! # Source
//! `docs/gguf.md` of ggml.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::metadata::{Metadata, Value};
use super::tensor_type::TensorType;

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin at multiples of, unless the file says otherwise.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// The versions that are read. Version 1 had 32-bit lengths and was current for a few days.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// How deep lists may stand in lists.
const MAX_DEPTH: usize = 4;
/// How many values all lists may hold together: some ten times those of the largest vocabularies with their merges.
const MAX_LISTED: u64 = 1 << 24;
/// Dimensions of a tensor (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;
/// What a pair takes at least: the length of its key, its type, one byte.
const LEAST_PAIR: u64 = 8 + 4 + 1;
/// What the description of a tensor takes at least: name, number of dimensions, one of them, type, place.
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// A GGUF file whose header has been read and checked.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

/// What a file says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Rows before columns, as elsewhere; the file itself has them the other way round.
    pub shape: Vec<usize>,
    /// The format of its numbers.
    pub format: TensorType,
    /// The first byte, in the file.
    start: u64,
    /// Bytes.
    size: usize,
}

impl TensorInfo {
    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Opens a file and checks all that its header says against the file's size.
    ///
    /// # Errors
    /// Names the byte, key or tensor that is wrong.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |e| nexa_core::Error::io("read", path, e);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut header =
            Header { path, reader: BufReader::with_capacity(1 << 16, &file), at: 0, size, listed: 0 };
        let (version, metadata, infos) = header.read()?;
        let alignment = alignment(&metadata)?;
        let space = Space { data: header.at.next_multiple_of(alignment), alignment, size };
        let mut names = BTreeSet::new();
        let mut tensors = Vec::with_capacity(infos.len());
        for info in infos {
            if !names.insert(info.name.clone()) {
                return Err(Error::tensor(path, info.name, "stands twice in the header"));
            }
            tensors.push(space.place(path, info)?);
        }
        Ok(Self { path: path.to_owned(), file, version, metadata, tensors })
    }

    /// Which file it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of a name, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|info| info.name == name)
    }

    /// Reads the stored bytes of a tensor.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub(super) fn bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; info.size];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(info.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| nexa_core::Error::io("read", &self.path, e))?;
        Ok(bytes)
    }

    /// Reads the numbers of a tensor, row by row.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn values(&self, info: &TensorInfo) -> Result<Vec<f32>, Error> {
        Ok(info.format.decode(&self.bytes(info)?))
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    match metadata.size(ALIGNMENT_KEY)? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(stated) if stated.is_power_of_two() && (8..=1 << 20).contains(&stated) => Ok(stated as u64),
        Some(stated) => {
            Err(metadata.fail(ALIGNMENT_KEY, format!("is {stated}, no power of two from 8 to 2^20")))
        }
    }
}

/// A tensor as the header has it.
struct RawInfo {
    name: String,
    dimensions: Vec<u64>,
    type_id: u32,
    offset: u64,
}

/// Where the numbers of a file stand, in bytes.
struct Space {
    /// The first one.
    data: u64,
    alignment: u64,
    /// Those of the whole file.
    size: u64,
}

impl Space {
    /// Checks a tensor's format, shape and place.
    fn place(&self, path: &Path, info: RawInfo) -> Result<TensorInfo, Error> {
        let &Self { data, alignment, size } = self;
        let RawInfo { name, dimensions, type_id, offset } = info;
        let fail = |problem: String| Error::tensor(path, name.clone(), problem);
        let Some(format) = TensorType::from_id(type_id) else {
            return Err(fail(format!("has type {type_id}, which is not read")));
        };
        let columns = dimensions[0];
        let block = format.block_len() as u64;
        if !columns.is_multiple_of(block) {
            return Err(fail(format!(
                "has {columns} columns, no multiple of the {block} of a {} block",
                format.name()
            )));
        }
        let bytes = dimensions
            .iter()
            .try_fold(1_u64, |count, &dimension| count.checked_mul(dimension))
            .and_then(|count| (count / block).checked_mul(format.block_bytes() as u64))
            .filter(|&bytes| bytes > 0);
        let end = bytes.and_then(|bytes| data.checked_add(offset)?.checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(fail(format!("has the impossible shape {dimensions:?} at {offset}")));
        };
        if !offset.is_multiple_of(alignment) {
            return Err(fail(format!("begins at {offset}, no multiple of the alignment {alignment}")));
        }
        if end > size {
            return Err(fail(format!("ends at byte {end}, but the file has {size}")));
        }
        let length = |value: u64| usize::try_from(value).map_err(|_| fail(format!("is too large: {value}")));
        let shape = dimensions.iter().rev().map(|&dimension| length(dimension)).collect::<Result<_, _>>()?;
        let size = length(bytes)?;
        Ok(TensorInfo { shape, format, start: data + offset, size, name })
    }
}

/// The head of a file, read from its beginning.
struct Header<'a> {
    path: &'a Path,
    reader: BufReader<&'a File>,
    at: u64,
    size: u64,
    /// Values of lists so far.
    listed: u64,
}

impl Header<'_> {
    fn read(&mut self) -> Result<(u32, Metadata, Vec<RawInfo>), Error> {
        let magic: [u8; 4] = self.array("the magic number")?;
        if magic != MAGIC {
            return Err(self.fail(0, "this is no GGUF file: it does not begin with `GGUF`"));
        }
        let version = self.u32("the version")?;
        if !VERSIONS.contains(&version) {
            let problem = if VERSIONS.contains(&version.swap_bytes()) {
                "the file is big-endian, which is not read".to_owned()
            } else {
                format!("version {version} is not read, only {} to {}", VERSIONS.start(), VERSIONS.end())
            };
            return Err(self.fail(4, problem));
        }
        let tensors = self.count("the number of tensors", LEAST_TENSOR)?;
        let pairs = self.count("the number of metadata pairs", LEAST_PAIR)?;
        let mut metadata = Metadata::new(self.path);
        let mut keys = BTreeSet::new();
        for _ in 0..pairs {
            let start = self.at;
            let key = self.string("a metadata key")?;
            let value_type = self.u32("the type of a metadata value")?;
            let value = self.value(value_type, 0)?;
            if !keys.insert(key.clone()) {
                return Err(self.fail(start, format!("the metadata key `{key}` stands twice")));
            }
            metadata.put(key, value);
        }
        let infos = (0..tensors).map(|_| self.tensor()).collect::<Result<_, _>>()?;
        Ok((version, metadata, infos))
    }

    fn tensor(&mut self) -> Result<RawInfo, Error> {
        let name = self.string("the name of a tensor")?;
        let start = self.at;
        let dimensions = self.u32("the dimensions of a tensor")?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            let problem = format!("tensor `{name}` has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}");
            return Err(self.fail(start, problem));
        }
        let dimensions =
            (0..dimensions).map(|_| self.u64("the shape of a tensor")).collect::<Result<_, _>>()?;
        let type_id = self.u32("the type of a tensor")?;
        let offset = self.u64("the place of a tensor")?;
        Ok(RawInfo { name, dimensions, type_id, offset })
    }

    fn value(&mut self, type_id: u32, depth: usize) -> Result<Value, Error> {
        let start = self.at;
        let what = "a metadata value";
        Ok(match type_id {
            0 => Value::U8(u8::from_le_bytes(self.array(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(what)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => match self.array(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.fail(start, format!("{other} is no truth value"))),
            },
            8 => Value::String(self.string(what)?),
            9 if depth == MAX_DEPTH => {
                return Err(self.fail(start, format!("lists stand in lists more than {MAX_DEPTH} deep")));
            }
            9 => {
                let element = self.u32("the type of a list")?;
                let length = self.count("the length of a list", 1)?;
                self.listed += length;
                if self.listed > MAX_LISTED {
                    let problem = format!("the lists of the metadata hold more than {MAX_LISTED} values");
                    return Err(self.fail(start, problem));
                }
                let values = (0..length).map(|_| self.value(element, depth + 1)).collect::<Result<_, _>>()?;
                Value::Array(values)
            }
            10 => Value::U64(u64::from_le_bytes(self.array(what)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            other => return Err(self.fail(start, format!("{other} is no type of a metadata value"))),
        })
    }

    fn string(&mut self, what: &str) -> Result<String, Error> {
        let start = self.at;
        let length = self.count(what, 1)?;
        // A length that fits in the file fits in memory on any machine that this runs on.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| self.fail(start, format!("{what} is not UTF-8")))
    }

    /// Reads a number of things that take at least `least` bytes each; as many must be left.
    fn count(&mut self, what: &str, least: u64) -> Result<u64, Error> {
        let start = self.at;
        let count = self.u64(what)?;
        let left = self.size - self.at;
        if count > left / least {
            let problem = format!("the file ends inside {what}: {count} is stated, {left} bytes are left");
            return Err(self.fail(start, problem));
        }
        Ok(count)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), Error> {
        let length = bytes.len() as u64;
        if length > self.size - self.at {
            return Err(self.fail(self.at, format!("the file ends inside {what}")));
        }
        self.reader.read_exact(bytes).map_err(|e| nexa_core::Error::io("read", self.path, e))?;
        self.at += length;
        Ok(())
    }

    fn fail(&self, at: u64, problem: impl Into<String>) -> Error {
        Error::Bytes { path: self.path.to_owned(), at, problem: problem.into() }
    }
}
