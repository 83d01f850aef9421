//! Writing GGUF files, version 3: the header first, then one tensor after the other.

use std::path::Path;

use nexa_core::files::AtomicFile;

use super::blocks::encode;
use super::error::Error;
use super::metadata::{Metadata, Value};
use super::reader::{DEFAULT_ALIGNMENT, MAGIC};
use super::tensor_type::TensorType;

const VERSION: u32 = 3;

/// The format that most weights of a written file have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// Half precision.
    F16,
    /// 8 bits, with a scale for 32 weights.
    Q8_0,
}

impl FileType {
    /// The number for `general.file_type` (`enum llama_ftype` of llama.cpp).
    pub(super) fn id(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }

    /// The format of one tensor: norms and biases stay in single precision, and rows that are no whole blocks in half.
    pub(super) fn of_tensor(self, shape: &[usize]) -> TensorType {
        match (self, shape) {
            (_, [_]) => TensorType::F32,
            (Self::Q8_0, [.., columns]) if columns.is_multiple_of(TensorType::Q8_0.block_len()) => {
                TensorType::Q8_0
            }
            _ => TensorType::F16,
        }
    }
}

/// A tensor that is going to be written.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Rows before columns.
    pub(super) shape: Vec<usize>,
    pub(super) format: TensorType,
}

impl Planned {
    fn size(&self) -> u64 {
        let blocks = self.shape.iter().product::<usize>() / self.format.block_len();
        (blocks * self.format.block_bytes()) as u64
    }
}

/// A file under way. Dropped before [`Writer::finish`], it leaves nothing.
#[derive(Debug)]
pub(super) struct Writer {
    file: AtomicFile,
    planned: std::vec::IntoIter<Planned>,
    path: std::path::PathBuf,
}

impl Writer {
    /// Begins a file: writes the metadata and what the tensors are going to be.
    pub(super) fn create(path: &Path, metadata: &Metadata, tensors: Vec<Planned>) -> Result<Self, Error> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.iter().len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            push_string(&mut header, key);
            header.extend(value.type_id().to_le_bytes());
            push_value(&mut header, value);
        }
        let mut offset = 0_u64;
        for tensor in &tensors {
            push_string(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dimension in tensor.shape.iter().rev() {
                header.extend((dimension as u64).to_le_bytes());
            }
            header.extend(tensor.format.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.size().next_multiple_of(DEFAULT_ALIGNMENT);
        }
        pad(&mut header);
        let mut file = AtomicFile::create(path)?;
        file.append(&header)?;
        Ok(Self { file, planned: tensors.into_iter(), path: path.to_owned() })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// Names the tensor when one of its numbers does not exist in the format.
    ///
    /// # Panics
    /// Panics when the numbers are not as many as planned.
    pub(super) fn write(&mut self, values: &[f32]) -> Result<(), Error> {
        let tensor = self.planned.next().expect("no more tensors are written than were planned");
        let largest = match tensor.format {
            TensorType::F16 => half::f16::MAX.to_f32(),
            // The scale, a 127th of the largest weight, is a half.
            TensorType::Q8_0 => half::f16::MAX.to_f32() * 127.0,
            _ => f32::MAX,
        };
        if let Some(value) = values.iter().find(|value| value.is_nan() || value.abs() > largest) {
            let problem = format!("holds {value}, which {} cannot express", tensor.format.name());
            return Err(Error::tensor(&self.path, tensor.name, problem));
        }
        let mut bytes = match tensor.format {
            TensorType::F16 => encode::f16(values),
            TensorType::Q8_0 => encode::q8_0(values),
            _ => encode::f32(values),
        };
        assert_eq!(bytes.len() as u64, tensor.size(), "{} has the planned size", tensor.name);
        pad(&mut bytes);
        Ok(self.file.append(&bytes)?)
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        assert!(self.planned.next().is_none(), "all planned tensors are written");
        Ok(self.file.commit()?)
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(value) => bytes.extend(value.to_le_bytes()),
        Value::I8(value) => bytes.extend(value.to_le_bytes()),
        Value::U16(value) => bytes.extend(value.to_le_bytes()),
        Value::I16(value) => bytes.extend(value.to_le_bytes()),
        Value::U32(value) => bytes.extend(value.to_le_bytes()),
        Value::I32(value) => bytes.extend(value.to_le_bytes()),
        Value::F32(value) => bytes.extend(value.to_le_bytes()),
        Value::Bool(value) => bytes.push((*value).into()),
        Value::String(text) => push_string(bytes, text),
        Value::Array(values) => {
            // An empty list is one of texts: nothing that is written has another kind of list that can be empty.
            let element = values.first().map_or(Value::String(String::new()).type_id(), Value::type_id);
            bytes.extend(element.to_le_bytes());
            bytes.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| push_value(bytes, value));
        }
        Value::U64(value) => bytes.extend(value.to_le_bytes()),
        Value::I64(value) => bytes.extend(value.to_le_bytes()),
        Value::F64(value) => bytes.extend(value.to_le_bytes()),
    }
}
