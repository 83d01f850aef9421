//! Prompts from files that hold nothing but texts, and templates that are files: `*_enhanced.json` and `*.txt`.
//!
//! `{"texts": ["…", …], "generated_at": "…"}`; what stands before `_enhanced` in the name is the domain.

use std::path::{Path, PathBuf};

use nexa_core::table::Row;
use nexa_core::{Error, columns, files};
use serde::Deserialize;
use serde_json::json;

use super::TemplateConfig;
use crate::Result;

/// The column of a text.
pub(super) const TEXT: &str = "text";
/// How the names of files with texts end.
const ENDING: &str = "_enhanced.json";

#[derive(Deserialize)]
struct Texts {
    texts: Vec<String>,
    #[serde(default)]
    generated_at: Option<String>,
}

/// The files that are meant: those named, and in folders those whose name says that they hold texts, sorted.
pub(super) fn sources(named: &[PathBuf], root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in named {
        let path = root.join(path);
        if path.is_dir() {
            let mut inside = with_ending(&path, ENDING)?;
            if inside.is_empty() {
                return Err(Error::malformed(&path, format!("no file here ends in `{ENDING}`")).into());
            }
            found.append(&mut inside);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// The files of a folder whose names end so, sorted.
pub(super) fn with_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("list", folder, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads the texts of files as rows.
pub(super) fn rows(sources: &[PathBuf], root: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in sources {
        let Texts { texts, generated_at } = files::read_json(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let domain = name.strip_suffix(ENDING).unwrap_or(&name);
        let place = path.strip_prefix(root).unwrap_or(path).display().to_string();
        for (position, text) in texts.into_iter().enumerate() {
            rows.push(Row::from_iter([
                (columns::ID.to_owned(), json!(format!("{domain}-{:06}", position + 1))),
                (TEXT.to_owned(), json!(text)),
                (columns::DOMAIN.to_owned(), json!(domain)),
                (columns::SOURCE_FILE.to_owned(), json!(place)),
                (columns::GENERATED_AT.to_owned(), json!(generated_at)),
            ]));
        }
    }
    Ok(rows)
}

/// Reads the templates of a folder, each named for its file.
pub(super) fn templates(folder: &Path) -> Result<Vec<TemplateConfig>> {
    let found = with_ending(folder, ".txt")?;
    if found.is_empty() {
        return Err(Error::malformed(folder, "no file here ends in `.txt`").into());
    }
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = files::read_text(path)?.trim_end().to_owned();
        // A template that names no place for the text is an instruction, which the text follows.
        let text = if text.contains('{') { text } else { format!("{text}\n\n{{prompt}}") };
        Ok(TemplateConfig { name, text })
    };
    found.iter().map(read).collect()
}
