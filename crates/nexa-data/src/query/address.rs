//! Where the bytes of a table lie: files of this machine, objects of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore};

use crate::Result;
use crate::tables::Format;

/// One file or object.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// What messages call it.
    pub(super) shown: String,
    pub(super) format: Format,
    pub(super) place: Place,
}

/// Where one file or object lies.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the file system.
    File(PathBuf),
    /// In a bucket.
    Object { store: Arc<dyn ObjectStore>, bucket: ObjectStoreUrl, meta: ObjectMeta },
}

impl Address {
    /// The address of a file.
    ///
    /// # Errors
    /// Fails when the name does not end like a table's.
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        let format = Format::of(path)?;
        Ok(Self { shown: path.display().to_string(), format, place: Place::File(path.to_owned()) })
    }

    /// The URL by which DataFusion knows it.
    pub(super) fn url(&self) -> String {
        match &self.place {
            Place::File(path) => format!("file://{}", percent_encoded(&path.display().to_string())),
            Place::Object { bucket, meta, .. } => {
                format!("{}{}", bucket.as_str(), percent_encoded(meta.location.as_ref()))
            }
        }
    }

    /// The key of an object; of a file, what stands for it in the store of files.
    pub(super) fn key(&self) -> Key {
        match &self.place {
            Place::File(path) => Key::from_absolute_path(path).unwrap_or_default(),
            Place::Object { meta, .. } => meta.location.clone(),
        }
    }
}

/// Encodes all but slashes and what is plain in a URL.
fn percent_encoded(path: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Text takes everything.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
