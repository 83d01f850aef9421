//! What models said, kept over runs: `.nexa/cache/evaluation/<model>/<run>.jsonl`.
//!
//! A model is known by everything that decides what it says: the content of its checkpoint, with weights, tokenizer and
//! template, the format and the device that it computes in, and the version of this program. Every run writes a file of
//! its own, so that two of them cannot stand in each other's way. The folder can be deleted at any time.

use std::collections::HashMap;
use std::path::PathBuf;

use nexa_core::files::{self, LineLog};
use nexa_core::hash::ContentHash;
use nexa_core::lm::ModelInfo;
use nexa_core::stage::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;

/// Raised whenever the same request would get another answer than before, or more is kept of it.
const VERSION: u32 = 2;

/// A line: a request by its key, and what came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<S> {
    pub(super) key: String,
    pub(super) sample: S,
}

/// The cache of one model.
pub(super) struct Cache {
    known: HashMap<String, Value>,
    path: PathBuf,
    log: Option<LineLog>,
}

impl Cache {
    /// Reads what earlier runs asked the model.
    pub(super) fn open(context: &Context<'_>, checkpoint: &ContentHash, info: &ModelInfo) -> Result<Self> {
        let model = ContentHash::of_json(&json!({
            "version": VERSION, "nexa": env!("CARGO_PKG_VERSION"), "checkpoint": checkpoint,
            "weights": info.weights_hash, "format": info.format, "device": info.device,
        }));
        let name = model.as_str().trim_start_matches("blake3:");
        let folder = context.services.lab.state_folder().join("cache/evaluation").join(name);
        let run = context.workspace.file_name().unwrap_or_default();
        let path = folder.join(run).with_extension("jsonl");
        let mut known = HashMap::new();
        let earlier = if folder.is_dir() { files::walk(&folder)? } else { Vec::new() };
        for file in earlier {
            let lines = files::read_lines::<Line<Value>>(&folder.join(file))?;
            known.extend(lines.into_iter().map(|line| (line.key, line.sample)));
        }
        Ok(Self { known, path, log: None })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.known.get(key)
    }

    pub(super) fn keep(&mut self, key: &str, sample: &Value) -> Result<()> {
        let log = match &mut self.log {
            Some(log) => log,
            closed => closed.insert(LineLog::open(&self.path)?),
        };
        Ok(log.append(&Line { key: key.to_owned(), sample })?)
    }
}
