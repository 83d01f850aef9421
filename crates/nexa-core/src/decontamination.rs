//! What an artifact says of the evaluation sets that its rows were held against, so that packaging can ask for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Kind, Store};
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

/// The hashes of the evaluation sets that every row of an artifact was held against: by the artifact itself, or on each of
/// the ways on which its rows came. What rows were only read beside, a teacher's checkpoint or a judge's verdicts, says
/// nothing of them.
///
/// # Errors
/// Fails on a malformed manifest or summary. What is no longer in the lab was held against nothing.
pub fn checked_sets(store: &Store<'_>, artifact: &Artifact) -> Result<BTreeSet<ContentHash>> {
    checked(store, artifact, &mut BTreeMap::new())
}

fn checked(
    store: &Store<'_>,
    artifact: &Artifact,
    known: &mut BTreeMap<String, BTreeSet<ContentHash>>,
) -> Result<BTreeSet<ContentHash>> {
    let id = artifact.id().to_string();
    if let Some(hashes) = known.get(&id) {
        return Ok(hashes.clone());
    }
    let mut on_every_way: Option<BTreeSet<ContentHash>> = None;
    for parent in artifact.manifest.parents.iter().filter(|parent| parent.role != EVALUATION_ROLE) {
        if parent.is_file() {
            // Rows that come from a file beside others were held against nothing there.
            continue;
        }
        let hashes = match store.get(&parent.id.parse()?) {
            Ok(found) if !gives_rows(found.manifest.kind) => continue,
            Ok(found) => checked(store, &found, known)?,
            Err(Error::NotFound { .. }) => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        on_every_way = Some(match on_every_way {
            None => hashes,
            Some(others) => others.intersection(&hashes).cloned().collect(),
        });
    }
    let mut hashes = on_every_way.unwrap_or_default();
    hashes.extend(own(artifact)?);
    known.insert(id, hashes.clone());
    Ok(hashes)
}

/// The role of what rows are held against.
const EVALUATION_ROLE: &str = "evaluation";

/// Whether the rows of what is made of an artifact can be its rows.
fn gives_rows(kind: Kind) -> bool {
    matches!(kind, Kind::Raw | Kind::Dataset | Kind::TeacherInputs | Kind::TeacherOutputs | Kind::Filtered)
}

/// What the stage that made an artifact held its rows against.
fn own(artifact: &Artifact) -> Result<impl Iterator<Item = ContentHash>> {
    let sets: Vec<CheckedSet> = match artifact.manifest.summary.get(SUMMARY_KEY) {
        None => Vec::new(),
        Some(value) => serde_json::from_value(value.clone()).map_err(|e| {
            Error::malformed(artifact.manifest_path(), format!("summary `{SUMMARY_KEY}`: {e}"))
        })?,
    };
    Ok(sets.into_iter().map(|set| set.hash))
}
