//! Which files of a folder hold weights: one, or several with an index that says which tensor is in which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nexa_core::Error as CoreError;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::files::{WEIGHTS, WEIGHTS_INDEX};

/// The index of a model in several files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub(super) metadata: IndexMetadata,
    /// The file of every tensor.
    pub(super) weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexMetadata {
    /// Bytes of all numbers.
    #[serde(default)]
    pub(super) total_size: u64,
}

/// Reads which files an index names.
///
/// # Errors
/// Fails where the index is malformed or names anything but files beside it.
pub(crate) fn shard_names(path: &Path) -> Result<BTreeSet<String>, Error> {
    let text = fs_err::read_to_string(path)?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    // An index comes from elsewhere; it must not lead out of its folder.
    match names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        Some(name) => Err(CoreError::malformed(path, format!("`{name}` is no name of a file")).into()),
        None => Ok(names),
    }
}

/// The file of a folder that says which tensors there are. `transformers` prefers the single file, too.
pub(super) fn listing(folder: &Path) -> PathBuf {
    let (single, index) = (folder.join(WEIGHTS), folder.join(WEIGHTS_INDEX));
    if !single.exists() && index.exists() { index } else { single }
}

/// The weight files of a folder, in the order of their names.
///
/// # Errors
/// As [`shard_names`].
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listing = listing(folder);
    if !listing.ends_with(WEIGHTS_INDEX) {
        return Ok(vec![listing]);
    }
    Ok(shard_names(&listing)?.iter().map(|name| folder.join(name)).collect())
}
