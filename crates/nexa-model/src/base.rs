//! The model that another one is made of: how it is known again, and what is taken over from it.

use std::path::Path;

use serde_json::{Map, Value};

use crate::checkpoint::load_generation;
use crate::{Error, weights_hash};

/// A model that training or merging goes on from.
#[derive(Debug, Clone)]
pub struct Base {
    name: String,
    weights_hash: String,
    generation: Option<Map<String, Value>>,
}

impl Base {
    /// Describes the model of a folder, which is called by the folder's full path.
    ///
    /// # Errors
    /// Names the file that is missing or malformed.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            name: fs_err::canonicalize(folder)?.display().to_string(),
            weights_hash: weights_hash(folder)?,
            generation: load_generation(folder)?,
        })
    }

    /// Calls it by another name, such as that of a repository.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// What it is called, for other programs that are to find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What [`weights_hash`] says of it.
    pub fn weights_hash(&self) -> &str {
        &self.weights_hash
    }

    /// The content of its `generation_config.json`, where there is one.
    pub(crate) fn generation(&self) -> Option<&Map<String, Value>> {
        self.generation.as_ref()
    }
}
