//! Which files are read, and what they are called in the data set.

use std::path::{Path, PathBuf};

use nexa_core::Error;
use nexa_core::artifact::Artifact;

use super::{NAME, RAW_ROLE};
use crate::Result;
use crate::tables::{self, Format, Records, Texts};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What its rows say that they come from: the name alone, the same on every machine.
    pub(crate) name: String,
    /// The name without the ending, with which ids begin.
    pub(crate) stem: String,
    /// What its rows are, where it is no table.
    texts: Option<Texts>,
}

impl Source {
    /// A file by its own name; `texts` says what the rows of a text are.
    ///
    /// # Errors
    /// Fails with the path when the name is not that of a table or a text.
    pub(crate) fn at(path: PathBuf, texts: Option<Texts>) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some((name, (stem, _))) = name.and_then(|name| Some((name, Texts::split(name)?))) {
            let texts = Some(texts.unwrap_or_default());
            return Ok(Self { name: name.to_owned(), stem: stem.to_owned(), path, texts });
        }
        Format::of(&path)?;
        let (name, (stem, _)) = name
            .and_then(|name| Some((name, Format::split(name)?)))
            .ok_or_else(|| Error::malformed(&path, "the name is not UTF-8"))?;
        Ok(Self { name: name.to_owned(), stem: stem.to_owned(), path, texts: None })
    }

    /// Opens it row by row.
    pub(crate) fn open(&self) -> Result<Records> {
        Ok(match self.texts {
            Some(texts) => texts.open(&self.path)?,
            None => Records::open(&self.path)?,
        })
    }
}

/// Expands files, folders and globs, each in the order of names; a file that is named twice is read once.
pub(super) fn expand(base: &Path, patterns: &[String], texts: Option<Texts>) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for pattern in patterns {
        for path in tables::expand(base, pattern, texts.is_some())? {
            if !sources.iter().any(|source| source.path == path) {
                sources.push(Source::at(path, texts)?);
            }
        }
    }
    Ok(sources)
}

/// Refuses two files from whose names the same ids would be made.
pub(super) fn check_distinct(sources: &[Source]) -> Result<()> {
    for (index, source) in sources.iter().enumerate() {
        if let Some(other) = sources[..index].iter().find(|other| other.stem == source.stem) {
            let message = format!(
                "`{}` and `{}` have the same stem, so their rows would have the same ids; rename one, or set `id_column`",
                other.path.display(),
                source.path.display()
            );
            return Err(Error::config(NAME, message).into());
        }
    }
    Ok(())
}

/// The tables of an artifact, named by what the key of the work covers: neither its name nor its version.
pub(crate) fn of_artifact(artifact: &Artifact) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in &artifact.manifest.files {
        let Some((stem, _)) = Format::split(&file.name) else { continue };
        let (name, stem) = if stem.is_empty() {
            (format!("{RAW_ROLE}.{}", file.name), RAW_ROLE)
        } else {
            (file.name.clone(), stem)
        };
        sources.push(Source { path: artifact.file(&file.name)?, name, stem: stem.to_owned(), texts: None });
    }
    if sources.is_empty() {
        let names =
            artifact.manifest.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::NotFound {
            what: "tables in",
            name: artifact.id().to_string(),
            hint: Some(format!("it holds: {names}")),
        }
        .into());
    }
    Ok(sources)
}
