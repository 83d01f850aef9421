//! What an artifact says of the evaluation sets that its rows were held against, so that packaging can ask for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Store};
use crate::columns;
use crate::hash::ContentHash;
use crate::{Error, Result};

/// The fact under which a manifest's summary lists [`CheckedSet`]s.
pub const SUMMARY_KEY: &str = "decontaminated_against";

/// The columns of a question where none are named: the first that is there.
pub const QUESTION_COLUMNS: [&str; 9] = [
    "question",
    "prompt",
    columns::USER_PROMPT,
    "instruction",
    "problem",
    "input",
    "sentence_good",
    "sentence",
    "text",
];

/// Questions that models are judged by, and that none may therefore be trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSet {
    /// The file, absolute or relative to the lab.
    pub path: String,
    /// The columns of the question, one below the other. Default: the first known one.
    #[serde(default)]
    pub question: Vec<String>,
    /// The columns of the answer. Default: the first known one, where there is one.
    #[serde(default)]
    pub answer: Vec<String>,
}

/// An evaluation set that rows were held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedSet {
    /// The name of its file, or what it was for the stage.
    pub name: String,
    /// The hash of the file, or of the artifact.
    pub hash: ContentHash,
    /// Its items.
    pub items: u64,
    /// Those of them that are too short to be looked for.
    pub too_short: u64,
}

/// The hashes of the evaluation sets that an artifact or anything that it descends from was held against.
///
/// # Errors
/// Fails on a malformed manifest or summary. What is no longer in the lab is passed over.
pub fn checked_sets(store: &Store<'_>, artifact: &Artifact) -> Result<BTreeSet<ContentHash>> {
    let mut hashes = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![artifact.clone()];
    while let Some(artifact) = open.pop() {
        if let Some(value) = artifact.manifest.summary.get(SUMMARY_KEY) {
            let sets: Vec<CheckedSet> = serde_json::from_value(value.clone()).map_err(|e| {
                Error::malformed(artifact.manifest_path(), format!("summary `{SUMMARY_KEY}`: {e}"))
            })?;
            hashes.extend(sets.into_iter().map(|set| set.hash));
        }
        for parent in &artifact.manifest.parents {
            if parent.id.starts_with("file:") || !seen.insert(parent.id.clone()) {
                continue;
            }
            match store.get(&parent.id.parse()?) {
                Ok(found) => open.push(found),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(hashes)
}
