//! Content hashes: BLAKE3, written `blake3:<64 hex digits>`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The BLAKE3 hash of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(String);

impl ContentHash {
    /// Hashes bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from(blake3::hash(bytes))
    }

    /// Hashes a file in one pass.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
        hasher.update_reader(file).map_err(|e| Error::io("read", path, e))?;
        Ok(Self::from(hasher.finalize()))
    }

    /// Hashes a value by its canonical JSON: keys sorted, no spaces.
    pub fn of_json(value: &serde_json::Value) -> Self {
        let mut text = String::new();
        write_canonical(value, &mut text);
        Self::of_bytes(text.as_bytes())
    }

    /// The hash as it stands in files.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> &str {
        let digits = self.0.strip_prefix("blake3:").unwrap_or(&self.0);
        &digits[..digits.len().min(8)]
    }
}

impl From<blake3::Hash> for ContentHash {
    fn from(hash: blake3::Hash) -> Self {
        Self(format!("blake3:{}", hash.to_hex()))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn write_canonical(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (position, key) in keys.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let one = serde_json::json!({"a": 1, "b": {"c": [1.5, null], "d": "x"}});
        let other = serde_json::json!({"b": {"d": "x", "c": [1.5, null]}, "a": 1});
        assert_eq!(ContentHash::of_json(&one), ContentHash::of_json(&other));
        assert_ne!(ContentHash::of_json(&one), ContentHash::of_json(&serde_json::json!({"a": 1})));
    }

    #[test]
    fn the_empty_hash_is_the_published_one() {
        assert_eq!(
            ContentHash::of_bytes(b"").as_str(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }
}
