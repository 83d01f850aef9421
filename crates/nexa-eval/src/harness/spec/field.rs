//! What a key such as `doc_to_text` holds.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A column or template, or a value that is the same for every document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Field {
    /// An index among the choices.
    Index(i64),
    /// The name of a column where there is one, else a template.
    Text(String),
    /// A list; the values of a mapping count as one.
    List(Vec<Value>),
}

impl Default for Field {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(items) => Ok(Self::List(items)),
            Value::Object(map) => Ok(Self::List(map.into_iter().map(|(_, value)| value).collect())),
            Value::Bool(value) => Ok(Self::Index(i64::from(value))),
            Value::Number(number) => match number.as_i64() {
                Some(index) => Ok(Self::Index(index)),
                None => Err(serde::de::Error::custom(format!("{number} is no index"))),
            },
        }
    }
}
