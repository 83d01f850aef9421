//! The newest two states of a run on disk: `state/step-<N>.safetensors`.
//!
//! A new state is written beside the old ones, so that a whole one is there at every moment; and where the newest
//! turns out to be damaged, the one before it is gone on with.

use std::path::{Path, PathBuf};

use nexa_core::event::{Event, EventSink};
use nexa_core::files;

use super::State;
use super::file::{self, Stored};
use crate::Error;

/// The folder of the states, in the workspace.
const FOLDER: &str = "state";
/// States that are kept.
const KEPT: usize = 2;

/// Writes a state and removes those that are no longer needed.
pub(crate) fn save(workspace: &Path, state: &State) -> Result<(), Error> {
    let folder = workspace.join(FOLDER);
    files::create_folder(&folder)?;
    state.save(&folder.join(file_name(state.progress.step)))?;
    let kept: Vec<PathBuf> = paths(workspace)?.into_iter().take(KEPT).collect();
    for name in files::walk(&folder)? {
        let path = folder.join(name);
        if !kept.contains(&path) {
            files::remove(&path)?;
        }
    }
    Ok(())
}

/// Reads the newest state that is whole; `None` where there is none yet.
///
/// # Errors
/// Fails when there are states and none is whole.
pub(crate) fn newest(workspace: &Path, events: &dyn EventSink) -> Result<Option<Stored>, Error> {
    let mut failures = Vec::new();
    for path in paths(workspace)? {
        match file::read(&path) {
            Ok(stored) => {
                for failure in failures {
                    let text = format!("{failure}; going on with {}", stored.path.display());
                    events.emit(Event::warning(text));
                }
                return Ok(Some(stored));
            }
            Err(error) => failures.push(error),
        }
    }
    failures.into_iter().next().map_or(Ok(None), Err)
}

/// The states on disk, newest first. What a kill left half-written has another name and is not among them.
pub(crate) fn paths(workspace: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = workspace.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(u64, PathBuf)> = files::walk(&folder)?
        .into_iter()
        .filter_map(|name| {
            let step = name.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((step, folder.join(name)))
        })
        .collect();
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn file_name(step: u64) -> String {
    format!("step-{step}.safetensors")
}
