//! What the words behind FROM mean.
//!
//! | written | means |
//! |---|---|
//! | `teacher_outputs` | the newest version of that name in the project of the query, else the newest of that kind |
//! | `teacher_outputs_v1` | that version |
//! | `"teacher_outputs@v1"`, `"sft_dataset:prod"` | that version, as other commands name it, and the one with a tag |
//! | `tutor.teacher_outputs_v1` | of another project |
//! | `filtered_v1.rejected`, `tutor.filtered_v1.rejected` | another table of the artifact |
//! | `'rows/*.jsonl'`, `'s3://bucket/key.parquet'` | files |

use std::path::PathBuf;

use datafusion::common::TableReference;
use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::lab::Lab;
use nexa_core::{Error, config};

use crate::Result;
use crate::catalog::table_path;
use crate::tables::Format;

/// What stands behind a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A table of an artifact.
    Table(PathBuf),
    /// A path, a folder or a pattern, perhaps of an object store.
    Files(String),
}

/// The names of a lab, as seen from one of its projects.
pub(super) struct Names<'a> {
    pub(super) lab: &'a Lab,
    pub(super) project: &'a str,
}

impl Names<'_> {
    /// Finds what a name in a statement means.
    ///
    /// # Errors
    /// Fails when nothing has that name, with the nearest that there is.
    pub(super) fn find(&self, reference: &TableReference) -> Result<Named> {
        match reference {
            TableReference::Bare { table } if is_path(table) => Ok(Named::Files(table.to_string())),
            TableReference::Bare { table } => self.table(self.project, table, None),
            TableReference::Partial { schema, table } => {
                let of_artifact = || self.table(self.project, schema, Some(table));
                if self.is_project(schema)? {
                    // A name that is both a project and an artifact is mostly the project.
                    return self.table(schema, table, None).or_else(|error| of_artifact().map_err(|_| error));
                }
                match of_artifact() {
                    Err(crate::Error::Core(Error::NotFound { what: "table", name, .. }))
                        if name == format!("{}.{schema}", self.project) =>
                    {
                        Err(self.absent_project(schema)?)
                    }
                    found => found,
                }
            }
            TableReference::Full { catalog, schema, table } => self.table(catalog, schema, Some(table)),
        }
    }

    fn is_project(&self, name: &str) -> Result<bool> {
        Ok(self.lab.projects()?.iter().any(|project| project == name))
    }

    fn table(&self, project: &str, name: &str, part: Option<&str>) -> Result<Named> {
        let artifact = self.artifact(project, name)?;
        let Some(part) = part else { return Ok(Named::Table(table_path(&artifact, None)?)) };
        let parts: Vec<(&str, &str)> = artifact
            .manifest
            .files
            .iter()
            .filter_map(|file| Some((Format::split(&file.name)?.0, file.name.as_str())))
            .collect();
        match parts.iter().find(|(stem, _)| *stem == part) {
            Some((_, file)) => Ok(Named::Table(artifact.file(file)?)),
            None => {
                let known: Vec<&str> =
                    parts.iter().map(|(stem, _)| *stem).filter(|stem| !stem.is_empty()).collect();
                let hint = match known.as_slice() {
                    [] => format!("it holds one table: `{}`", artifact.id().stem()),
                    known => format!("it holds: {}", known.join(", ")),
                };
                Err(not_found("table", format!("{part} of {}", artifact.id()), hint))
            }
        }
    }

    /// Finds the newest artifact of a name, or one of its versions.
    pub(super) fn artifact(&self, project: &str, text: &str) -> Result<Artifact> {
        if text.contains(['@', ':']) {
            return Ok(Store::new(self.lab).resolve(project, text)?);
        }
        let scan = Store::new(self.lab).scan()?;
        // Where a manifest cannot be read, what it is the manifest of cannot be told to be absent.
        let unreadable = scan.problems.into_iter().find(|problem| {
            let name = problem.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let stem = name.split('.').next().unwrap_or_default();
            let is_named = stem == text || split_version(stem).is_some_and(|(name, _)| name == text);
            is_named
                && Kind::ALL
                    .iter()
                    .any(|kind| problem.path.parent() == Some(&self.lab.root().join(kind.folder(project))))
        });
        if let Some(problem) = unreadable {
            return Err(problem.error.into());
        }
        let own: Vec<Artifact> =
            scan.found.into_iter().filter(|artifact| artifact.id().project == project).collect();
        let find = |name: &str, version: Option<u32>| {
            let mut found = own.iter().filter(|artifact| artifact.id().name == name);
            match version {
                Some(version) => found.find(|artifact| artifact.id().version == version),
                None => found.max_by_key(|artifact| artifact.id().version),
            }
        };
        if let Some(artifact) = find(text, None) {
            return Ok(artifact.clone());
        }
        let (name, version) = match split_version(text) {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let name = name_of_kind(&own, name).unwrap_or_else(|| name.to_owned());
        match find(&name, version) {
            Some(artifact) => Ok(artifact.clone()),
            None => Err(self.absent(&own, (project, text), &name)?),
        }
    }

    fn absent(&self, own: &[Artifact], (project, text): (&str, &str), name: &str) -> Result<crate::Error> {
        let versions: Vec<String> = own
            .iter()
            .filter(|artifact| artifact.id().name == name)
            .map(|artifact| format!("v{}", artifact.id().version))
            .collect();
        if !versions.is_empty() {
            let hint = format!("there are: {}", versions.join(", "));
            return Ok(not_found("version", format!("{project}/{text}"), hint));
        }
        if !self.is_project(project)? {
            return self.absent_project(project);
        }
        let known = own_names(own, project);
        let projects = self.lab.projects()?;
        let hint = match config::nearest(text, known.iter().map(String::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if known.is_empty() => match projects.len() {
                1 => format!("project {project} holds nothing yet; a file is named in quotes: 'rows.jsonl'"),
                _ => format!("project {project} holds nothing yet; there are: {}", projects.join(", ")),
            },
            None => format!(
                "project {project} holds: {}; a file is named in quotes: 'rows.jsonl'",
                known.join(", ")
            ),
        };
        Ok(not_found("table", format!("{project}.{text}"), hint))
    }

    /// Answers for a word that is neither a project nor an artifact of the query's own.
    fn absent_project(&self, word: &str) -> Result<crate::Error> {
        let known = self.lab.projects()?;
        let names = own_names(&Store::new(self.lab).scan()?.found, self.project);
        let hint = match config::nearest(word, known.iter().chain(&names).map(String::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there are: {}", known.join(", ")),
        };
        Ok(not_found("project", word.to_owned(), hint))
    }
}

fn own_names(artifacts: &[Artifact], project: &str) -> Vec<String> {
    let own = artifacts
        .iter()
        .filter(|artifact| artifact.id().project == project && !artifact.manifest.kind.is_folder());
    let mut names: Vec<String> = own.map(|artifact| artifact.id().name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The name that artifacts of a kind have which is called `word`: its own word, else that of the newest of them.
fn name_of_kind(own: &[Artifact], word: &str) -> Option<String> {
    if own.iter().any(|artifact| artifact.id().name == word) {
        return None;
    }
    let of_kind = own.iter().filter(|artifact| artifact.manifest.kind.as_str() == word);
    of_kind.max_by_key(|artifact| artifact.manifest.created_at).map(|artifact| artifact.id().name.clone())
}

fn split_version(text: &str) -> Option<(&str, u32)> {
    let (name, version) = text.rsplit_once("_v")?;
    Some((name, version.parse().ok()?))
}

/// Whether a name is that of files: names of artifacts have neither slashes nor dots.
fn is_path(name: &str) -> bool {
    name.contains(['/', '\\', '*', '.'])
}

fn not_found(what: &'static str, name: String, hint: String) -> crate::Error {
    Error::NotFound { what, name, hint: Some(hint) }.into()
}
