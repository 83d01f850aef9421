//! What people write for one version of a name: `sft@v2`, `sft:prod`, `sft:latest`, with the project before it if need be.

use std::fmt;

use crate::lab::check_name;
use crate::{Error, Result};

/// The word for the newest version of a name, which no tag can be.
pub const LATEST: &str = "latest";

/// A version of a name, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The project, where it was named.
    pub(super) project: Option<String>,
    /// The name that all versions share.
    pub(super) name: String,
    /// Which of them.
    pub(super) version: Wanted,
}

/// Which version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This one.
    Version(u32),
    /// The newest.
    Latest,
    /// The one that has the tag.
    Tag(String),
}

impl Reference {
    /// Takes a reference apart. What is not of its form may be a path, and is nothing here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (named, version) = text.rsplit_once(['@', ':'])?;
        let (project, name) = match named.split_once('/') {
            Some((project, name)) => (Some(project), name),
            None => (None, named),
        };
        check_name("project", project.unwrap_or("p")).ok()?;
        check_name("artifact", name).ok()?;
        let version = match version.strip_prefix('v').and_then(|digits| digits.parse().ok()) {
            Some(version) => Wanted::Version(version),
            None if version == LATEST => Wanted::Latest,
            None if version.is_empty() || version.contains('/') => return None,
            None => Wanted::Tag(version.to_owned()),
        };
        Some(Self { project: project.map(str::to_owned), name: name.to_owned(), version })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(project) = &self.project {
            write!(f, "{project}/")?;
        }
        match &self.version {
            Wanted::Version(version) => write!(f, "{}@v{version}", self.name),
            Wanted::Latest => write!(f, "{}:{LATEST}", self.name),
            Wanted::Tag(tag) => write!(f, "{}:{tag}", self.name),
        }
    }
}

/// Checks a word that is to be a tag.
///
/// # Errors
/// Fails where it could be taken for a version, and where it is not of the form `[a-z][a-z0-9_.-]*`.
pub(super) fn check_tag(tag: &str) -> Result<()> {
    let bad = |message: &str| {
        Err(Error::BadName { what: "tag", name: tag.to_owned(), message: message.to_owned() })
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if tag == LATEST {
        return bad("the newest version of a name has this tag by itself");
    }
    if is_digits(tag.strip_prefix('v').unwrap_or(tag)) {
        return bad("it looks like a version");
    }
    let fits = tag.starts_with(|first: char| first.is_ascii_lowercase())
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte));
    if fits {
        return Ok(());
    }
    bad("only lowercase letters, digits, `_`, `-` and `.` are allowed, and a letter first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_version_in_either_spelling() {
        let check = |text: &str, expected: Option<&str>| {
            let found = Reference::parse(text).map(|reference| reference.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("sft@v2", Some("sft@v2"));
        check("sft:v2", Some("sft@v2"));
        check("sft:prod", Some("sft:prod"));
        check("tutor/sft@prod", Some("tutor/sft:prod"));
        check("sft@latest", Some("sft:latest"));
        check("sft", None);
        check("sft_v2", None);
        check("sft:", None);
        check("a/b/sft:prod", None);
        check("hf:org/name", None);
        check("./sft:prod", None);
    }

    #[test]
    fn a_tag_is_a_word_that_is_no_version() {
        let check = |tag: &str, expected: Option<&str>| {
            let problem = check_tag(tag).err().map(|error| error.to_string());
            match (problem, expected) {
                (None, None) => {}
                (Some(problem), Some(expected)) => assert!(problem.contains(expected), "{problem}"),
                (found, _) => panic!("{tag}: {found:?}"),
            }
        };
        check("prod", None);
        check("release-1.2", None);
        check("vnext", None);
        check("latest", Some("by itself"));
        check("v3", Some("looks like a version"));
        check("3", Some("looks like a version"));
        check("Prod", Some("only lowercase"));
        check("a/b", Some("only lowercase"));
        check("", Some("only lowercase"));
    }
}
