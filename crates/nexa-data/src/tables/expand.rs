//! Which files a path, a folder or a pattern names.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use nexa_core::{Error, Result, files};

use super::{Format, Texts};

/// What makes a path a pattern.
pub(crate) const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// How patterns match: `*` stays in a folder and passes over hidden files, `**` goes down.
pub(crate) const GLOB_OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Expands a path to the tables that it names, in the order of their names. A folder stands for all tables below it, and
/// for texts where they are asked for.
///
/// # Errors
/// Fails when nothing is there, when what is there holds no table, or on a malformed pattern.
pub(crate) fn expand(base: &Path, pattern: &str, with_texts: bool) -> Result<Vec<PathBuf>> {
    let path = base.join(pattern);
    if path.is_file() {
        return Ok(vec![path]);
    }
    let is_glob = pattern.contains(GLOB_CHARACTERS);
    let found = if path.is_dir() {
        let below = files::walk(&path)?;
        below
            .into_iter()
            .filter(|relative| !is_hidden(relative))
            .map(|relative| path.join(relative))
            .collect()
    } else if is_glob {
        glob_files(base, pattern)?
    } else {
        return Err(Error::NotFound {
            what: "file",
            name: path.display().to_string(),
            hint: Some("a path is absolute, or relative to the lab's folder".to_owned()),
        });
    };
    // A pattern that ends like a text means texts.
    let with_texts = with_texts || is_glob && is_text(Path::new(pattern));
    let (tables, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|path| Format::of(path).is_ok() || with_texts && is_text(path));
    if tables.is_empty() {
        let has_texts = others.iter().any(|path| is_text(path));
        return Err(no_tables(&path.display().to_string(), has_texts));
    }
    Ok(tables)
}

fn is_text(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| Texts::split(name).is_some())
}

/// Says that a place holds no tables, though perhaps texts.
pub(crate) fn no_tables(place: &str, has_texts: bool) -> Error {
    let known = Format::ALL.map(|format| format!(".{}", format.extension())).join(", ");
    let hint = if has_texts {
        "there are texts: `texts=documents` takes each as a row, `texts=lines` each of their lines".to_owned()
    } else {
        format!("a table's name ends in one of {known}, a text's in .txt or .md")
    };
    Error::NotFound { what: "tables in", name: place.to_owned(), hint: Some(hint) }
}

/// Says that a pattern cannot be used.
pub(crate) fn bad_pattern(pattern: &str, error: &glob::PatternError) -> Error {
    Error::BadName { what: "pattern", name: pattern.to_owned(), message: error.to_string() }
}

fn glob_files(base: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let whole = if Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        let base = base.to_str().ok_or_else(|| Error::malformed(base, "the name is not UTF-8"))?;
        format!("{}/{pattern}", Pattern::escape(base))
    };
    let mut found = Vec::new();
    for entry in glob::glob_with(&whole, GLOB_OPTIONS).map_err(|e| bad_pattern(pattern, &e))? {
        let path = entry.map_err(unlisted)?;
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn unlisted(error: glob::GlobError) -> Error {
    let path = error.path().to_owned();
    Error::io("list", path, error.into())
}

fn is_hidden(relative: &Path) -> bool {
    relative.iter().any(|part| part.as_encoded_bytes().starts_with(b"."))
}
