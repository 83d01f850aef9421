//! Edits a text in the editor of the user. The file outlives a kill: the next edit of the row goes on with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nexa_core::files;
use nexa_core::hash::ContentHash;

/// Where the text of a row lies while it is edited.
fn place(folder: &Path, row_id: &str) -> PathBuf {
    folder.join(format!("{}.txt", ContentHash::of_bytes(row_id.as_bytes()).short()))
}

/// Opens the editor on a text, or on what an earlier one left, and returns what it became.
///
/// # Errors
/// Fails when the file cannot be written or read, or the editor cannot be run; what was typed is kept.
pub(super) fn edit(folder: &Path, row_id: &str, text: &str) -> Result<String> {
    let path = place(folder, row_id);
    if !path.exists() {
        files::write_atomic(&path, text.as_bytes())?;
    }
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().context("the name of the editor is not empty")?;
    let status = Command::new(program)
        .args(words)
        .arg(&path)
        .status()
        .with_context(|| format!("run the editor `{editor}` (set VISUAL or EDITOR)"))?;
    if !status.success() {
        bail!("the editor `{editor}` failed; the text is kept in {}", path.display());
    }
    let edited = files::read_text(&path)?;
    // Editors end a file with a new line, whatever the text ended with.
    let edited = if text.ends_with('\n') { edited.as_str() } else { edited.trim_end_matches('\n') };
    Ok(edited.to_owned())
}

/// Removes the file of a row, whose text is decided.
///
/// # Errors
/// Fails when it is there and cannot be removed.
pub(super) fn forget(folder: &Path, row_id: &str) -> nexa_core::Result<()> {
    files::remove(&place(folder, row_id))
}
