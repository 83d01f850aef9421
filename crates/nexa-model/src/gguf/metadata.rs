//! The typed key-value pairs at the head of a GGUF file.

use std::path::{Path, PathBuf};

use super::error::Error;

/// A value of any type that the format knows.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8 bits.
    U8(u8),
    /// A signed integer of 8 bits.
    I8(i8),
    /// An unsigned integer of 16 bits.
    U16(u16),
    /// A signed integer of 16 bits.
    I16(i16),
    /// An unsigned integer of 32 bits.
    U32(u32),
    /// A signed integer of 32 bits.
    I32(i32),
    /// Single precision.
    F32(f32),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8.
    String(String),
    /// Values of one type.
    Array(Vec<Value>),
    /// An unsigned integer of 64 bits.
    U64(u64),
    /// A signed integer of 64 bits.
    I64(i64),
    /// Double precision.
    F64(f64),
}

impl Value {
    /// The number that stands for the type in files.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    fn unsigned(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// A number as its author wrote it: single precision goes by its shortest decimal, so that 1e-5 stays 1e-5.
    fn number(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => value.to_string().parse().ok(),
            Self::F64(value) => Some(value),
            _ => self.unsigned().map(|value| value as f64),
        }
    }
}

/// The pairs of a file, in its order.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    path: PathBuf,
    pairs: Vec<(String, Value)>,
}

impl Metadata {
    /// No pairs yet; the path is for messages.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), pairs: Vec::new() }
    }

    /// Adds a pair.
    pub(super) fn put(&mut self, key: impl Into<String>, value: Value) {
        self.pairs.push((key.into(), value));
    }

    /// The pairs, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key, if the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Which file the pairs are of.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The error that a key is missing or cannot be honoured.
    pub(super) fn fail(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::key(&self.path, key, problem)
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", Value::number)
    }

    /// An unsigned number; of a list with one entry for each layer, the one that all entries are.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "one unsigned number", |value| match value {
            Value::Array(values) => {
                let first = values.first()?.unsigned()?;
                values.iter().all(|value| value.unsigned() == Some(first)).then_some(first)
            }
            one => one.unsigned(),
        })?
        .map(|value| usize::try_from(value).map_err(|_| self.fail(key, format!("is {value}, too large"))))
        .transpose()
    }

    pub(super) fn id(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "a token id", |value| value.unsigned()?.try_into().ok())
    }

    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<&str>>, Error> {
        self.list(key, "texts", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, Error> {
        self.list(key, "numbers", Value::number)
    }

    /// Unwraps what a file must have.
    pub(super) fn require<T>(&self, key: &str, found: Option<T>) -> Result<T, Error> {
        found.ok_or_else(|| self.fail(key, "is missing"))
    }

    fn list<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        self.typed(key, &format!("a list of {wanted}"), |value| match value {
            Value::Array(values) => values.iter().map(&read).collect(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.fail(key, format!("is not {wanted}")))
    }
}
